// Messages that are sent later: choosing when, and the list of those that wait.

import { fullTimeOf, titleOf } from '../format.js';
import { openDialog, tell } from './dialog.js';
import { el, field, iconButton } from './dom.js';

const HOUR_MS = 3_600_000;

/** A local time as the browser's field for it wants it. */
function localTime(ms) {
  const date = new Date(ms - new Date(ms).getTimezoneOffset() * 60_000);
  return date.toISOString().slice(0, 16);
}

/** `schedule(atMs)` takes the time that was chosen. */
export function sendLater(schedule) {
  const now = Date.now();
  const when = el('input', { type: 'datetime-local', required: true, min: localTime(now), value: localTime(now + HOUR_MS) });
  openDialog({
    title: 'Send later', body: [field('When', when, 'The server sends it then, whether you are there or not.')], submitLabel: 'Schedule',
    submit: async () => {
      const atMs = new Date(when.value).getTime();
      if (!(atMs > Date.now())) throw new Error('That time has passed.');
      await schedule(atMs);
    },
  });
}

/** Shows what waits to be sent; `cancel(id)` takes one back. */
export function showScheduled({ items, store, users, cancel }) {
  const list = el('ul', { class: 'members results' });
  const error = el('p', { class: 'form-error', role: 'alert' });
  const row = (item) => {
    const info = store.get(item.conversation_id)?.info;
    const remove = async () => {
      try {
        await cancel(item.scheduled_id);
        line.remove();
        if (list.childElementCount === 0) list.replaceWith(nothing());
      } catch (cause) {
        error.textContent = cause.message;
      }
    };
    const when = `${info ? `${titleOf(info, users)} · ` : ''}${fullTimeOf(item.send_at_ms)}`;
    const line = el('li', {},
      el('span', { class: 'member-name', dir: 'auto' }, item.message?.text ?? '', el('span', { class: 'hint' }, when),
        item.failure ? el('span', { class: 'form-error' }, `Not sent: ${item.failure}`) : null),
      iconButton('trash', 'Take it back', remove));
    return line;
  };
  list.append(...items.map(row));
  tell({ title: 'Scheduled messages', body: [items.length > 0 ? list : nothing(), error] });
}

const nothing = () => el('p', { class: 'hint' }, 'Nothing waits to be sent.');
