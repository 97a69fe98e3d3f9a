// Keeps the store true to the server: sync after each welcome, live events, repair of gaps, history on demand, and
// the `delivered` and `read` cursors. No DOM; what is open and visible is told to it.

import { backoffMs } from './connection.js';
import { KEPT_MESSAGES } from './log.js';

/** Seqs are below 2^53: history before this one begins with the newest message. */
const NEWEST = Number.MAX_SAFE_INTEGER;
/** Messages of one page of history, for scrolling and for gaps. */
export const HISTORY_PAGE = 50;
const GAP_PAGE = 200;
const SYNC_PAGE = 500;
/** A sync stops after so many pages; the next one goes on. */
const SYNC_PAGES_LIMIT = 2_000;
/** A jump into the past shows the message with so many newer ones below it. */
const JUMP_BELOW = 20;
/** On sync the newest conversations with a short undelivered backlog are brought, so that it counts as delivered. */
const BACKLOG_CONVERSATIONS = 50;
const BACKLOG_MESSAGES = 200;
/** A log that is further behind than this isn't filled up: it begins anew from the newest page. */
const BEHIND_LIMIT = 2 * GAP_PAGE;
/** So many conversations with unread messages are asked for again after a sync: other devices may have read them. */
const REFRESH_LIMIT = 20;
/** Messages on the way close most gaps by themselves within this time. */
const GAP_PAUSE_MS = 150;
/** Cursors of a burst of messages leave as one. */
const CURSOR_PAUSE_MS = 100;
/** An empty answer about a gap is asked again so often (a replica may be behind) before the gap is given up. */
const GAP_ATTEMPTS = 5;
/** A list without the conversation of a message (the user may have left it since) is asked for so often. */
const LEARN_ATTEMPTS = 5;
/** So often the first page of an opened conversation is asked for; the next sync, or opening it, asks again. */
const LOAD_ATTEMPTS = 5;

export class Feed {
  /**
   * `onSynced()` after each complete sync; `onLive(message)` for each message of others that has just been written;
   * `listeners`: by the names of events that are no business of the store's.
   */
  constructor({ store, connection, api, outbox, onSynced = () => {}, onLive = () => {}, listeners = {}, wait = sleep, random = Math.random }) {
    Object.assign(this, { store, connection, api, outbox, onSynced, onLive, listeners, wait, random });
    this.openId = 0;
    this.visible = false;
    this.synced = false;
    this.epoch = 0;
    /** Work under way, by kind and conversation, so that nothing is asked twice at once. */
    this.busy = new Map();
    /** Where the logs stood that were left as too far behind: the newest seq by conversation. */
    this.left = new Map();
    /** The cursors sent on this connection. */
    this.told = new Map();
    /** How often in turn each has failed. */
    this.untold = new Map();
  }

  // ---- The connection's life ----

  onDown() {
    this.epoch += 1;
    this.synced = false;
    this.told.clear();
    this.untold.clear();
    this.store.requeueAll();
  }

  /** Brings the store up to date; called after each welcome. */
  async onWelcome() {
    const epoch = (this.epoch += 1);
    for (let attempt = 0; epoch === this.epoch; attempt += 1) {
      try {
        await this.sync(epoch);
        break;
      } catch (error) {
        if (error.code === 'disconnected' || epoch !== this.epoch) return;
        // The token may be too old for the server: the whole list is always right.
        if (!error.retryable) this.store.syncToken = '';
        // What the user writes needn't wait for the list.
        this.outbox.pumpAll();
        await this.wait(Math.max(error.retryAfterMs ?? 0, backoffMs(attempt, this.random)));
      }
    }
    if (epoch !== this.epoch) return;
    this.synced = true;
    this.onSynced();
    this.outbox.pumpAll();
    for (const id of this.store.conversations.keys()) this.tend(id);
    if (this.openId) this.load(this.openId);
    this.refreshUncertain();
  }

  /** Takes the list of what has changed since the last one; resolves to the ids in it. */
  async list(epoch) {
    const since = this.store.syncToken;
    const ids = [];
    let token = '';
    let page = '';
    let moreHidden = false;
    for (let pages = 0; pages < SYNC_PAGES_LIMIT; pages += 1) {
      const answer = await this.connection.request('sync', { cursors: [], since, page, limit: SYNC_PAGE });
      if (epoch !== this.epoch) return ids;
      for (const conversation of answer.conversations ?? []) {
        this.store.applyConversation(conversation);
        ids.push(conversation.conversation_id);
      }
      this.applyHidden(answer);
      moreHidden ||= answer.hidden_more ?? false;
      // The first page's token is the oldest: what changes while we page is named again by the next sync.
      token ||= answer.sync_token ?? '';
      page = answer.next_page ?? '';
      if (!page) break;
    }
    this.store.syncToken = token || since;
    // The token says where to go on.
    if (moreHidden && token && token !== since) return [...ids, ...(await this.list(epoch))];
    return ids;
  }

