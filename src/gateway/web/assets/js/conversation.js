// What follows from one conversation's state: its place in the list, its badge, its preview, its ticks. Pure.

import { isAboutAnother } from './targets.js';

/** What the list shows of a conversation: the newest message that has a bubble, as far as one is known. */
export function newerPreview(old, incoming) {
  if (!incoming) return old;
  if (!old) return incoming;
  if (isAboutAnother(incoming) && !isAboutAnother(old)) return old;
  return incoming.seq >= old.seq || isAboutAnother(old) ? incoming : old;
}

export function advanceMember({ cursors }, userId, delivered, read) {
  const before = cursors.get(userId) ?? { delivered: 0, read: 0 };
  cursors.set(userId, { delivered: Math.max(before.delivered, delivered), read: Math.max(before.read, read) });
}

/** When something last happened in a conversation: what the list is ordered by. */
export function activity({ info, pending }) {
  return Math.max(info.last_message?.created_at_ms ?? info.updated_at_ms, pending.at(-1)?.created_at_ms ?? 0);
}

/** The seq up to which nothing is left to deliver. */
export function deliveredBefore(info) {
  return Math.max(info.delivered_seq, info.first_seq - 1, 0);
}

/** Whether a conversation is to make no noise. */
export function isMuted(info, nowMs) {
  return (info.muted_until_ms ?? 0) > nowMs || info.notifications === 'none';
}

/** The number on a conversation's badge; one that was marked as unread by hand counts as one. */
export function unreadOf(info) {
  return info.unread || (info.marked_unread ? 1 : 0);
}

/** How far an own message has come: 'read', 'delivered' or 'sent', and by how many others it was read. */
export function tickOf({ info, cursors }, message) {
  const { seq } = message;
  if (info.kind === 'direct') {
    if (seq <= info.peer_read_seq) return { tick: 'read', readers: 1 };
    return { tick: seq <= info.peer_delivered_seq ? 'delivered' : 'sent', readers: 0 };
  }
  let readers = 0;
  let delivered = 0;
  for (const cursor of cursors.values()) {
    if (cursor.read >= seq) readers += 1;
    if (cursor.delivered >= seq) delivered += 1;
  }
  // Only of a group that is known whole can one say that all have it.
  if (readers > 0 && readers >= info.member_count - 1) return { tick: 'read', readers };
  return { tick: delivered > 0 || readers > 0 ? 'delivered' : 'sent', readers };
}
