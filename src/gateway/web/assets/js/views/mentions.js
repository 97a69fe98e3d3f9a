// The list of members that opens when a word begins with @. The field keeps the focus.

import { avatar, el } from './dom.js';

const SHOWN = 6;
/** What stands before the caret: an @ at the beginning or after a space, and the word so far. */
const BEGUN = /(?:^|\s)@([\p{L}\p{N}_.-]{0,32})$/u;

export class MentionList {
  /** `candidates(words)` are the users that fit; `pick(user)` is called once the name stands in the field. */
  constructor({ input, candidates, pick }) {
    Object.assign(this, { input, candidates, pick });
    this.users = [];
    this.at = 0;
    this.element = el('ul', { class: 'mentions', role: 'listbox', id: 'mention-list', 'aria-label': 'Members', hidden: true });
    input.setAttribute('aria-controls', 'mention-list');
    input.setAttribute('aria-autocomplete', 'list');
  }

  review() {
    const before = this.input.value.slice(0, this.input.selectionStart);
    const begun = before.match(BEGUN);
    if (!begun) return this.hide();
    this.from = before.length - begun[1].length;
    this.users = this.candidates(begun[1].toLowerCase()).slice(0, SHOWN);
    this.at = 0;
    return this.render();
  }

  render() {
    this.element.hidden = this.users.length === 0;
    this.element.replaceChildren(...this.users.map((user, index) =>
      el('li', {
        role: 'option', id: `mention-${index}`, 'aria-selected': String(index === this.at), class: 'result',
        onpointerdown: (event) => {
          event.preventDefault(); // The field would lose the focus.
          this.take(user);
        },
      }, avatar(user.display_name || user.username, user.user_id, 'direct'), el('span', {}, user.display_name || user.username, el('span', { class: 'hint' }, ` @${user.username}`)))));
    if (this.users.length > 0) this.input.setAttribute('aria-activedescendant', `mention-${this.at}`);
  }

  hide() {
    this.users = [];
    this.element.hidden = true;
    this.input.removeAttribute('aria-activedescendant');
  }

  /** Takes the keys that are meant for the list; whether it did. */
  keyDown(event) {
    if (this.users.length === 0) return false;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      this.at = (this.at + step + this.users.length) % this.users.length;
      this.render();
    } else if (event.key === 'Enter' || event.key === 'Tab') this.take(this.users[this.at]);
    else if (event.key === 'Escape') {
      this.hide();
      event.stopPropagation();
    } else return false;
    event.preventDefault();
    return true;
  }

  take(user) {
    const { value, selectionStart } = this.input;
    const head = `${value.slice(0, this.from)}${user.username} `;
    this.input.value = head + value.slice(selectionStart);
    this.input.setSelectionRange(head.length, head.length);
    this.hide();
    this.pick(user);
  }
}
