// The page of contacts: who asks, who is one, who was asked.

import { presenceText } from '../format.js';
import { avatar, el, iconButton, reconcile } from './dom.js';

export class ContactsPage {
  constructor(parts, actions) {
    Object.assign(this, parts, { actions });
    this.sections = [
      ['invited', 'Asking to be contacts'], ['friend', 'Contacts'], ['requested', 'Asked, no answer yet'], ['blocked', 'Blocked'],
    ].map(([state, title]) => ({ state, heading: el('h3', {}, title), rows: el('ul', { class: 'members' }) }));
    this.empty = el('p', { class: 'empty' }, 'No contacts yet. Contacts find each other at the top, and may be the only ones allowed to write to you: see Privacy in the settings.');
    this.error = el('p', { class: 'form-error', role: 'alert' });
    this.element = el('main', { class: 'page', 'aria-label': 'Contacts', hidden: true },
      el('header', { class: 'bar' },
        iconButton('back', 'Back to the conversations', () => actions.back(), { class: 'icon-button back' }),
        el('h2', {}, 'Contacts'), el('span', { class: 'space' }),
        el('button', { type: 'button', class: 'primary', onclick: () => actions.addContact() }, 'Add a contact')),
      el('div', { class: 'page-body' }, this.error, this.empty, this.sections.map(({ heading, rows }) => [heading, rows])));
  }

  show() {
    this.element.hidden = false;
    this.error.textContent = '';
    this.contacts.load();
    this.render();
    this.element.querySelector('.primary').focus({ preventScroll: true });
  }

  hide() {
    this.element.hidden = true;
  }

  render() {
    if (this.element.hidden) return;
    let shown = 0;
    for (const { state, heading, rows } of this.sections) {
      const contacts = state === 'blocked' ? [...this.contacts.blocked].map((id) => ({ user_id: id, message: '' })) : this.contacts.list(state);
      shown += contacts.length;
      heading.hidden = contacts.length === 0;
      reconcile(rows, 'li', contacts.map((contact) => this.item(state, contact)));
    }
    this.empty.hidden = shown > 0;
  }

  item(state, { user_id: id, message }) {
    const name = this.users.name(id);
    const presence = this.presence.get(id);
    const note = (state === 'invited' || state === 'requested') && message ? message : presenceText(presence) || `@${this.users.get(id)?.username ?? ''}`;
    const button = (label, work, kind = '') => el('button', { type: 'button', class: kind, onclick: () => this.act(work) }, label);
    const controls = {
      invited: () => [button('Accept', () => this.contacts.accept(id), 'primary'), button('Decline', () => this.contacts.decline(id))],
      friend: () => [button('Message', () => this.actions.openUser({ user_id: id }))],
      requested: () => [button('Take back', () => this.contacts.remove(id))],
      blocked: () => [button('Unblock', () => this.contacts.unblock(id))],
    };
    return {
      key: id,
      signature: JSON.stringify([name, note, presence?.status]),
      fill: (row) => row.replaceChildren(
        el('button', { type: 'button', class: 'face', 'aria-label': `Profile of ${name}`, onclick: () => this.actions.person(id) }, avatar(name, id, 'direct', presence?.status)),
        el('span', { class: 'member-name', dir: 'auto' }, name, el('span', { class: 'hint', dir: 'auto' }, note)), ...controls[state]()),
    };
  }

  async act(work) {
    this.error.textContent = '';
    try {
      await work();
    } catch (error) {
      this.error.textContent = error.message;
    }
  }
}
