// The messages of the open conversation, and their scrolling: it sticks to the newest, keeps its place otherwise, and
// asks for older ones near the top, and for newer ones near the end of a place in the past.

import { dayKey, dayLabel, summary, systemText } from '../format.js';
import { tickOf } from '../conversation.js';
import { isAboutAnother, isHidden } from '../targets.js';
import { fillLine, fillMessage, fillPending } from './bubble.js';
import { el, iconButton, reconcile } from './dom.js';

/** This near to an end counts as being there. */
const STICK_PX = 60;
const MORE_PX = 300;
/** Messages of one sender within this time stand together under one name. */
const RUN_MS = 5 * 60_000;
/** Above so many rows, those before the newest half go while the user is at the newest; scrolling up brings them back. */
const ROWS_LIMIT = 600;
/** A message that was jumped to stands out for so long. */
const FLASH_MS = 2_000;

/** What a message's own bubble is drawn from, as text; a changed message is another object. */
const contents = new WeakMap();
function contentOf(message) {
  let content = contents.get(message);
  if (content === undefined) {
    const { seq, text, recalled, edited_at_ms: editedAtMs, reactions = [], attachments = [], marks } = message;
    content = JSON.stringify([seq, text, recalled, editedAtMs, reactions, attachments.length, marks]);
    contents.set(message, content);
  }
  return content;
}

export class Timeline {
  /**
   * `actions`: `older(id)`, `newer(id)`, `toNewest(id)`, `retry(id, clientId)`, `discard(id, clientId)`,
   * `messageMenu(id, message, anchor, at)`, `reactionMenu(id, message, anchor)`, `react(id, message, emoji)`,
   * `reply(id, message)`, `jumpTo(id, seq)`, `person(userId)`.
   */
  constructor({ store, users, actions, isPinned }) {
    Object.assign(this, { store, users, actions, isPinned });
    this.id = 0;
    this.stuck = true;
    /** The first message that was unread when the conversation was opened; 0: none. */
    this.unreadFrom = 0;
    this.rows = el('ol', { class: 'messages' });
    this.start = el('p', { class: 'timeline-start' });
    this.scroller = el(
      'div', {
        class: 'scroller', role: 'log', tabIndex: 0, 'aria-label': 'Messages', 'aria-describedby': 'timeline-keys',
        onkeydown: (event) => this.keyDown(event), oncontextmenu: (event) => this.contextMenu(event), onclick: (event) => this.tapped(event),
      }, this.start, this.rows);
    this.jumpCount = el('span', { class: 'badge', hidden: true });
    this.jump = iconButton('down', 'To the newest message', () => this.actions.toNewest(this.id), { class: 'icon-button jump', hidden: true });
    this.jump.append(this.jumpCount);
    this.element = el('div', { class: 'timeline' },
      el('p', { class: 'sr', id: 'timeline-keys' }, 'Arrows go through the messages, Enter opens a message’s menu.'), this.scroller, this.jump);
    this.scroller.addEventListener('scroll', () => this.scrolled(), { passive: true });
    new ResizeObserver(() => this.stuck && this.toEnd()).observe(this.scroller);
  }

  /** Shows another conversation, from its newest message. */
  show(id) {
    this.id = id;
    this.rows.replaceChildren();
    this.rows.rookeryRows = undefined;
    this.stuck = true;
    const info = this.store.get(id)?.info;
    this.unreadFrom = info && info.unread > 0 ? info.read_seq + 1 : 0;
    this.wanted = 0;
    this.render();
  }

