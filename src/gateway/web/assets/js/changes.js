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

  /** Asks until it is answered; then the log has the entry as if another device had made it. */
  async make(request, id, seq, body, entry) {
    const clientId = this.newId();
    for (let attempt = 1; ; attempt += 1) {
      try {
        const sent = await this.connection.request(request, { conversation_id: id, target_seq: seq, client_id: clientId, ...body });
        this.store.applyMessage({
          conversation_id: id, seq: sent.seq, sender_id: this.store.userId, client_id: clientId, text: '', attachments: [],
          reply_to_seq: 0, mentions: [], emoji: '', created_at_ms: sent.created_at_ms || this.now(), edited_at_ms: 0, recalled: false,
          reactions: [], ...entry, target_seq: seq,
        });
        return;
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
