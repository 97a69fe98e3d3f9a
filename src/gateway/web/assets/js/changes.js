// What a user does to messages that stand already: edit, recall, react. Each is an entry of the log under a client_id
// of its own, so a try that got no answer is repeated safely, on whatever connection comes next. No DOM.

import { backoffMs } from './connection.js';

/** So often a change is tried before the user is told that it failed. */
export const CHANGE_ATTEMPTS = 6;

export class Changes {
  constructor({ store, connection, newId, now = () => Date.now(), wait = sleep, random = Math.random }) {
    Object.assign(this, { store, connection, newId, now, wait, random });
  }

  edit(id, seq, text) {
    return this.make('edit', id, seq, { text }, { kind: 'edit', text });
  }

  recall(id, seq) {
    return this.make('recall', id, seq, {}, { kind: 'recall' });
  }

  react(id, seq, emoji, remove) {
    return this.make('react', id, seq, { emoji, remove }, { kind: 'reaction', emoji, recalled: remove });
  }

  /** Gives the server a text to send at a later time; resolves to when. */
  async schedule(id, text, sendAtMs, { replyToSeq = 0, mentions = [], expiresInSeconds = 0 } = {}) {
    const kept = await this.ask('send', {
      conversation_id: id, client_id: this.newId(), kind: 'text', text, reply_to_seq: replyToSeq, mentions,
      send_at_ms: sendAtMs, ...(expiresInSeconds ? { expires_in_seconds: expiresInSeconds } : {}),
    });
    return kept.send_at_ms ?? 0;
  }

  /** Asks until it is answered; then the log has the entry as if another device had made it. */
  async make(request, id, seq, body, entry) {
    const clientId = this.newId();
    const sent = await this.ask(request, { conversation_id: id, target_seq: seq, client_id: clientId, ...body });
    this.store.applyMessage({
      conversation_id: id, seq: sent.seq, sender_id: this.store.userId, client_id: clientId, text: '', attachments: [],
      reply_to_seq: 0, mentions: [], emoji: '', created_at_ms: sent.created_at_ms || this.now(), edited_at_ms: 0, recalled: false,
      reactions: [], ...entry, target_seq: seq,
    });
  }

  async ask(request, body) {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.connection.request(request, body);
      } catch (error) {
        if (!error.retryable || attempt >= CHANGE_ATTEMPTS) throw error;
        await this.wait(Math.max(error.retryAfterMs ?? 0, backoffMs(attempt - 1, this.random)));
      }
    }
  }
}

function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
