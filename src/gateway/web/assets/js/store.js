// What the client knows: conversations, their logs, and the sends that have no answer yet. Pure state, told by
// `apply*` what the server said; listeners are told what changed. No DOM, no network, no clock: tests/web drives it.

import { MessageLog } from './log.js';

/** The most unanswered sends of one conversation; more are refused until some are answered. */
export const PENDING_LIMIT = 200;

const EVENT_KINDS = new Set(['edit', 'recall', 'reaction']);

/** Whether a message is about another one (`target_seq`) and has no bubble of its own. */
export function isAboutAnother(message) {
  return EVENT_KINDS.has(message.kind);
}

export class Store {
  constructor(userId) {
    this.userId = userId;
    this.conversations = new Map();
    /** What the next sync may name as `since`. */
    this.syncToken = '';
    this.listeners = new Set();
  }

  /** `listener(conversationId)` is called after each change. */
  subscribe(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  changed(id) {
    for (const listener of this.listeners) listener(id);
  }

  get(id) {
    return this.conversations.get(id);
  }

  /** Newest first. */
  list() {
    return [...this.conversations.values()].sort(
      (a, b) => activity(b) - activity(a) || b.info.conversation_id - a.info.conversation_id,
    );
  }

  totalUnread() {
    let total = 0;
    for (const { info } of this.conversations.values()) total += info.unread;
    return total;
  }

  // ---- What the server says ----

  /** Takes a Conversation of an event, a sync page or REST. It may be older than what live events said already. */
  applyConversation(incoming) {
    const id = incoming.conversation_id;
    if (incoming.removed) {
      if (this.conversations.delete(id)) this.changed(id);
      return null;
    }
    const before = this.conversations.get(id);
    if (!before) {
      const conversation = {
        info: { ...incoming, last_message: incoming.last_message ?? null },
        log: new MessageLog(),
        pending: [],
        // What the server has confirmed; info.read_seq runs ahead of it as soon as the user has read.
        acked: { delivered: incoming.delivered_seq, read: incoming.read_seq },
        // Set when live events show that `info` can't be right without asking again.
        stale: false,
      };
      this.conversations.set(id, conversation);
      this.changed(id);
      return conversation;
    }
    const old = before.info;
    const newer = incoming.updated_at_ms >= old.updated_at_ms ? incoming : old;
    const counted = incoming.last_seq >= old.last_seq && incoming.read_seq >= old.read_seq;
    const info = { ...old, ...newer };
    for (const field of ['last_seq', 'read_seq', 'delivered_seq', 'first_seq', 'peer_read_seq', 'peer_delivered_seq']) {
      info[field] = Math.max(old[field], incoming[field]);
    }
    const last = incoming.last_message ?? null;
    info.last_message = last && last.seq >= (old.last_message?.seq ?? 0) ? last : old.last_message;
    info.unread = counted ? incoming.unread : old.unread;
    before.info = info;
    before.acked.delivered = Math.max(before.acked.delivered, incoming.delivered_seq);
    before.acked.read = Math.max(before.acked.read, incoming.read_seq);
    before.stale = false;
    before.log.raiseFirst(info.first_seq);
    this.recount(before);
    this.changed(id);
    return before;
  }

  /** Takes a message, live or synced. 'unknown': its conversation must be asked for. 'duplicate': it was dropped. */
  applyMessage(message) {
    const conversation = this.get(message.conversation_id);
    if (!conversation) return 'unknown';
    const { info, log } = conversation;
    const own = message.sender_id === this.userId;
    if (own) this.dropPending(conversation, message.client_id);
    const isNewest = message.seq > info.last_seq;
    const jumped = message.seq > info.last_seq + 1;
    if (!isNewest && log.has(message.seq)) return 'duplicate';
    // A log that was never opened begins with the first live message, if nothing before it is undelivered.
    const caughtUp = isNewest && !jumped && info.delivered_seq >= info.last_seq;
    if (!log.loaded && (caughtUp || message.seq === deliveredBefore(info) + 1)) log.beginAfter(message.seq - 1);
    if (!log.loaded && jumped) conversation.stale = true;
    const added = log.put(message);
    if (isNewest) {
      info.last_seq = message.seq;
      info.last_message = message;
      if (!own) info.unread += 1;
    }
    // Sending counts as having read up to one's own message.
    if (own) this.advanceRead(conversation, message.seq);
    if (added) this.applyToTarget(log, message);
    this.changed(message.conversation_id);
    return added || isNewest ? 'added' : 'duplicate';
  }

  /** Takes a page of history: `beforeSeq` or `afterSeq` is what was asked for, the other is 0. */
  applyHistory(id, { beforeSeq = 0, afterSeq = 0 }, page) {
    const conversation = this.get(id);
    if (!conversation) return;
    const { info, log } = conversation;
    const messages = [...page.messages].sort((a, b) => a.seq - b.seq);
    if (beforeSeq) log.coverBefore(messages, beforeSeq, page.more);
    else log.coverAfter(messages, afterSeq);
    for (const message of messages) {
      if (message.sender_id === this.userId) this.dropPending(conversation, message.client_id);
    }
    const last = messages.at(-1);
    if (last && last.seq >= info.last_seq) {
      info.last_seq = last.seq;
      info.last_message = last;
    }
    this.recount(conversation);
    this.changed(id);
  }

  /** Replaces one message's state, as history returned it. */
  applyState(message) {
    if (this.get(message.conversation_id)?.log.replace(message)) this.changed(message.conversation_id);
  }

  /** A receipt of the peer of a direct conversation, or of another device of this user. */
  applyReceipt({ conversation_id: id, user_id: userId, delivered_seq: delivered, read_seq: read }) {
    const conversation = this.get(id);
    if (!conversation) return;
    const { info, acked } = conversation;
    if (userId === this.userId) {
      acked.delivered = Math.max(acked.delivered, delivered);
      acked.read = Math.max(acked.read, read);
      info.delivered_seq = Math.max(info.delivered_seq, delivered);
      this.advanceRead(conversation, read);
    } else if (info.kind === 'direct') {
      info.peer_delivered_seq = Math.max(info.peer_delivered_seq, delivered);
      info.peer_read_seq = Math.max(info.peer_read_seq, read);
    }
    this.changed(id);
  }

  remove(id) {
    if (this.conversations.delete(id)) this.changed(id);
  }

  // ---- Cursors ----

  /** The cursors of a sync: of the logs that are behind. */
  cursors() {
    const cursors = [];
    for (const [id, { info, log }] of this.conversations) {
      if (log.hasGap(info.last_seq)) cursors.push({ conversation_id: id, seq: log.high });
    }
    return cursors;
  }

  /** Begins the logs of the newest conversations with a short undelivered backlog, so that a sync delivers it. */
  adoptBacklogs(conversationLimit, messageLimit) {
    for (const { info, log } of this.list().slice(0, conversationLimit)) {
      const known = deliveredBefore(info);
      if (!log.loaded && info.last_seq > known && info.last_seq - known <= messageLimit) log.beginAfter(known);
    }
  }

  /** The seq to confirm as delivered; 0: nothing new. */
  deliverable(id) {
    const conversation = this.get(id);
    if (!conversation?.log.loaded) return 0;
    const seq = conversation.log.lastForeign(this.userId);
    return seq > conversation.acked.delivered ? seq : 0;
  }

  /** The seq to confirm as read, once the user has seen all that is there; 0: nothing new. */
  readable(id) {
    const conversation = this.get(id);
    if (!conversation?.log.loaded) return 0;
    const seq = conversation.log.lastForeign(this.userId);
    return seq > conversation.acked.read ? seq : 0;
  }

  /** The user has seen everything up to `seq`; the server is told by the caller. */
  markRead(id, seq) {
    const conversation = this.get(id);
    if (!conversation || seq <= conversation.info.read_seq) return;
    this.advanceRead(conversation, seq);
    this.changed(id);
  }

  /** The server has confirmed a cursor: `which` is 'delivered' or 'read'. */
  markAcked(id, which, seq) {
    const conversation = this.get(id);
    if (!conversation) return;
    conversation.acked[which] = Math.max(conversation.acked[which], seq);
    if (which === 'delivered') conversation.info.delivered_seq = Math.max(conversation.info.delivered_seq, seq);
  }

  // ---- Sends without an answer ----

  /** Adds an optimistic send; false: too many are waiting. Its states are 'queued', 'sending' and 'failed'. */
  addPending(id, { client_id, text, created_at_ms }) {
    const conversation = this.get(id);
    if (!conversation || conversation.pending.length >= PENDING_LIMIT) return false;
    conversation.pending.push({ client_id, text, created_at_ms, state: 'queued', attempts: 0, error: '' });
    this.changed(id);
    return true;
  }

  pending(id, clientId) {
    return this.get(id)?.pending.find((send) => send.client_id === clientId);
  }

  setPending(id, clientId, change) {
    const send = this.pending(id, clientId);
    if (!send) return;
    Object.assign(send, change);
    this.changed(id);
  }

  discardPending(id, clientId) {
    const conversation = this.get(id);
    if (conversation && this.dropPending(conversation, clientId)) this.changed(id);
  }

  /** The next send of a conversation, oldest first; undefined: none, or one is under way. */
  nextToSend(id) {
    const pending = this.get(id)?.pending ?? [];
    if (pending.some((send) => send.state === 'sending')) return undefined;
    return pending.find((send) => send.state === 'queued');
  }

  /** The connection is gone: what had no answer is to be sent again. */
  requeueAll() {
    for (const [id, { pending }] of this.conversations) {
      for (const send of pending) if (send.state === 'sending') send.state = 'queued';
      if (pending.length > 0) this.changed(id);
    }
  }

  /** The server's `sent`: the optimistic send becomes a message of the log. */
  applySent(id, sent) {
    const send = this.pending(id, sent.client_id);
    if (!send) return;
    this.applyMessage({
      conversation_id: id,
      seq: sent.seq,
      sender_id: this.userId,
      client_id: sent.client_id,
      kind: 'text',
      text: send.text,
      attachments: [],
      reply_to_seq: 0,
      mentions: [],
      target_seq: 0,
      emoji: '',
      created_at_ms: sent.created_at_ms,
      edited_at_ms: 0,
      recalled: false,
      reactions: [],
    });
    this.changed(id);
  }

  /** The unanswered sends as plain data, to outlive a reload. */
  exportPending() {
    const sends = [];
    for (const [id, { pending }] of this.conversations) {
      for (const { client_id, text, created_at_ms, state, error } of pending) {
        sends.push({ conversation_id: id, client_id, text, created_at_ms, failed: state === 'failed', error });
      }
    }
    return sends;
  }

  /** Takes such data back; false for each that has no conversation here. */
  importPending(sends) {
    return sends.map((send) => {
      const id = send.conversation_id;
      if (!this.get(id)) return false;
      if (this.pending(id, send.client_id) || !this.addPending(id, send)) return true;
      if (send.failed) this.setPending(id, send.client_id, { state: 'failed', error: send.error });
      return true;
    });
  }

  // ---- Inside ----

  dropPending(conversation, clientId) {
    const at = conversation.pending.findIndex((send) => send.client_id === clientId);
    if (at >= 0) conversation.pending.splice(at, 1);
    return at >= 0;
  }

  advanceRead(conversation, seq) {
    if (seq <= conversation.info.read_seq) return;
    conversation.info.read_seq = seq;
    this.recount(conversation);
  }

  /** Counts the unread where all of them are held; else only bounds the server's count. */
  recount({ info, log }) {
    const behind = Math.max(info.last_seq - info.read_seq, 0);
    if (log.loaded && log.low <= info.read_seq + 1 && log.high >= info.last_seq) {
      info.unread = log
        .list()
        .filter((message) => message.seq > info.read_seq && message.sender_id !== this.userId).length;
    } else {
      info.unread = Math.min(info.unread, behind);
    }
  }

  applyToTarget(log, message) {
    const target = isAboutAnother(message) ? log.get(message.target_seq) : undefined;
    if (!target) return;
    if (message.kind === 'edit') {
      log.replace({ ...target, text: message.text, edited_at_ms: message.created_at_ms });
    } else if (message.kind === 'recall') {
      log.replace({ ...target, text: '', attachments: [], recalled: true });
    }
  }
}

/** When something last happened in a conversation: what the list is ordered by. */
function activity({ info, pending }) {
  return Math.max(info.last_message?.created_at_ms ?? 0, info.updated_at_ms, pending.at(-1)?.created_at_ms ?? 0);
}

/** The seq up to which nothing is left to deliver. */
function deliveredBefore(info) {
  return Math.max(info.delivered_seq, info.first_seq - 1, 0);
}

/** How far an own message of a direct conversation has come: 'read', 'delivered' or 'sent'. */
export function tickOf(info, message) {
  if (info.kind !== 'direct') return 'sent';
  if (message.seq <= info.peer_read_seq) return 'read';
  if (message.seq <= info.peer_delivered_seq) return 'delivered';
  return 'sent';
}
