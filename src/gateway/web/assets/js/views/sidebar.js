// The left column: who and where one is, what can be begun, and the conversations.

import { listTime, summary, titleOf } from '../format.js';
import { avatar, el, reconcile } from './dom.js';

export class Sidebar {
  /** `actions`: `open(id)`, `newChat()`, `newGroup()`, `joinGroup()`, `signOut()`, `reconnect()`. */
  constructor({ store, users, actions }) {
    Object.assign(this, { store, users, actions });
    this.me = el('span', { class: 'me' });
    this.dot = el('span', { class: 'dot', 'aria-hidden': 'true' });
    this.statusText = el('span', {});
    this.statusButton = el('button', { type: 'button', class: 'link', hidden: true, onclick: () => actions.reconnect() });
    this.status = el('p', { class: 'status', role: 'status' }, this.dot, this.statusText, this.statusButton);
    this.list = el('ul', { class: 'conversations' });
    this.empty = el('p', { class: 'empty' });
    this.element = el(
      'nav', { class: 'sidebar', 'aria-label': 'Conversations' },
      el('header', { class: 'bar' },
        el('div', { class: 'bar-title' }, el('h1', { class: 'wordmark' }, 'Rookery'), this.me),
        el('button', { type: 'button', class: 'quiet', onclick: () => actions.signOut() }, 'Sign out')),
      this.status,
      el('div', { class: 'begin' },
        el('button', { type: 'button', onclick: () => actions.newChat() }, 'New chat'),
        el('button', { type: 'button', onclick: () => actions.newGroup() }, 'New group'),
        el('button', { type: 'button', onclick: () => actions.joinGroup() }, 'Join')),
      this.list, this.empty,
    );
  }

  setMe(name) {
    this.me.textContent = name;
  }

  setState({ phase, node, retryAtMs }) {
    const seconds = Math.max(1, Math.ceil((retryAtMs - Date.now()) / 1000));
    const words = {
      online: `connected to ${node}`,
      connecting: 'connecting…',
      waiting: `not connected, next try in ${seconds} s`,
      replaced: 'in use in another window',
      stopped: 'not connected',
    };
    this.dot.dataset.phase = phase;
    // A countdown read aloud every second helps nobody.
    this.status.setAttribute('aria-live', phase === 'waiting' ? 'off' : 'polite');
    const text = words[phase] ?? phase;
    if (this.statusText.textContent !== text) this.statusText.textContent = text;
    this.statusButton.hidden = phase !== 'waiting' && phase !== 'replaced';
    this.statusButton.textContent = phase === 'replaced' ? 'Use here' : 'Try now';
  }

  render({ openId, synced }) {
    const conversations = this.store.list();
    reconcile(this.list, 'li', conversations.map((conversation) => this.item(conversation, openId)));
    this.empty.hidden = conversations.length > 0;
    this.empty.textContent = synced ? 'No conversations yet. Begin one with “New chat”.' : 'Loading…';
  }

  item(conversation, openId) {
    const { info, pending } = conversation;
    const id = info.conversation_id;
    const title = titleOf(info, this.users);
    const last = pending.at(-1) ?? info.last_message;
    const time = listTime(last?.created_at_ms ?? info.updated_at_ms);
    const preview = this.preview(conversation, last);
    const failed = pending.some((send) => send.state === 'failed');
    const current = id === openId;
    return {
      key: id,
      signature: JSON.stringify([title, time, preview, info.unread, failed, current]),
      fill: (row) => {
        const focused = row.contains(document.activeElement);
        const button = el(
          'button', { type: 'button', class: 'conversation', 'aria-current': current ? 'true' : undefined, onclick: () => this.actions.open(id) },
          avatar(title, info.kind === 'direct' ? info.peer_user_id : id, info.kind),
          el('span', { class: 'conversation-name' }, title),
          el('time', { class: 'conversation-time' }, time),
          el('span', { class: 'conversation-last' },
            el('span', { class: 'conversation-preview' }, preview),
            failed ? el('span', { class: 'badge failed', 'aria-label': 'a message was not sent' }, '!') : null,
            info.unread > 0
              ? el('span', { class: 'badge', 'aria-label': `${info.unread} unread` }, info.unread > 999 ? '999+' : String(info.unread))
              : null),
        );
        row.replaceChildren(button);
        if (focused) button.focus({ preventScroll: true });
      },
    };
  }

  preview({ info }, last) {
    if (!last) return info.kind === 'group' ? info.description : '';
    const own = last.sender_id === undefined || last.sender_id === this.store.userId;
    const text = summary(last).replaceAll(/\s+/g, ' ').slice(0, 120);
    if (last.kind === 'system') return `${this.users.name(last.sender_id)} ${text}`;
    if (own) return `You: ${text}`;
    return info.kind === 'group' ? `${this.users.name(last.sender_id)}: ${text}` : text;
  }
}
