// The left column: who and where one is, the search, and the conversations.

import { unreadOf, isMuted } from '../conversation.js';
import { listTime, STATUS_WORDS, summary, systemText, titleOf } from '../format.js';
import { avatar, el, iconButton, reconcile } from './dom.js';
import { icon } from './icons.js';
import { openMenu } from './menu.js';
import { SearchPane } from './search.js';

/** So many conversations are drawn; scrolling draws as many more. */
const DRAWN = 100;
/** This near to the end of the list counts as being there. */
const END_PX = 400;

export class Sidebar {
  /** `parts`: store, users, api, presence, typing, drafts, contacts; `actions`: see app.js. */
  constructor(parts, actions) {
    Object.assign(this, parts, { actions });
    this.archived = false;
    this.drawn = DRAWN;
    this.me = el('button', { type: 'button', class: 'me', 'aria-haspopup': 'menu', 'aria-label': 'Your account', onclick: ({ currentTarget }) => this.accountMenu(currentTarget) });
    this.dot = el('span', { class: 'dot', 'aria-hidden': 'true' });
    this.statusText = el('span', {});
    this.statusButton = el('button', { type: 'button', class: 'link', hidden: true, onclick: () => actions.reconnect() });
    this.status = el('p', { class: 'status', role: 'status' }, this.dot, this.statusText, this.statusButton);
    this.contactBadge = el('span', { class: 'badge', hidden: true });
    this.contactsButton = iconButton('group', 'Contacts', () => actions.page('contacts'));
    this.contactsButton.append(this.contactBadge);
    this.list = el('ul', { class: 'conversations', onkeydown: (event) => this.walk(event), oncontextmenu: (event) => this.contextMenu(event) });
    this.list.addEventListener('scroll', () => this.scrolled(), { passive: true });
    this.shelf = el('button', { type: 'button', class: 'shelf', hidden: true, onclick: () => this.turnShelf() });
    this.empty = el('p', { class: 'empty' });
    this.pane = new SearchPane(parts, actions, () => this.showPane());
    this.element = el(
      'nav', { class: 'sidebar', 'aria-label': 'Conversations' },
      el('header', { class: 'bar' },
        this.me, el('span', { class: 'space' }), this.contactsButton,
        iconButton('gear', 'Settings', () => actions.page('settings')),
        iconButton('add', 'New chat, group or contact', ({ currentTarget }) => this.beginMenu(currentTarget), { 'aria-haspopup': 'menu' })),
      this.status, this.pane.field, this.pane.element, this.shelf, this.list, this.empty,
    );
  }

  showPane() {
    const searching = this.pane.active;
    this.list.hidden = searching;
    this.empty.classList.toggle('covered', searching);
    this.shelf.classList.toggle('covered', searching);
  }

  scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.list;
    if (scrollHeight - scrollTop - clientHeight > END_PX || this.list.childElementCount < this.drawn) return;
    this.drawn += DRAWN;
    this.actions.redraw();
  }

  turnShelf() {
    this.archived = !this.archived;
    this.drawn = DRAWN;
    this.actions.redraw();
    this.shelf.focus();
  }

  // ---- Menus ----

  beginMenu(anchor) {
    const { actions } = this;
    openMenu(anchor, [
      { label: 'New chat', icon: 'send', run: () => actions.newChat() },
      { label: 'New group', icon: 'group', run: () => actions.newGroup() },
      { label: 'Join a group', icon: 'link', run: () => actions.joinGroup() },
      { label: 'Add a contact', icon: 'user', run: () => actions.addContact() },
    ], { label: 'Begin' });
  }

  accountMenu(anchor) {
    const { actions } = this;
    const now = this.presence.get(this.store.userId)?.status ?? 'online';
    openMenu(anchor, [
      ...['online', 'away', 'busy', 'invisible'].map((status) => ({
        label: STATUS_WORDS[status][0].toUpperCase() + STATUS_WORDS[status].slice(1), checked: now === status, run: () => actions.setPresence({ status }),
      })),
      { label: 'Status text…', icon: 'edit', run: () => actions.statusText() },
      { label: 'Settings', icon: 'gear', run: () => actions.page('settings') },
      { label: 'Sign out', icon: 'exit', danger: true, run: () => actions.signOut() },
    ], { label: 'Your account' });
  }

  contextMenu(event) {
    const button = event.target.closest('button.conversation');
    const info = this.store.get(Number(button?.dataset.id))?.info;
    if (!info) return;
    event.preventDefault();
    const id = info.conversation_id;
    const { actions } = this;
    const muted = isMuted({ muted_until_ms: info.muted_until_ms }, Date.now());
    openMenu(button, [
      unreadOf(info) > 0
        ? { label: 'Mark as read', icon: 'check', run: () => actions.markRead(id) }
        : { label: 'Mark as unread', icon: 'unread', run: () => actions.markUnread(id) },
      { label: info.pinned ? 'Unpin' : 'Pin to the top', icon: 'pin', run: () => actions.prefer(id, { pinned: !info.pinned }) },
      muted
        ? { label: 'Unmute', icon: 'bell', run: () => actions.prefer(id, { muted_until_ms: 0 }) }
        : { label: 'Mute', icon: 'bellOff', run: () => actions.prefer(id, { muted_until_ms: Number.MAX_SAFE_INTEGER }) },
      { label: info.archived ? 'Take out of the archive' : 'Archive', icon: 'archive', run: () => actions.prefer(id, { archived: !info.archived }) },
      { label: 'Hide until the next message', icon: 'close', run: () => actions.hide(id) },
      info.kind === 'group' ? { label: 'Leave the group', icon: 'exit', danger: true, run: () => actions.leave(id) } : null,
    ], { at: event.clientX || event.clientY ? { x: event.clientX, y: event.clientY } : undefined, label: 'Conversation' });
  }

  // ---- State ----

  setMe(name) {
    const presence = this.presence.get(this.store.userId);
    const shows = JSON.stringify([name, presence?.status, presence?.text]);
    if (this.me.dataset.shows === shows) return;
    this.me.dataset.shows = shows;
    this.me.replaceChildren(
      avatar(name, this.store.userId, 'direct', presence?.status),
      el('span', { class: 'me-text' }, el('b', { dir: 'auto' }, name), el('span', { class: 'hint' }, presence?.text || STATUS_WORDS[presence?.status] || 'Rookery')));
  }

  /** `reachable`: whether the page's own origin answers calls. */
  setState({ phase, node, address, retryAtMs }, reachable) {
    // Messages go on over another node's socket; everything else needs the page of a server that is there.
    const stranded = address && !reachable ? address : '';
    const seconds = Math.max(1, Math.ceil((retryAtMs - Date.now()) / 1000));
    const words = {
      online: stranded ? `connected to ${node}; this page’s own server is away` : `connected to ${node}`,
      connecting: 'connecting…',
      waiting: `not connected, next try in ${seconds} s`,
      replaced: 'in use in another window',
      stopped: 'not connected',
    };
    this.dot.dataset.phase = phase;
    this.status.dataset.phase = phase;
    // A countdown read aloud every second helps nobody.
    this.status.setAttribute('aria-live', phase === 'waiting' ? 'off' : 'polite');
    const text = words[phase] ?? phase;
    if (this.statusText.textContent !== text) this.statusText.textContent = text;
    this.statusButton.hidden = phase !== 'waiting' && phase !== 'replaced' && !stranded;
    const act = stranded ? `Open ${stranded}` : phase === 'replaced' ? 'Use here' : 'Try now';
    if (this.statusButton.textContent !== act) this.statusButton.textContent = act;
  }

  render({ openId, synced }) {
    const put = this.store.shelf({ archived: true });
    if (put.length === 0) this.archived = false;
    const conversations = this.archived ? put : this.store.shelf();
    const unread = put.filter(({ info }) => unreadOf(info) > 0).length;
    const shelf = this.archived ? 'Back to the conversations' : `Archived (${put.length})${unread > 0 ? `, ${unread} unread` : ''}`;
    this.shelf.hidden = put.length === 0;
    if (this.shelf.textContent !== shelf) this.shelf.replaceChildren(icon(this.archived ? 'back' : 'archive'), shelf);
    reconcile(this.list, 'li', conversations.slice(0, this.drawn).map((conversation) => this.item(conversation, openId)));
    this.empty.hidden = conversations.length > 0;
    this.empty.textContent = synced ? 'No conversations yet. Begin one with the + above.' : 'Loading…';
    const invited = this.contacts.list('invited').length;
    this.contactBadge.hidden = invited === 0;
    this.contactBadge.textContent = String(invited);
    this.contactsButton.setAttribute('aria-label', invited > 0 ? `Contacts, ${invited} requests` : 'Contacts');
    this.pane.render();
  }

  item(conversation, openId) {
    const { info, pending } = conversation;
    const id = info.conversation_id;
    const title = titleOf(info, this.users);
    const last = pending.at(-1) ?? info.last_message;
    const time = listTime(last?.created_at_ms ?? info.updated_at_ms);
    const preview = this.preview(conversation, last, id === openId);
    const failed = pending.some((send) => send.state === 'failed');
    const muted = isMuted(info, Date.now());
    const unread = unreadOf(info);
    const current = id === openId;
    const status = info.kind === 'direct' ? this.presence.get(info.peer_user_id)?.status : '';
    return {
      key: id,
      signature: JSON.stringify([title, time, preview, unread, info.unread, failed, current, muted, info.pinned, status]),
      fill: (row) => {
        const focused = row.contains(document.activeElement);
        const button = el(
          'button', { type: 'button', class: 'conversation', 'data-id': String(id), 'aria-current': current ? 'true' : undefined, onclick: () => this.actions.open(id) },
          avatar(title, info.kind === 'direct' ? info.peer_user_id : id, info.kind, status),
          el('span', { class: 'conversation-name', dir: 'auto' }, title),
          el('time', { class: 'conversation-time' }, time),
          el('span', { class: 'conversation-last' },
            el('span', { class: 'conversation-preview', dir: 'auto' }, preview.mark ? el('span', { class: preview.kind }, preview.mark) : null, preview.text),
            muted ? mark('bellOff', 'muted') : null,
            info.pinned ? mark('pin', 'pinned') : null,
            failed ? el('span', { class: 'badge failed', 'aria-label': 'a message was not sent' }, '!') : null,
            unread > 0
              ? el('span', { class: muted ? 'badge still' : 'badge', 'aria-label': info.unread ? `${info.unread} unread` : 'marked as unread' }, info.unread > 999 ? '999+' : String(info.unread || '•'))
              : null),
        );
        row.replaceChildren(button);
        if (focused) button.focus({ preventScroll: true });
      },
    };
  }

  /** One line: who types, what was begun here, or what was said last. */
  preview({ info }, last, isOpen) {
    const id = info.conversation_id;
    const [typist] = this.typing.in(id);
    if (typist) return { kind: 'typing', mark: info.kind === 'group' ? `${this.users.name(typist)} is typing…` : 'typing…', text: '' };
    const draft = isOpen ? '' : this.drafts.get(id).text.trim();
    if (draft) return { kind: 'draft', mark: 'Draft: ', text: oneLine(draft) };
    if (!last) return { kind: '', mark: '', text: info.kind === 'group' ? oneLine(info.description) : '' };
    if (last.kind === 'system') return { kind: '', mark: '', text: oneLine(systemText(last, this.users)) };
    const own = last.sender_id === undefined || last.sender_id === this.store.userId;
    const who = own ? 'You: ' : info.kind === 'group' ? `${this.users.name(last.sender_id)}: ` : '';
    return { kind: '', mark: '', text: who + oneLine(last.marks?.hidden ? '' : summary(last)) };
  }

  // ---- Keys ----

  walk(event) {
    if (event.key !== 'ArrowDown' && event.key !== 'ArrowUp' && event.key !== 'Home' && event.key !== 'End') return;
    const row = event.target.closest('li');
    const to = {
      ArrowDown: row?.nextElementSibling, ArrowUp: row?.previousElementSibling, Home: this.list.firstElementChild, End: this.list.lastElementChild,
    }[event.key];
    event.preventDefault();
    if (to) to.querySelector('button').focus();
    else if (event.key === 'ArrowUp') this.pane.focus();
  }

  focusList(openId) {
    (this.list.querySelector(`[data-id="${openId}"]`) ?? this.list.querySelector('button'))?.focus();
  }

  /** The conversation `step` places below or above `openId` in the list. */
  neighbour(openId, step) {
    const ids = this.store.shelf({ archived: this.archived }).map(({ info }) => info.conversation_id);
    const at = ids.indexOf(openId);
    return ids[at < 0 ? 0 : Math.min(Math.max(at + step, 0), ids.length - 1)] ?? 0;
  }
}

const oneLine = (text) => (text ?? '').replaceAll(/\s+/g, ' ').slice(0, 120);

function mark(name, label) {
  return el('span', { class: 'mark', role: 'img', 'aria-label': label, title: label }, icon(name));
}
