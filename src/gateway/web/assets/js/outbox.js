// Sends what the user wrote: one message of a conversation at a time, so that their order holds whatever fails, and
// again under the same client_id until it is answered. The store holds the queue; this drives it. No DOM.

import { backoffMs } from './connection.js';

/** After so many tries the message is marked as failed, and the user decides. */
export const SEND_ATTEMPTS = 8;

export class Outbox {
  constructor({ store, connection, clock = { setTimeout: (call, ms) => setTimeout(call, ms) }, random = Math.random }) {
    Object.assign(this, { store, connection, clock, random });
    /** Conversations that pause before the next try. */
    this.paused = new Set();
  }

  /** Queues a text, with what it answers, names, and when it vanishes; false: too many are waiting already. */
  enqueue(id, text, clientId, nowMs, { replyToSeq = 0, mentions = [], expiresInSeconds = 0 } = {}) {
    const taken = this.store.addPending(id, {
      client_id: clientId, text, created_at_ms: nowMs, reply_to_seq: replyToSeq, mentions, expires_in_seconds: expiresInSeconds,
    });
    if (taken) this.pump(id);
    return taken;
  }

  /** The user wants a failed message tried again. */
  retry(id, clientId) {
    this.store.setPending(id, clientId, { state: 'queued', attempts: 0, error: '' });
    this.pump(id);
  }

  /** Goes on with everything: called when the connection is up and synced. */
  pumpAll() {
    this.paused.clear();
    for (const id of this.store.conversations.keys()) this.pump(id);
  }

  async pump(id) {
    if (!this.connection.online || this.paused.has(id)) return;
    const send = this.store.nextToSend(id);
    if (!send) return;
    const clientId = send.client_id;
    this.store.setPending(id, clientId, { state: 'sending', attempts: send.attempts + 1 });
    try {
      const sent = await this.connection.request('send', {
        conversation_id: id,
        client_id: clientId,
        kind: 'text',
        text: send.text,
        reply_to_seq: send.reply_to_seq,
        mentions: send.mentions,
        ...(send.expires_in_seconds ? { expires_in_seconds: send.expires_in_seconds } : {}),
      });
      this.store.applySent(id, { ...sent, client_id: clientId });
    } catch (error) {
      if (!this.settle(id, clientId, send.attempts, error)) return;
    }
    this.pump(id);
  }

  /** Decides what becomes of a send that was refused or not answered; whether the next may go at once. */
  settle(id, clientId, attempts, error) {
    if (error.code === 'disconnected') {
      // Nobody refused it: the try does not count, and the next connection brings it.
      this.store.setPending(id, clientId, { state: 'queued', attempts: attempts - 1 });
      return false;
    }
    if (!error.retryable || attempts >= SEND_ATTEMPTS) {
      this.store.setPending(id, clientId, { state: 'failed', error: error.message });
      return true;
    }
    // What the room asks to wait for, such as slow mode, is worth saying; trouble of the server's own is not.
    this.store.setPending(id, clientId, { state: 'queued', error: error.code === 'resource_exhausted' ? error.message : '' });
    this.paused.add(id);
    const pauseMs = Math.max(error.retryAfterMs ?? 0, backoffMs(attempts - 1, this.random));
    this.clock.setTimeout(() => {
      this.paused.delete(id);
      this.pump(id);
    }, pauseMs);
    return false;
  }
}
