// How other users are: watched over the socket, typed words included. No DOM.

import { backoffMs } from './connection.js';

/** Changes of who is watched gather for so long, as each names the whole set. */
const WATCH_PAUSE_MS = 300;
/** The protocol's bound of one watch. */
export const WATCH_MAX = 1_000;
/** Somebody who said nothing more is not typing any more. */
export const TYPING_MS = 6_000;
/** While the user types it is said again after this; and that it ended, after so long without a key. */
const TYPING_AGAIN_MS = 3_000;
const TYPING_IDLE_MS = 5_000;

const browserClock = {
  now: () => Date.now(),
  setTimeout: (call, ms) => setTimeout(call, ms),
  clearTimeout: (timer) => clearTimeout(timer),
};

export class Presence {
  /** `wanted()` lists the ids to watch, the most wanted first. `onChange()` is called when anybody has changed. */
  constructor({ connection, wanted, onChange, clock = browserClock, random = Math.random }) {
    Object.assign(this, { connection, wanted, onChange, clock, random });
    this.known = new Map();
    this.watched = '';
    /** How often in turn watching has failed. */
    this.failures = 0;
  }

  /** `{status, text, last_seen_ms}`; undefined: not known. */
  get(userId) {
    return this.known.get(userId);
  }

  apply(presence) {
    this.known.set(presence.user_id, presence);
    this.onChange();
  }

  /** A new connection watches nobody yet. */
  onWelcome() {
    this.watched = '';
    this.failures = 0;
    this.clock.clearTimeout(this.timer);
    this.timer = undefined;
    this.review();
  }

  /** Nobody tells us anything any more, so nobody is shown as if somebody did. */
  onDown() {
    this.known.clear();
    this.onChange();
  }

  /** Watches whom it should, soon; called whenever that may have changed. */
  review(pauseMs = WATCH_PAUSE_MS) {
    if (this.timer) return;
    this.timer = this.clock.setTimeout(() => {
      this.timer = undefined;
      this.watch();
    }, pauseMs);
  }

  async watch() {
    const ids = [...new Set(this.wanted())].filter(Boolean).slice(0, WATCH_MAX).sort((a, b) => a - b);
    const key = ids.join();
    if (key === this.watched || !this.connection.online) return;
    this.watched = key;
    try {
      const page = await this.connection.request('watch_presence', { user_ids: ids });
      this.failures = 0;
      for (const presence of page.users ?? []) this.known.set(presence.user_id, presence);
      this.onChange();
    } catch (error) {
      if (this.watched !== key) return;
      this.watched = '';
      // What was refused is asked again when there is something else to ask; without a connection the next one asks.
      if (!error.retryable || !this.connection.online) return;
      this.review(Math.max(error.retryAfterMs ?? 0, backoffMs(this.failures, this.random)));
      this.failures += 1;
    }
  }
}

/** Who is typing where, and that this user is. */
export class Typing {
  constructor({ connection, userId, onChange, clock = browserClock }) {
    Object.assign(this, { connection, userId, onChange, clock });
    /** Conversation → user → the timer that ends it. */
    this.others = new Map();
    this.own = { id: 0, saidAtMs: 0 };
  }

  /** The users who type in a conversation. */
  in(id) {
    return [...(this.others.get(id)?.keys() ?? [])];
  }

  apply({ conversation_id: id, user_id: userId, active }) {
    if (userId === this.userId) return;
    const typists = this.others.get(id) ?? new Map();
    this.clock.clearTimeout(typists.get(userId));
    typists.delete(userId);
    if (active) typists.set(userId, this.clock.setTimeout(() => this.apply({ conversation_id: id, user_id: userId, active: false }), TYPING_MS));
    this.others.set(id, typists);
    this.onChange(id);
  }

  /** The user has pressed a key in the composer of `id`, which has text in it or not. */
  touched(id, hasText) {
    if (!hasText) return this.rest();
    const now = this.clock.now();
    if (this.own.id !== id) this.rest();
    this.clock.clearTimeout(this.idle);
    this.idle = this.clock.setTimeout(() => this.rest(), TYPING_IDLE_MS);
    if (this.own.id === id && now - this.own.saidAtMs < TYPING_AGAIN_MS) return;
    this.own = { id, saidAtMs: now };
    this.say(id, true);
  }

  /** The user types no more: it was sent, emptied or left. `quietly`: the message itself says so. */
  rest({ quietly = false } = {}) {
    this.clock.clearTimeout(this.idle);
    const { id } = this.own;
    this.own = { id: 0, saidAtMs: 0 };
    if (id && !quietly) this.say(id, false);
  }

  say(id, active) {
    if (this.connection.online) this.connection.request('typing', { conversation_id: id, active }).catch(() => {}); // It is soon over anyway.
  }

  onDown() {
    for (const typists of this.others.values()) for (const timer of typists.values()) this.clock.clearTimeout(timer);
    this.others.clear();
    this.own = { id: 0, saidAtMs: 0 };
    this.clock.clearTimeout(this.idle);
  }
}
