// What the tests of the web client share: messages and conversations as the server writes them, a clock that only
// moves when told to, and a socket whose other end is the test.

import { Store } from '../../src/gateway/web/assets/js/store.js';

export const ME = 1;
export const PEER = 2;

export function message(seq, fields = {}) {
  return {
    conversation_id: 7, seq, sender_id: PEER, client_id: '', kind: 'text', text: `text ${seq}`, attachments: [],
    reply_to_seq: 0, mentions: [], target_seq: 0, emoji: '', created_at_ms: 1_000 + seq, edited_at_ms: 0,
    recalled: false, reactions: [], ...fields,
  };
}

/** Messages `from` to `to`, both included. */
export function messages(from, to, fields = {}) {
  return Array.from({ length: to - from + 1 }, (_, at) => message(from + at, fields));
}

export function conversation(fields = {}) {
  return {
    conversation_id: 7, kind: 'direct', name: '', description: '', avatar_file_id: 0, owner_id: 0, join_policy: 'open',
    member_count: 2, first_seq: 1, last_seq: 0, read_seq: 0, delivered_seq: 0, unread: 0, peer_user_id: PEER,
    peer_read_seq: 0, peer_delivered_seq: 0, role: 'member', muted_until_ms: 0, pinned: false, updated_at_ms: 100,
    removed: false, ...fields,
  };
}

export function storeWith(fields) {
  const store = new Store(ME);
  store.applyConversation(conversation(fields));
  return store;
}

/** The texts that the log shows, in order. */
export const texts = (store, id = 7) => store.get(id).log.list().map(({ text }) => text);

export class FakeClock {
  constructor() {
    this.ms = 0;
    this.timers = new Map();
    this.last = 0;
  }

  now() {
    return this.ms;
  }

  setTimeout(call, ms) {
    this.timers.set((this.last += 1), { call, atMs: this.ms + ms });
    return this.last;
  }

  clearTimeout(timer) {
    this.timers.delete(timer);
  }

  /** Moves the time on, running what falls due in its order, and lets promises settle. */
  async advance(ms) {
    await settle();
    const until = this.ms + ms;
    for (;;) {
      const due = [...this.timers].filter(([, { atMs }]) => atMs <= until).sort((a, b) => a[1].atMs - b[1].atMs || a[0] - b[0])[0];
      if (!due) break;
      this.timers.delete(due[0]);
      this.ms = Math.max(this.ms, due[1].atMs);
      due[1].call();
      await settle();
    }
    this.ms = until;
    await settle();
  }
}

/** Moves the time on in small steps until `condition()` holds. */
export async function until(clock, condition) {
  for (let steps = 0; steps < 1_000; steps += 1) {
    if (condition()) return;
    await clock.advance(100);
  }
  throw new Error(`never came true: ${condition}`);
}

/** Lets everything that waits for resolved promises run. */
export async function settle() {
  for (let turn = 0; turn < 3; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

/** A WebSocket class whose instances are kept in `sockets`; the test plays the server. */
export function fakeSockets() {
  const sockets = [];
  class Socket {
    constructor(url) {
      this.url = url;
      this.sent = [];
      this.closed = false;
      sockets.push(this);
    }

    send(text) {
      this.sent.push(JSON.parse(text));
    }

    close() {
      this.closed = true;
    }

    // What the server does.

    open() {
      this.onopen?.();
    }

    say(frame) {
      this.onmessage?.({ data: JSON.stringify(frame) });
    }

    end(code = 1006) {
      this.onclose?.({ code });
    }

    /** The newest request of that name. */
    asked(name) {
      return this.sent.findLast((frame) => frame[name] !== undefined);
    }

    async answer(name, body) {
      this.say({ reply_to: this.asked(name).id, ...body });
      await settle();
    }

    async welcome(fields = {}) {
      this.open();
      await settle();
      await this.answer('hello', {
        welcome: { user_id: ME, device_id: 1, session_id: 1, token: '', node: 'n1', heartbeat_ms: 30_000, max_frame_bytes: 1_000, ...fields },
      });
    }
  }
  return { Socket, sockets };
}
