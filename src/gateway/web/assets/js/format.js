// Words, times and names as they are shown. No DOM.

const timeFormat = new Intl.DateTimeFormat(undefined, { hour: 'numeric', minute: '2-digit' });
const dayFormat = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long' });
const dayYearFormat = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'long', year: 'numeric' });
const shortDayFormat = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' });
const fullFormat = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'medium' });

/** A system message names so many of those it is about. */
const NAMES_SHOWN = 5;
/** What lies further ahead than this was meant for ever: ten years. */
const FOREVER_MS = 10 * 365 * 86_400_000;

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
  return KIND_WORDS[message.kind] ?? (message.kind === 'system' ? 'changed the group' : 'Message');
}

/** A system message: who did what, and to whom. */
export function systemText(message, users) {
  const about = (message.mentions ?? []).filter((id) => id && id !== message.sender_id);
  const who = users.name(message.sender_id);
  const what = summary(message);
  if (about.length === 0) return `${who} ${what}`;
  const more = about.length > NAMES_SHOWN ? ` and ${about.length - NAMES_SHOWN} more` : '';
  const names = about.slice(0, NAMES_SHOWN).map((id) => users.name(id)).join(', ') + more;
  // The server counts them, as it knows no names in the reader's language or of a later day.
  const named = what.replace(/\b(a|\d+) members?\b/, () => names);
  return named === what ? `${who} ${what}${what.startsWith('created') ? ' with' : ':'} ${names}` : `${who} ${named}`;
}

export const STATUS_WORDS = { online: 'online', away: 'away', busy: 'busy', invisible: 'invisible', offline: 'offline' };

/** What is known of how somebody is, in a few words; empty: nothing. */
export function presenceText(presence, nowMs = Date.now()) {
  if (!presence) return '';
  if (presence.status !== 'offline') return [STATUS_WORDS[presence.status] ?? presence.status, presence.text].filter(Boolean).join(' · ');
  return presence.last_seen_ms ? `last seen ${agoOf(presence.last_seen_ms, nowMs)}` : 'offline';
}

/** How long ago, roughly. */
export function agoOf(ms, nowMs = Date.now()) {
  const minutes = Math.floor((nowMs - ms) / 60_000);
  if (minutes < 1) return 'just now';
  if (minutes < 60) return `${minutes} minute${minutes === 1 ? '' : 's'} ago`;
  if (dayKey(ms) === dayKey(nowMs)) return `today at ${timeOf(ms)}`;
  return `${dayLabel(ms, nowMs)}, ${timeOf(ms)}`;
}

/** Until when something holds: of today the hour. What never ends says so. */
export function untilOf(ms, nowMs = Date.now()) {
  if (ms - nowMs > FOREVER_MS) return 'until it is taken back';
  return dayKey(ms) === dayKey(nowMs) ? `until ${timeOf(ms)}` : `until ${shortDayFormat.format(ms)}, ${timeOf(ms)}`;
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
