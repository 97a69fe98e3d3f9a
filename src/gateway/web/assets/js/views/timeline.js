// The messages of the open conversation, and their scrolling: it sticks to the newest, keeps its place otherwise, and
// asks for older ones near the top.

import { dayKey, dayLabel, fullTimeOf, sizeOf, summary, timeOf } from '../format.js';
import { isAboutAnother, tickOf } from '../store.js';
import { el, reconcile } from './dom.js';

/** This near to an end counts as being there. */
const STICK_PX = 60;
const OLDER_PX = 300;
/** Messages of one sender within this time stand together under one name. */
const RUN_MS = 5 * 60_000;

const TICKS = {
  queued: ['◷', 'waiting to be sent'],
  sending: ['◷', 'sending'],
  sent: ['✓', 'sent'],
  delivered: ['✓✓', 'delivered'],
  read: ['✓✓', 'read'],
};

export class Timeline {
  /** `actions`: `older(id)`, `retry(id, clientId)`, `discard(id, clientId)`. */
  constructor({ store, users, actions }) {
    Object.assign(this, { store, users, actions });
    this.id = 0;
    this.stuck = true;
    this.rows = el('ol', { class: 'messages' });
    this.start = el('p', { class: 'timeline-start' });
    this.scroller = el('div', { class: 'scroller', role: 'log', tabIndex: 0, 'aria-label': 'Messages' }, this.start, this.rows);
    this.jump = el('button', { type: 'button', class: 'jump', hidden: true, onclick: () => this.toNewest() }, '↓ Newest');
    this.element = el('div', { class: 'timeline' }, this.scroller, this.jump);
    this.scroller.addEventListener('scroll', () => this.scrolled(), { passive: true });
    new ResizeObserver(() => this.stuck && this.toNewest()).observe(this.scroller);
  }

  /** Shows another conversation, from its newest message. */
  show(id) {
    this.id = id;
    this.rows.replaceChildren();
    this.rows.rookeryRows = undefined;
    this.stuck = true;
    this.render();
  }

