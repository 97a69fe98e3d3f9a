// The right column: the open conversation's header, its messages and the composer.

import { titleOf } from '../format.js';
import { el } from './dom.js';
import { MembersPanel } from './members.js';
import { Timeline } from './timeline.js';

export class ChatView {
  /** `actions`: those of Timeline and MembersPanel, and `back()`, `send(id, text)` (false: not taken). */
  constructor({ store, users, api, actions }) {
    Object.assign(this, { store, users, actions });
    this.id = 0;
    /** What was written and not sent, by conversation. */
    this.drafts = new Map();
    this.timeline = new Timeline({ store, users, actions });
    this.title = el('h2', {});
    this.subtitle = el('p', { class: 'subtitle' });
    this.membersButton = el(
      'button', { type: 'button', class: 'quiet', 'aria-expanded': 'false', onclick: () => this.toggleMembers() }, 'Members',
    );
    const onToggle = (shown) => this.membersButton.setAttribute('aria-expanded', String(shown));
    this.members = new MembersPanel({ store, users, api, actions, onToggle });
    this.text = el('textarea', {
      rows: 1, placeholder: 'Write a message', 'aria-label': 'Message', enterKeyHint: 'send',
      oninput: () => this.fitText(), onkeydown: (event) => this.keyDown(event),
    });
    this.composer = el(
      'form', { class: 'composer', onsubmit: (event) => this.submit(event) },
      this.text, el('button', { type: 'submit', class: 'primary' }, 'Send'),
    );
    this.room = el(
      'section', { class: 'room', 'aria-label': 'Conversation' },
      el('header', { class: 'bar' },
        el('button', { type: 'button', class: 'quiet back', 'aria-label': 'Back to the conversations', onclick: () => actions.back() }, '‹'),
        el('div', { class: 'bar-title' }, this.title, this.subtitle),
        this.membersButton),
      this.timeline.element, this.composer,
    );
    this.nothing = el('section', { class: 'nothing' }, el('p', {}, 'Choose a conversation, or begin one.'));
    this.element = el('main', { class: 'chat' }, this.nothing, this.room, this.members.element);
    this.show(0);
  }

  show(id) {
    if (this.id) this.drafts.set(this.id, this.text.value);
    this.id = id;
    this.nothing.hidden = id !== 0;
    this.room.hidden = id === 0;
    this.members.hide();
    if (!id) return;
    this.text.value = this.drafts.get(id) ?? '';
    this.timeline.show(id);
    this.render();
    this.fitText();
    this.focusText();
  }

  focusText() {
    // On a touch screen the focus would raise the keyboard over the messages.
    if (this.id && !matchMedia('(pointer: coarse)').matches) this.text.focus();
  }

  render() {
    const conversation = this.store.get(this.id);
    if (!conversation) return;
    const { info } = conversation;
    this.title.textContent = titleOf(info, this.users);
    const peer = this.users.get(info.peer_user_id);
    this.subtitle.textContent =
      info.kind === 'direct' ? (peer ? `@${peer.username}` : '') : `${info.member_count} member${info.member_count === 1 ? '' : 's'}`;
    this.membersButton.hidden = info.kind !== 'group';
    this.timeline.render();
    this.members.render();
  }

  toggleMembers() {
    if (this.members.element.hidden) this.members.show(this.id);
    else this.members.hide();
  }

  keyDown(event) {
    // While an input method composes, Enter is its own.
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    this.submit(event);
  }

  submit(event) {
    event.preventDefault();
    const text = this.text.value.trim();
    if (!text || !this.id || !this.actions.send(this.id, text)) return;
    this.text.value = '';
    this.drafts.delete(this.id);
    this.fitText();
    this.timeline.toNewest();
    this.text.focus();
  }

  /** The composer grows with its text, up to what the style sheet allows. */
  fitText() {
    this.text.style.height = 'auto';
    this.text.style.height = `${this.text.scrollHeight + 2}px`;
  }
}