  async sync(epoch) {
    await this.list(epoch);
    if (epoch !== this.epoch) return;
    for (const id of this.store.conversations.keys()) this.leaveBehind(id);
    this.store.adoptBacklogs(BACKLOG_CONVERSATIONS, BACKLOG_MESSAGES);
    for (let pages = 0; pages < SYNC_PAGES_LIMIT; pages += 1) {
      const cursors = this.store.cursors();
      if (cursors.length === 0) break;
      const answer = await this.connection.request('sync', { cursors, since: this.store.syncToken, limit: SYNC_PAGE });
      if (epoch !== this.epoch) return;
      for (const conversation of answer.conversations ?? []) this.store.applyConversation(conversation);
      this.applyHidden(answer);
      for (const message of answer.messages ?? []) this.onMessage(message);
      if (!answer.more || (answer.messages ?? []).length === 0) break;
    }
    return undefined;
  }

  /** What this user hid while this device was away. */
  applyHidden({ hidden = [] }) {
    for (const { conversation_id: id, seqs = [] } of hidden) for (const seq of seqs) this.store.hideMessage(id, seq);
  }

  onEvent(name, body) {
    if (name === 'message') this.onMessage(body, { live: true });
    else if (name === 'receipt') this.store.applyReceipt(body);
    else if (name === 'conversation') this.onConversation(body);
    else this.listeners[name]?.(body); // An event of a later version is nobody's, and changes nothing.
  }

  async onMessage(message, { live = false } = {}) {
    const outcome = this.store.applyMessage(message);
    if (outcome === 'unknown') await this.learn(message.conversation_id);
    else if (outcome === 'added') this.tend(message.conversation_id);
    if (live && outcome !== 'duplicate' && message.sender_id !== this.store.userId) this.onLive(message);
  }

  onConversation(conversation) {
    const known = this.store.get(conversation.conversation_id);
    if (!this.store.applyConversation(conversation)) return;
    if (!known) this.store.adoptBacklogs(BACKLOG_CONVERSATIONS, BACKLOG_MESSAGES);
    this.tend(conversation.conversation_id);
  }

  // ---- What the views ask for ----

  /** A conversation is on the screen; 0: none is. */
  open(id) {
    if (this.openId && this.openId !== id) {
      this.store.leaveExcerpt(this.openId);
      this.store.get(this.openId)?.log.trim();
    }
    this.openId = id;
    if (id) this.load(id);
  }

  setVisible(visible) {
    this.visible = visible;
    if (visible && this.openId) this.tend(this.openId);
  }

  /** Loads enough to fill a screen, and the state that live events may have missed. */
  async load(id) {
    this.refresh(id);
    for (let attempt = 0; attempt < LOAD_ATTEMPTS && id === this.openId; attempt += 1) {
      const log = this.store.get(id)?.log;
      if (log && !(log.loaded && (log.atStart || log.list().length >= HISTORY_PAGE))) await this.loadOlder(id);
      if (!log || log.loaded || !this.connection.online) break;
      await this.wait(backoffMs(attempt, this.random));
    }
    this.tend(id);
  }

  /** One more page of older messages; resolves to whether there may be more. */
  loadOlder(id) {
    return this.single(`older ${id}`, async () => {
      const conversation = this.store.get(id);
      if (!conversation || !this.connection.online) return false;
      const { info, excerpt } = conversation;
      const log = excerpt ?? conversation.log;
      if (log.loaded && log.low <= Math.max(info.first_seq, 1)) log.atStart = true;
      if (log.loaded && log.atStart) {
        this.store.changed(id);
        return false;
      }
      const wasLoaded = log.loaded;
      const beforeSeq = wasLoaded ? log.low : NEWEST;
      try {
        const page = await this.connection.request('history', { conversation_id: id, before_seq: beforeSeq, limit: HISTORY_PAGE });
        // The user may look at another place by now, or a sync may have begun the log, and then brings what is newer.
        const begunElsewhere = !wasLoaded && log.loaded && !log.touches(page.messages ?? [], beforeSeq);
        if (!this.isShown(id, conversation, excerpt) || begunElsewhere) {
          this.store.changed(id);
          return true;
        }
        if (excerpt) this.store.growExcerpt(id, { beforeSeq }, page);
        else this.store.applyHistory(id, { beforeSeq }, { more: false, messages: [], ...page });
        return !log.atStart;
      } catch {
        return true; // Scrolling, or the next sync, asks again.
      }
    });
  }