  toEnd() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.stuck = true;
    this.jump.hidden = !this.store.get(this.id)?.excerpt;
  }

  scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    const inPast = Boolean(this.store.get(this.id)?.excerpt);
    this.stuck = !inPast && scrollHeight - scrollTop - clientHeight < STICK_PX;
    this.jump.hidden = this.stuck;
    this.askMore();
  }

  askMore() {
    const conversation = this.store.get(this.id);
    if (!conversation) return;
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    if (!this.store.shown(this.id).atStart && scrollTop < MORE_PX) this.actions.older(this.id);
    if (conversation.excerpt && scrollHeight - scrollTop - clientHeight < MORE_PX) this.actions.newer(this.id);
  }

  /** Brings a message into the middle and lets it stand out, now or as soon as it is drawn. */
  reveal(seq) {
    this.wanted = seq;
    this.render();
  }

  revealWanted() {
    const row = this.wanted && this.rows.querySelector(`[data-seq="${this.wanted}"]`);
    if (!row) return;
    this.wanted = 0;
    this.stuck = false;
    row.scrollIntoView({ block: 'center' });
    row.focus({ preventScroll: true });
    row.classList.add('flash');
    setTimeout(() => row.classList.remove('flash'), FLASH_MS);
    this.scrolled();
  }

  render() {
    const conversation = this.store.get(this.id);
    if (!conversation) return;
    if (this.stuck && !this.wanted && !conversation.excerpt) this.cut(conversation.log);
    const anchor = this.stuck && !this.wanted ? null : this.firstVisible();
    const anchorTop = anchor?.offsetTop ?? 0;
    reconcile(this.rows, 'li', this.items(conversation));
    const log = this.store.shown(this.id);
    this.start.textContent = log.atStart ? 'The beginning of this conversation.' : 'Loading…';
    if (anchor === null && this.stuck) this.toEnd();
    else if (anchor?.isConnected) this.scroller.scrollTop += anchor.offsetTop - anchorTop;
    this.revealWanted();
    const { info } = conversation;
    this.jump.hidden = this.stuck && !conversation.excerpt;
    this.jumpCount.hidden = !conversation.excerpt || info.unread === 0;
    this.jumpCount.textContent = String(info.unread);
    if (log.loaded) this.askMore();
  }

  cut(log) {
    if (this.rows.childElementCount <= ROWS_LIMIT) return;
    const rows = this.rows.querySelectorAll('.row[data-seq]');
    if (rows.length > ROWS_LIMIT) log.dropBefore(Number(rows[rows.length - ROWS_LIMIT / 2].dataset.seq));
  }

  /** The row that must not move while others come and go. */
  firstVisible() {
    const top = this.scroller.scrollTop;
    for (const row of this.rows.children) {
      if (row.offsetTop + row.offsetHeight > top && row.dataset.anchor) return row;
    }
    return null;
  }

  items(conversation) {
    const { pending, excerpt } = conversation;
    const log = excerpt ?? conversation.log;
    const items = [];
    let day = '';
    let before = null;
    let lastSeq = 0;
    let seenUnread = false;
    const line = (key, kind, label) => {
      items.push({ key, signature: label, fill: (row) => fillLine(row, kind, label) });
      before = null;
    };
    const dayOf = (ms) => {
      const key = dayKey(ms);
      if (key !== day) line(`day ${key}`, 'day', dayLabel(ms));
      day = key;
    };
    for (const message of log.list()) {
      if (lastSeq && message.seq > lastSeq + 1 && (lastSeq === log.high || log.holes.has(lastSeq))) {
        line(`gap ${lastSeq}`, 'gap', log.holes.has(lastSeq) ? 'Some messages are missing here' : 'Loading missing messages…');
      }
      lastSeq = message.seq;
      if (isAboutAnother(message) || isHidden(message)) continue;
      dayOf(message.created_at_ms);
      if (this.unreadFrom && message.seq >= this.unreadFrom && !seenUnread) {
        seenUnread = true;
        if (message.sender_id === this.store.userId) this.unreadFrom = 0;
        else line('unread', 'unread', 'New messages');
      }
      items.push(this.messageItem(conversation, log, message, before));
      before = message;
    }
    for (const send of excerpt ? [] : pending) {
      dayOf(send.created_at_ms);
      items.push(this.pendingItem(log, send));
    }
    return items;
  }

  messageItem(conversation, log, message, before) {
    const own = message.sender_id === this.store.userId;
    // An own message keeps the element of its optimistic bubble.
    const key = own && message.client_id ? `own ${message.client_id}` : `seq ${message.seq}`;
    if (message.kind === 'system') {
      const text = systemText(message, this.users);
      const jump = message.target_seq ? () => this.actions.jumpTo(this.id, message.target_seq) : undefined;
      return { key, signature: text, fill: (row) => fillLine(row, 'system', text, message.created_at_ms, jump) };
    }
    const opensRun =
      !before || before.kind === 'system' || before.sender_id !== message.sender_id || message.created_at_ms - before.created_at_ms > RUN_MS;
    const { id, actions } = this;
    const { tick = '', readers = 0 } = own ? tickOf(conversation, message) : {};
    const mentions = this.mentionsOf(message);
    const view = {
      message, own, opensRun, tick, readers, mentions,
      name: !own && opensRun && conversation.info.kind === 'group' ? this.users.name(message.sender_id) : '',
      quote: this.quoteOf(log, message.reply_to_seq),
      isPinned: this.isPinned(id, message.seq),
      isMention: !own && (message.mentions ?? []).some((user) => user === this.store.userId || user === 0),
      userId: this.store.userId,
      nameOf: (userId) => this.users.name(userId),
    };
    const on = {
      menu: (anchor, at) => actions.messageMenu(id, message, anchor, at),
      openReactions: (anchor) => actions.reactionMenu(id, message, anchor),
      react: (emoji) => actions.react(id, message, emoji),
      reply: () => actions.reply(id, message),
      quote: () => actions.jumpTo(id, message.reply_to_seq),
      person: () => actions.person(message.sender_id),
    };
    return {
      key,
      signature: contentOf(message) + JSON.stringify([view.name, tick, readers, view.quote, opensRun, view.isPinned, [...mentions.names]]),
      fill: (row) => {
        fillMessage(row, view, on);
        row.rookeryMenu = on.menu;
      },
    };
  }

  pendingItem(log, send) {
    const { client_id: clientId, text, state, error } = send;
    const quote = this.quoteOf(log, send.reply_to_seq);
    const on = { retry: () => this.actions.retry(this.id, clientId), discard: () => this.actions.discard(this.id, clientId) };
    return { key: `own ${clientId}`, signature: JSON.stringify([text, state, error, quote]), fill: (row) => fillPending(row, send, quote, on) };
  }

  /** What a message answers; older than what is held, it can still be jumped to. */
  quoteOf(log, seq) {
    if (!seq) return null;
    const quoted = log.get(seq) ?? this.store.find(this.id, seq);
    if (!quoted) this.actions.wantQuoted(this.id, seq);
    if (!quoted || isHidden(quoted)) return { name: 'An earlier message', text: '' };
    return { name: quoted.sender_id === this.store.userId ? 'You' : this.users.name(quoted.sender_id), text: summary(quoted).slice(0, 200) };
  }

  mentionsOf(message) {
    const ids = message.mentions ?? [];
    const names = new Set(ids.map((id) => (id === 0 ? 'all' : this.users.get(id)?.username?.toLowerCase())).filter(Boolean));
    return { names, own: this.users.get(this.store.userId)?.username?.toLowerCase() ?? '' };
  }

  // ---- Keys and pointers ----

  keyDown(event) {
    const row = event.target.closest('.row');
    const rows = [...this.rows.querySelectorAll('.row[data-seq]')];
    if (event.key === 'Enter' && row && event.target === row) {
      event.preventDefault();
      row.rookeryMenu?.(row);
      return;
    }
    if ((event.key !== 'ArrowUp' && event.key !== 'ArrowDown') || rows.length === 0) return;
    const at = rows.indexOf(row);
    const to = at < 0 ? (event.key === 'ArrowUp' ? rows.at(-1) : null) : rows[at + (event.key === 'ArrowUp' ? -1 : 1)];
    if (!to) return;
    event.preventDefault();
    to.focus({ preventScroll: true });
    to.scrollIntoView({ block: 'nearest' });
  }

  contextMenu(event) {
    const row = event.target.closest('.row[data-seq]');
    // A marked text or a link has a menu of the browser's own.
    if (!row?.rookeryMenu || event.target.closest('a') || !getSelection().isCollapsed) return;
    event.preventDefault();
    row.rookeryMenu(row, event.clientX || event.clientY ? { x: event.clientX, y: event.clientY } : undefined);
  }

  /** Fingers have no hovering: a tap on a message opens its menu. */
  tapped(event) {
    if (!matchMedia('(hover: none)').matches || event.target.closest('button, a')) return;
    const row = event.target.closest('.bubble')?.closest('.row[data-seq]');
    if (row && getSelection().isCollapsed) row.rookeryMenu?.(row, { x: event.clientX, y: event.clientY });
  }
}
