// Words, times and names as they are shown. No DOM.

const timeFormat = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const dayFormat = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long' });
const dayYearFormat = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'long', year: 'numeric' });
const shortDayFormat = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' });
const fullFormat = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'medium' });

export const timeOf = (ms) => timeFormat.format(ms);
export const fullTimeOf = (ms) => fullFormat.format(ms);

/** The same for two instants of one local day, and for no others. */
export function dayKey(ms) {
  const date = new Date(ms);
  return `${date.getFullYear()}-${date.getMonth() + 1}-${date.getDate()}`;
}

export function dayLabel(ms, nowMs = Date.now()) {
  if (dayKey(ms) === dayKey(nowMs)) return 'Today';
  const yesterday = new Date(nowMs);
  yesterday.setDate(yesterday.getDate() - 1);
  if (dayKey(ms) === dayKey(yesterday.getTime())) return 'Yesterday';
  const sameYear = new Date(ms).getFullYear() === new Date(nowMs).getFullYear();
  return (sameYear ? dayFormat : dayYearFormat).format(ms);
}

/** The time in the conversation list: of today the hour, else the day. */
export function listTime(ms, nowMs = Date.now()) {
  if (!ms) return '';
  return dayKey(ms) === dayKey(nowMs) ? timeOf(ms) : shortDayFormat.format(ms);
}

const KIND_WORDS = {
  image: 'Image',
  audio: 'Audio message',
  video: 'Video',
  file: 'File',
  custom: 'Message of another application',
  edit: 'Edited a message',
  recall: 'Took a message back',
  reaction: 'Reacted',
};

/** What a message says when there is room for one line. */
export function summary(message) {
  if (message.recalled) return 'Message taken back';
  if (message.kind === 'reaction' && message.emoji) return `Reacted ${message.emoji}`;
  if (message.kind === 'edit' && message.text) return `Edited: ${message.text}`;
  if (message.text) return message.text;
  const file = message.attachments?.[0]?.name;
  if (file) return file;
  return KIND_WORDS[message.kind] ?? (message.kind === 'system' ? 'The group has changed' : 'Message');
}

/** A conversation's name: a group's own, or the peer's. */
export function titleOf(info, users) {
  if (info.kind === 'direct') return users.name(info.peer_user_id);
  return info.name || `Group ${info.conversation_id}`;
}

export function sizeOf(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  if (bytes < 1024 * 1024) return `${Math.round(bytes / 1024)} KB`;
  return `${(bytes / (1024 * 1024)).toFixed(1)} MB`;
}

/** Whether `id` can be an id of the protocol. */
export const isId = (id) => Number.isSafeInteger(id) && id > 0;

/** A fresh client_id. Pages served over plain HTTP from another machine have no randomUUID. */
export function newClientId() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