  /** One more page of newer messages, where the user looks at a place in the past. */
  loadNewer(id) {
    return this.single(`newer ${id}`, async () => {
      const conversation = this.store.get(id);
      const excerpt = conversation?.excerpt;
      const afterSeq = excerpt?.high ?? 0;
      if (!afterSeq || !this.connection.online) return;
      try {
        const page = await this.connection.request('history', { conversation_id: id, after_seq: afterSeq, limit: HISTORY_PAGE });
        if (this.isShown(id, conversation, excerpt)) this.store.growExcerpt(id, { afterSeq }, page);
      } catch {
        // Scrolling asks again.
      }
      this.tend(id);
    });
  }

  /**
   * Brings the message `seq` to where the timeline shows it; resolves to whether it is there, or to undefined where
   * another jump was asked for meanwhile. Rejects as the server does.
   */
  reveal(id, seq) {
    this.revealing = `${id} ${seq}`;
    return this.single(`reveal ${id} ${seq}`, async () => {
      const conversation = this.store.get(id);
      if (!conversation) return false;
      if (conversation.excerpt?.get(seq)) return true;
      const { log } = conversation;
      if (log.loaded && seq >= log.low) {
        this.store.leaveExcerpt(id);
        return log.get(seq) !== undefined;
      }
      const beforeSeq = seq + 1 + JUMP_BELOW;
      const page = await this.connection.request('history', { conversation_id: id, before_seq: beforeSeq, limit: HISTORY_PAGE });
      // Only the last of several jumps leads anywhere.
      if (this.revealing !== `${id} ${seq}`) return undefined;
      this.store.showExcerpt(id, beforeSeq, page);
      return this.store.shown(id)?.get(seq) !== undefined;
    });
  }

  /** Brings a message that another one on the screen answers, one at a time; what can't be had stays unknown. */
  async wantQuoted(id, seq) {
    const quoted = this.store.get(id)?.quoted;
    if (!quoted || quoted.has(seq) || !this.connection.online) return;
    quoted.set(seq, null);
    const before = this.quoting;
    let done;
    this.quoting = new Promise((resolve) => (done = resolve));
    await before;
    try {
      const page = await this.connection.request('history', { conversation_id: id, before_seq: seq + 1, limit: 1 });
      const message = (page.messages ?? []).find((found) => found.seq === seq);
      if (message) this.store.setQuoted(id, seq, message);
    } catch (error) {
      if (error.retryable) quoted.delete(seq); // The next drawing asks again.
    }
    done();
  }

  /** Asks for a conversation's state again. */
  refresh(id) {
    return this.single(`refresh ${id}`, async () => {
      try {
        this.store.applyConversation(await this.api.conversation(id));
      } catch (error) {
        if (error.code === 'not_found') this.store.remove(id);
      }
    });
  }

  /** The user has read a conversation without opening it. Rejects with what the server says. */
  async readAll(id) {
    const info = this.store.get(id)?.info;
    if (!info) return;
    if (info.marked_unread) await this.api.prefer(id, { marked_unread: false });
    if (info.last_seq > 0) await this.connection.request('read', { conversation_id: id, seq: info.last_seq });
    this.store.markRead(id, info.last_seq);
    this.store.markAcked(id, 'read', info.last_seq);
    this.store.setInfo(id, { unread: 0, marked_unread: false });
  }

  // ---- Inside ----

  /** Whether the user sees what is new in a conversation: not one who looks at its past. */
  isSeen(id) {
    return id === this.openId && this.visible && !this.store.get(id)?.excerpt;
  }

  /** Whether a page asked for while `excerpt` (null: the log) was shown is still about what is shown. */
  isShown(id, conversation, excerpt) {
    return this.store.get(id) === conversation && conversation.excerpt === excerpt;
  }

  /** Does for a conversation whatever its state calls for. */
  tend(id) {
    const conversation = this.store.get(id);
    if (!conversation) return;
    if (conversation.stale) this.refresh(id);
    if (this.isSeen(id)) this.store.markRead(id, this.store.readable(id));
    if (this.leaveBehind(id)) {
      if (id === this.openId) this.load(id);
    } else if (conversation.log.hasGap(conversation.info.last_seq)) this.repair(id);
    if (id !== this.openId) conversation.log.trim(KEPT_MESSAGES, KEPT_MESSAGES);
    if (conversation.log.loaded) this.tellCursors(id);
  }

  /** Empties a log that is too far behind to be filled up; whether it was. */
  leaveBehind(id) {
    const { log, info } = this.store.get(id);
    // Should even the newest page end before `last_seq`, the rest is a gap like any other.
    if (!log.loaded || info.last_seq - log.high <= BEHIND_LIMIT || this.left.get(id) === info.last_seq) return false;
    this.left.set(id, info.last_seq);
    this.store.beginAnew(id);
    return true;
  }