  toNewest() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.stuck = true;
    this.jump.hidden = true;
  }

  scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    this.stuck = scrollHeight - scrollTop - clientHeight < STICK_PX;
    this.jump.hidden = this.stuck;
    this.askOlder();
  }

  askOlder() {
    const log = this.store.get(this.id)?.log;
    if (log && !log.atStart && this.scroller.scrollTop < OLDER_PX) this.actions.older(this.id);
  }

  render() {
    const conversation = this.store.get(this.id);
    if (!conversation) return;
    const anchor = this.stuck ? null : this.firstVisible();
    const anchorTop = anchor?.offsetTop ?? 0;
    reconcile(this.rows, 'li', this.items(conversation));
    const { log } = conversation;
    this.start.textContent = log.atStart ? 'The beginning of this conversation.' : 'Loading…';
    if (this.stuck) this.toNewest();
    else if (anchor?.isConnected) this.scroller.scrollTop += anchor.offsetTop - anchorTop;
    if (log.loaded) this.askOlder();
  }

  /** The row that must not move while others come and go. */
  firstVisible() {
    const top = this.scroller.scrollTop;
    for (const row of this.rows.children) {
      if (row.offsetTop + row.offsetHeight > top && row.dataset.anchor) return row;
    }
    return null;
  }

  items({ info, log, pending }) {
    const items = [];
    let day = '';
    let before = null;
    let lastSeq = 0;
    const dayOf = (ms) => {
      const key = dayKey(ms);
      if (key === day) return;
      day = key;
      before = null;
      const label = dayLabel(ms);
      items.push({ key: `day ${key}`, signature: label, fill: (row) => fillLine(row, 'day', label) });
    };
    for (const message of log.list()) {
      const gap = lastSeq && message.seq > lastSeq + 1 && (lastSeq === log.high || log.holes.has(lastSeq));
      if (gap) {
        const label = log.holes.has(lastSeq) ? 'Some messages are missing here' : 'Loading missing messages…';
        items.push({ key: `gap ${lastSeq}`, signature: label, fill: (row) => fillLine(row, 'gap', label) });
        before = null;
      }
      lastSeq = message.seq;
      if (isAboutAnother(message)) continue;
      dayOf(message.created_at_ms);
      items.push(this.messageItem(info, log, message, before));
      before = message;
    }
    for (const send of pending) {
      dayOf(send.created_at_ms);
      items.push(this.pendingItem(send));
    }
    return items;
  }

  messageItem(info, log, message, before) {
    const own = message.sender_id === this.store.userId;
    // An own message keeps the element of its optimistic bubble.
    const key = own && message.client_id ? `own ${message.client_id}` : `seq ${message.seq}`;
    if (message.kind === 'system') {
      const text = `${this.users.name(message.sender_id)} ${summary(message)}`;
      return { key, signature: text, fill: (row) => fillLine(row, 'system', text, message.created_at_ms) };
    }
    const opensRun =
      !before || before.kind === 'system' || before.sender_id !== message.sender_id || message.created_at_ms - before.created_at_ms > RUN_MS;
    const name = !own && opensRun ? this.users.name(message.sender_id) : '';
    const tick = own ? tickOf(info, message) : '';
    const quoted = message.reply_to_seq ? log.get(message.reply_to_seq) : undefined;
    const quote = quoted ? `${this.users.name(quoted.sender_id)}: ${summary(quoted)}` : '';
    const { text, recalled, edited_at_ms: editedAtMs, reactions = [], attachments = [] } = message;
    return {
      key,
      signature: JSON.stringify([name, tick, quote, text, recalled, editedAtMs, reactions, attachments.length, opensRun]),
      fill: (row) => {
        row.className = `row ${own ? 'own' : 'other'}${opensRun ? ' opens' : ''}`;
        row.dataset.anchor = 'yes';
        const body = recalled || (!text && attachments.length === 0) ? summary(message) : text;
        row.replaceChildren(
          el('div', { class: 'bubble' },
            name ? el('p', { class: 'sender', 'data-tone': String(message.sender_id % 6) }, name) : null,
            quote ? el('p', { class: 'quote', dir: 'auto' }, quote) : null,
            body ? el('p', { class: recalled ? 'text faint' : 'text', dir: 'auto' }, body) : null,
            attachments.map(({ name: file, size }) => el('p', { class: 'attachment' }, `${file} · ${sizeOf(size)}`)),
            meta(message.created_at_ms, tick, editedAtMs > 0 && !recalled),
            reactions.length > 0
              ? el('p', { class: 'reactions' }, reactions.map(({ emoji, user_ids: ids }) => el('span', {}, `${emoji} ${ids.length}`)))
              : null),
        );
      },
    };
  }

  pendingItem(send) {
    const { client_id: clientId, text, state, error } = send;
    return {
      key: `own ${clientId}`,
      signature: JSON.stringify([text, state, error]),
      fill: (row) => {
        row.className = `row own opens${state === 'failed' ? ' failed' : ''}`;
        row.dataset.anchor = 'yes';
        const bubble = el('div', { class: 'bubble' }, el('p', { class: 'text', dir: 'auto' }, text), meta(send.created_at_ms, state, false));
        const trouble = el(
          'p', { class: 'trouble', role: 'alert' }, `Not sent: ${error} `,
          el('button', { type: 'button', class: 'link', onclick: () => this.actions.retry(this.id, clientId) }, 'Retry'),
          el('button', { type: 'button', class: 'link', onclick: () => this.actions.discard(this.id, clientId) }, 'Discard'),
        );
        row.replaceChildren(bubble, ...(state === 'failed' ? [trouble] : []));
      },
    };
  }
}

function fillLine(row, kind, text, ms) {
  row.className = `row line ${kind}`;
  if (kind === 'system') row.dataset.anchor = 'yes';
  row.replaceChildren(el('span', { title: ms ? fullTimeOf(ms) : undefined, dir: 'auto' }, text));
}

function meta(ms, tick, edited) {
  const [mark, label] = TICKS[tick] ?? ['', ''];
  return el(
    'p', { class: 'meta' },
    edited ? 'edited ' : null,
    el('time', { dateTime: new Date(ms).toISOString(), title: fullTimeOf(ms) }, timeOf(ms)),
    mark ? el('span', { class: `ticks ${tick}`, role: 'img', 'aria-label': label, title: label }, mark) : null,
  );
}
