// What the client knows: conversations, their logs, and the sends that have no answer yet. Pure state, told by
// `apply*` what the server said; listeners are told what changed. No DOM, no network, no clock: tests/web drives it.

import { activity, advanceMember, deliveredBefore, isMuted, newerPreview, unreadOf } from './conversation.js';
import { MessageLog } from './log.js';
import { changed as changedBy, counts, expired, expiryOf, isAboutAnother, isHidden } from './targets.js';

/** The most unanswered sends of one conversation; more are refused until some are answered. */
export const PENDING_LIMIT = 200;
/** The most messages that a conversation holds for their quotes alone. */
const QUOTED_LIMIT = 300;

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

  /** What the list shows, pinned ones first: the archived ones, or the others. Hidden ones come back with a message. */
  shelf({ archived = false } = {}) {
    const shown = this.list().filter(({ info }) => !info.hidden && Boolean(info.archived) === archived);
    return [...shown.filter(({ info }) => info.pinned), ...shown.filter(({ info }) => !info.pinned)];
  }

  /** What the page's title counts: not what the user has muted or put away. */
  totalUnread(nowMs = 0) {
    let total = 0;
    for (const { info } of this.conversations.values()) {
      if (!info.archived && !info.hidden && !isMuted(info, nowMs)) total += unreadOf(info);
    }
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
        // A place in the past that the user looks at, apart from `log`: see showExcerpt.
        excerpt: null,
        pending: [],
        // Messages that others answer, where neither of the two holds them: null while they are asked for.
        quoted: new Map(),
        // How far the other members of a small group have come, by user.
        cursors: new Map(),
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
    info.last_message = newerPreview(old.last_message, incoming.last_message ?? null);
    // Preferences and the draft are told by their presence or absence in the newer of the two.
    if (newer === incoming && !incoming.draft) info.draft = null;
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
      info.last_message = newerPreview(info.last_message, message);
      if (!own && !isAboutAnother(message)) info.unread += 1;
      if (!isAboutAnother(message)) info.hidden = false;
    }
    // Sending counts as having read up to one's own message.
    if (own) this.advanceRead(conversation, message.seq);
    if (isAboutAnother(message) && (added || isNewest)) this.applyChange(conversation, message);
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
      // Its target may be held already, in the state before.
      if (afterSeq && isAboutAnother(message)) this.applyChange(conversation, message);
    }
    const last = messages.at(-1);
    if (last && last.seq >= info.last_seq) {
      info.last_seq = last.seq;
      info.last_message = newerPreview(info.last_message, last);
    }
    this.recount(conversation);
    this.changed(id);
  }

  /** A message that is held for its quotes alone; the oldest of too many go. */
  setQuoted(id, seq, message) {
    const quoted = this.get(id)?.quoted;
    if (!quoted) return;
    quoted.set(seq, message);
    if (quoted.size > QUOTED_LIMIT) quoted.delete(quoted.keys().next().value);
    this.changed(id);
  }

  /** The message `seq` wherever it is held; undefined: nowhere. */
  find(id, seq) {
    const conversation = this.get(id);
    return conversation?.excerpt?.get(seq) ?? conversation?.log.get(seq) ?? conversation?.quoted.get(seq) ?? undefined;
  }

  /** Replaces one message's state, as history returned it. */
  applyState(message) {
    const conversation = this.get(message.conversation_id);
    if (!conversation) return;
    conversation.log.replace(message);
    conversation.excerpt?.replace(message);
    if (conversation.info.last_message?.seq === message.seq) conversation.info.last_message = message;
    this.changed(message.conversation_id);
  }

  /** This user wants to see a message no more, on whichever device. */
  hideMessage(id, seq) {
    const message = this.get(id)?.log.get(seq) ?? this.get(id)?.excerpt?.get(seq);
    if (!message || isHidden(message)) return;
    this.applyState({ ...message, marks: { ...message.marks, hidden: true } });
    this.recount(this.get(id));
  }

  /** Empties what was to vanish by now, where it is held: in conversation `id`, and in the list's previews. */
  expire(id, nowMs) {
    const due = (message) => message && !message.recalled && expiryOf(message) > 0 && expiryOf(message) <= nowMs;
    const messages = [...(this.shown(id)?.list() ?? []), ...[...this.conversations.values()].map(({ info }) => info.last_message)];
    for (const message of messages) if (due(message)) this.applyState(expired(message));
  }

  // ---- A place in the past ----

  /** What the timeline shows: the place in the past that was jumped to, or the newest messages. */
  shown(id) {
    const conversation = this.get(id);
    return conversation?.excerpt ?? conversation?.log;
  }

  /** Shows a page of history that ends before `beforeSeq`, apart from the log until the two meet. */
  showExcerpt(id, beforeSeq, { messages = [], more = false }) {
    const conversation = this.get(id);
    if (!conversation || messages.length === 0) return;
    const page = [...messages].sort((a, b) => a.seq - b.seq);
    conversation.excerpt = new MessageLog();
    conversation.excerpt.coverBefore(page, beforeSeq, more);
    this.joinExcerpt(conversation);
    this.changed(id);
  }

  /** A further page of the excerpt: older ones (`beforeSeq`) or newer ones (`afterSeq`). */
  growExcerpt(id, { beforeSeq = 0, afterSeq = 0 }, { messages = [], more = false }) {
    const conversation = this.get(id);
    if (!conversation?.excerpt) return;
    const page = [...messages].sort((a, b) => a.seq - b.seq);
    if (beforeSeq) conversation.excerpt.coverBefore(page, beforeSeq, more);
    else conversation.excerpt.coverAfter(page, afterSeq);
    // Nothing newer than this is left, so the log begins here at the latest.
    if (afterSeq && !more && page.length === 0) this.leaveExcerpt(id);
    else this.joinExcerpt(conversation);
    this.changed(id);
  }

  leaveExcerpt(id) {
    const conversation = this.get(id);
    if (!conversation?.excerpt) return;
    conversation.excerpt = null;
    this.changed(id);
  }

  /** Once the excerpt reaches the log, the log takes it in. */
  joinExcerpt(conversation) {
    const { excerpt, log } = conversation;
    // The log itself may not have come as far yet, where a gap of it is being filled.
    if (!log.loaded || excerpt.high + 1 < log.low || excerpt.low > log.high + 1) return;
    log.coverBefore(excerpt.list(), log.low, !excerpt.atStart);
    conversation.excerpt = null;
  }

  // ---- Receipts ----

  /** A receipt of the peer of a direct conversation, of a member of a small group, or of another device of this user. */
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
    } else {
      advanceMember(conversation, userId, delivered, read);
    }
    this.changed(id);
  }

  /** How far members have come, as their list says. */
  applyMemberCursors(id, members) {
    const conversation = this.get(id);
    if (!conversation) return;
    const there = new Set(members.map(({ user_id: userId }) => userId));
    for (const userId of conversation.cursors.keys()) if (!there.has(userId)) conversation.cursors.delete(userId);
    for (const { user_id: userId, delivered_seq: delivered = 0, read_seq: read = 0 } of members) {
      if (userId !== this.userId) advanceMember(conversation, userId, delivered, read);
    }
    this.changed(id);
  }

  /** The draft that this device has just stored at the server. */
  setDraft(id, draft) {
    const conversation = this.get(id);
    if (!conversation) return;
    conversation.info.draft = draft;
    this.changed(id);
  }

  /** A change that this device has asked for, and was granted, before the server's event says so. */
  setInfo(id, change) {
    const conversation = this.get(id);
    if (!conversation) return;
    Object.assign(conversation.info, change);
    this.changed(id);
  }

  remove(id) {
    if (this.conversations.delete(id)) this.changed(id);
  }

  /** A log that is far behind begins anew from the newest page, once that is wanted; scrolling up brings the rest. */
  beginAnew(id) {
    const conversation = this.get(id);
    if (!conversation) return;
    conversation.log = new MessageLog();
    this.changed(id);
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
  addPending(id, { client_id, text, created_at_ms, reply_to_seq = 0, mentions = [], expires_in_seconds = 0 }) {
    const conversation = this.get(id);
    if (!conversation || conversation.pending.length >= PENDING_LIMIT) return false;
    conversation.pending.push({ client_id, text, created_at_ms, reply_to_seq, mentions, expires_in_seconds, state: 'queued', attempts: 0, error: '' });
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
      reply_to_seq: send.reply_to_seq,
      mentions: send.mentions,
      target_seq: 0,
      emoji: '',
      created_at_ms: sent.created_at_ms,
      edited_at_ms: 0,
      recalled: false,
      reactions: [],
      ...(send.expires_in_seconds ? { marks: { expires_at_ms: sent.created_at_ms + send.expires_in_seconds * 1000 } } : {}),
    });
    this.changed(id);
  }

  /** The unanswered sends as plain data, to outlive a reload. */
  exportPending() {
    const sends = [];
    for (const [id, { pending }] of this.conversations) {
      for (const { attempts, state, ...send } of pending) {
        sends.push({ conversation_id: id, ...send, failed: state === 'failed' });
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
        .filter((message) => message.seq > info.read_seq && message.sender_id !== this.userId && counts(message)).length;
    } else {
      info.unread = Math.min(info.unread, behind);
    }
  }

  /** An edit, recall or reaction, at every place where its target is held. */
  applyChange(conversation, change) {
    const { log, excerpt, quoted, info } = conversation;
    for (const held of [log, excerpt]) {
      const target = held?.get(change.target_seq);
      if (target) held.replace(changedBy(target, change));
    }
    const target = quoted.get(change.target_seq);
    if (target) quoted.set(change.target_seq, changedBy(target, change));
    if (info.last_message?.seq === change.target_seq) info.last_message = changedBy(info.last_message, change);
    // What was taken back before it was read is not unread any more; where that can't be counted, the server is asked.
    if (change.kind === 'recall' && change.target_seq > info.read_seq) {
      if (log.get(change.target_seq)) this.recount(conversation);
      else conversation.stale = true;
    }
  }
}