  /** Fills a gap by history, page by page. */
  repair(id) {
    return this.single(`repair ${id}`, async () => {
      await this.wait(GAP_PAUSE_MS);
      let empty = 0;
      let failures = 0;
      while (this.connection.online) {
        const conversation = this.store.get(id);
        if (!conversation?.log.hasGap(conversation.info.last_seq)) break;
        const { log, info } = conversation;
        const high = log.high;
        // After seq 0 would be the same as naming no seq at all; what comes before GAP_PAGE + 1 is that page too.
        const range = high > 0 ? { after_seq: high } : { before_seq: GAP_PAGE + 1 };
        try {
          const page = await this.connection.request('history', { conversation_id: id, ...range, limit: GAP_PAGE });
          this.store.applyHistory(id, { afterSeq: high }, { messages: page.messages ?? [] });
        } catch (error) {
          // What was refused is asked again by the next sync; what failed is asked again at a bounded pace.
          failures += 1;
          if (!error.retryable || error.code === 'disconnected') break;
          await this.wait(Math.max(error.retryAfterMs, backoffMs(failures, this.random)));
          continue;
        }
        empty = log.high > high ? 0 : empty + 1;
        if (empty > GAP_ATTEMPTS) {
          log.giveUpGap(info.last_seq);
          this.store.changed(id);
        } else if (empty > 0) {
          await this.wait(backoffMs(empty, this.random));
        }
      }
      this.tellCursors(id);
    });
  }

  /**
   * A message came of a conversation that we don't know: the list over the same connection has it, whether or not the
   * page's own server can be reached. It is asked for until it is there or the connection goes, whose successor syncs.
   */
  learn(id) {
    return this.single(`learn ${id}`, async () => {
      const { epoch } = this;
      let absent = 0;
      for (let attempt = 0; epoch === this.epoch && absent < LEARN_ATTEMPTS; attempt += 1) {
        let pauseMs = backoffMs(attempt, this.random);
        try {
          // A sync under way may be past the place where it belongs.
          const ids = this.synced ? await this.single('list', () => this.list(epoch)) : [];
          if (epoch !== this.epoch) return;
          this.store.adoptBacklogs(BACKLOG_CONVERSATIONS, BACKLOG_MESSAGES);
          for (const each of ids) this.tend(each);
          if (this.store.get(id)) return;
          if (this.synced) absent += 1;
        } catch (error) {
          if (!error.retryable) this.store.syncToken = '';
          pauseMs = Math.max(error.retryAfterMs ?? 0, pauseMs);
        }
        await this.wait(pauseMs);
      }
    });
  }

  /** The server's list may have missed cursors of other devices, which change no conversation. */
  refreshUncertain() {
    const uncertain = this.store.list().filter(({ info }) => info.unread > 0 && info.conversation_id !== this.openId);
    for (const { info } of uncertain.slice(0, REFRESH_LIMIT)) this.refresh(info.conversation_id);
  }

  /** Tells the server what was delivered, and read where the user sees it. */
  tellCursors(id) {
    return this.single(`cursors ${id}`, async () => {
      await this.wait(CURSOR_PAUSE_MS);
      this.tell(id, 'delivered', this.store.deliverable(id));
      if (!this.isSeen(id)) return;
      const seq = this.store.readable(id);
      if (seq) this.store.markRead(id, seq);
      this.tell(id, 'read', seq);
    });
  }

  async tell(id, which, seq) {
    const key = `${which} ${id}`;
    if (seq <= (this.told.get(key) ?? 0) || !this.connection.online) return;
    this.told.set(key, seq);
    try {
      await this.connection.request(which, { conversation_id: id, seq });
      this.untold.delete(key);
      this.store.markAcked(id, which, seq);
    } catch (error) {
      if (this.told.get(key) !== seq) return;
      this.told.delete(key); // The next occasion tells it again: at the latest the next connection, or after a pause.
      if (!error.retryable || error.code === 'disconnected') return;
      const failures = this.untold.get(key) ?? 0;
      this.untold.set(key, failures + 1);
      const { epoch } = this;
      await this.wait(Math.max(error.retryAfterMs ?? 0, backoffMs(failures, this.random)));
      if (epoch === this.epoch && !this.told.has(key)) this.tellCursors(id);
    }
  }

  /** Runs `work` unless the same is under way, and then returns that one's promise. */
  single(key, work) {
    const running = this.busy.get(key);
    if (running) return running;
    const promise = work().finally(() => this.busy.delete(key));
    this.busy.set(key, promise);
    return promise;
  }
}

function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
