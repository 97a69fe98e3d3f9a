// What was begun and not sent, by conversation: kept here at once, and at the server soon, so that the user's other
// devices have it too. No DOM.

/** The server is told when the user has paused for this long. */
export const SAVE_PAUSE_MS = 1_200;
/** The server takes no longer ones; beyond, a draft stays on this device. */
const DRAFT_MAX = 4_096;

const browserClock = { setTimeout: (call, ms) => setTimeout(call, ms), clearTimeout: (timer) => clearTimeout(timer) };
const EMPTY = { text: '', reply_to_seq: 0 };

export class Drafts {
  constructor({ api, store, clock = browserClock }) {
    Object.assign(this, { api, store, clock });
    /** What this device has and the server may not, with the timer that tells it. */
    this.unsaved = new Map();
    /** The newest draft of the server's that this device's own words have replaced or sent. */
    this.superseded = new Map();
  }

  get(id) {
    const own = this.unsaved.get(id);
    if (own) return own.draft;
    const draft = this.store.get(id)?.info.draft;
    if (!draft || draft.updated_at_ms <= (this.superseded.get(id) ?? 0)) return EMPTY;
    return draft;
  }

  /** Whether this device has words that the server may not have yet. */
  isUnsaved(id) {
    return this.unsaved.has(id);
  }

  set(id, text, replyToSeq = 0) {
    const before = this.get(id);
    if (before.text === text && (before.reply_to_seq ?? 0) === replyToSeq) return;
    this.clock.clearTimeout(this.unsaved.get(id)?.timer);
    const timer = this.clock.setTimeout(() => this.save(id), SAVE_PAUSE_MS);
    this.unsaved.set(id, { draft: { text, reply_to_seq: replyToSeq }, timer });
  }

  /** It was sent, or thrown away. */
  clear(id) {
    const known = this.unsaved.has(id) || this.store.get(id)?.info.draft;
    this.clock.clearTimeout(this.unsaved.get(id)?.timer);
    this.unsaved.delete(id);
    if (!known) return;
    this.unsaved.set(id, { draft: EMPTY, timer: undefined });
    this.save(id);
  }

  async save(id) {
    const own = this.unsaved.get(id);
    if (!own || own.draft.text.length > DRAFT_MAX) return;
    const { text, reply_to_seq: replyToSeq } = own.draft;
    const gone = text.trim() === '' && !replyToSeq;
    // An echo of what stood there before must not come back into the composer.
    this.superseded.set(id, this.store.get(id)?.info.draft?.updated_at_ms ?? 0);
    try {
      await (gone ? this.api.discardDraft(id) : this.api.saveDraft(id, { text, reply_to_seq: replyToSeq }));
      if (this.unsaved.get(id) !== own) return;
      this.unsaved.delete(id);
      this.store.setDraft(id, gone ? null : { text, reply_to_seq: replyToSeq, updated_at_ms: (this.superseded.get(id) ?? 0) + 1 });
    } catch {
      // It stays here; the next key tells the server again.
    }
  }
}
