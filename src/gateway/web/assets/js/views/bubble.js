// One message of the timeline as elements: who, what it answers, what it says, how far it has come.

import { fullTimeOf, sizeOf, summary, timeOf } from '../format.js';
import { countOf, expiryOf } from '../targets.js';
import { el, iconButton } from './dom.js';
import { richText } from './richtext.js';

/** A reaction names so many of those who hold it. */
const REACTORS_NAMED = 12;

const TICKS = {
  queued: ['◷', 'waiting to be sent'],
  sending: ['◷', 'sending'],
  sent: ['✓', 'sent'],
  delivered: ['✓✓', 'delivered'],
  read: ['✓✓', 'read'],
};

/**
 * Fills a row with a message. `view`: `{message, own, opensRun, name, quote, tick, readers, mentions, isPinned, userId,
 * nameOf}`; `on`: `menu(row, at)`, `reply()`, `react(emoji)`, `openReactions(anchor)`, `quote()`, `person()`.
 */
export function fillMessage(row, view, on) {
  const { message, own, opensRun, name, quote } = view;
  const { text, recalled, attachments = [], reactions = [] } = message;
  row.className = `row ${own ? 'own' : 'other'}${opensRun ? ' opens' : ''}${view.isMention ? ' mentions-me' : ''}`;
  row.dataset.anchor = 'yes';
  row.dataset.seq = message.seq;
  row.tabIndex = -1;
  const body = recalled || (!text && attachments.length === 0) ? summary(message) : text;
  const bubble = el('div', { class: 'bubble' },
    name ? el('button', { type: 'button', class: 'sender', 'data-tone': String(message.sender_id % 6), onclick: on.person }, name) : null,
    forwardedFrom(message),
    quote ? el('button', { type: 'button', class: 'quote', dir: 'auto', onclick: on.quote, 'aria-label': `Answers ${quote.name}: ${quote.text}` },
      el('b', {}, quote.name), el('span', {}, quote.text)) : null,
    body ? el('p', { class: recalled ? 'text faint' : 'text', dir: 'auto' }, recalled ? body : richText(body, view.mentions)) : null,
    attachments.map(({ name: file, size }) => el('p', { class: 'attachment' }, `${file} · ${sizeOf(size)}`)),
    meta(message.created_at_ms, view.tick, { edited: message.edited_at_ms > 0 && !recalled, isPinned: view.isPinned, readers: view.readers, expiresAtMs: recalled ? 0 : expiryOf(message) }));
  const chips = reactions.length > 0 && !recalled
    ? el('div', { class: 'reactions', role: 'group', 'aria-label': 'Reactions' }, reactions.map((reaction) => chip(reaction, view, on)))
    : null;
  row.replaceChildren(
    el('div', { class: 'stack' },
      bubble, chips,
      el('div', { class: 'tools' },
        recalled ? null : iconButton('react', 'React', ({ currentTarget }) => on.openReactions(currentTarget), { tabIndex: -1 }),
        recalled ? null : iconButton('reply', 'Reply', on.reply, { tabIndex: -1 }),
        iconButton('more', 'More', ({ currentTarget }) => on.menu(currentTarget), { tabIndex: -1, 'aria-haspopup': 'menu' }))),
  );
}

function chip(reaction, { userId, nameOf }, on) {
  const { emoji, user_ids: ids } = reaction;
  const count = countOf(reaction);
  const mine = ids.includes(userId);
  const named = ids.slice(0, REACTORS_NAMED).map((id) => (id === userId ? 'You' : nameOf(id))).join(', ');
  const names = count > REACTORS_NAMED ? `${named} and ${count - REACTORS_NAMED} more` : named;
  return el('button', {
    type: 'button', class: 'chip', 'aria-pressed': String(mine), title: names, 'aria-label': `${emoji} ${count}, ${names}`, onclick: () => on.react(emoji),
  }, el('span', {}, emoji), ` ${count}`);
}

function forwardedFrom(message) {
  return message.marks?.forwarded_from ? el('p', { class: 'forwarded' }, 'Forwarded') : null;
}

/** Fills a row with a send that has no answer yet. `on`: `retry()`, `discard()`. */
export function fillPending(row, send, quote, on) {
  const { text, state, error } = send;
  row.className = `row own opens${state === 'failed' ? ' failed' : ''}`;
  row.dataset.anchor = 'yes';
  delete row.dataset.seq;
  const trouble = el(
    'p', { class: 'trouble', role: 'alert' }, `Not sent: ${error} `,
    el('button', { type: 'button', class: 'link', onclick: on.retry }, 'Retry'),
    el('button', { type: 'button', class: 'link', onclick: on.discard }, 'Discard'),
  );
  row.replaceChildren(
    el('div', { class: 'stack' },
      el('div', { class: 'bubble' },
        quote ? el('p', { class: 'quote', dir: 'auto' }, el('b', {}, quote.name), el('span', {}, quote.text)) : null,
        el('p', { class: 'text', dir: 'auto' }, richText(text)), meta(send.created_at_ms, state, {}))),
    ...(state === 'failed' ? [trouble] : []),
    ...(state === 'queued' && error
      ? [el('p', { class: 'waits', role: 'status' }, error, ' ', el('button', { type: 'button', class: 'link', onclick: on.discard }, 'Discard'))]
      : []));
}

/** A line across the timeline: a day, a change of the group, a gap. `jump()` leads to what it is about. */
export function fillLine(row, kind, text, ms, jump) {
  row.className = `row line ${kind}`;
  if (kind === 'system') row.dataset.anchor = 'yes';
  const words = el('span', { title: ms ? fullTimeOf(ms) : undefined, dir: 'auto' }, text);
  row.replaceChildren(jump ? el('button', { type: 'button', class: 'quiet', onclick: jump }, words) : words);
}

function meta(ms, tick, { edited = false, isPinned = false, readers = 0, expiresAtMs = 0 }) {
  const [mark, word] = TICKS[tick] ?? ['', ''];
  const label = readers > 1 ? `read by ${readers}` : word;
  return el(
    'p', { class: 'meta' },
    isPinned ? 'pinned · ' : null,
    expiresAtMs ? el('span', { title: `It disappears ${fullTimeOf(expiresAtMs)}` }, 'expires · ') : null,
    edited ? el('span', { class: 'edited' }, 'edited') : null,
    el('time', { dateTime: new Date(ms).toISOString(), title: fullTimeOf(ms) }, timeOf(ms)),
    mark ? el('span', { class: `ticks ${tick}`, role: 'img', 'aria-label': label, title: label }, mark) : null,
    readers > 1 ? el('span', { class: 'readers', 'aria-hidden': 'true' }, String(readers)) : null,
  );
}
