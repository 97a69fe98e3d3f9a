// The messages of one conversation, by seq. Pure state: no DOM, no network, no clock.
//
// A log knows one range, [low, high], of which it holds every message the server has; what arrives beyond a jump
// is held outside of it until the gap is filled. Cursors (`delivered`, `read`, sync) only ever name `high`, so that
// nothing in a gap is ever confirmed.

/** The most messages a log keeps when its conversation isn't on the screen, and as many again before it is cut down to them. */
export const KEPT_MESSAGES = 250;

export class MessageLog {
  constructor() {
    this.bySeq = new Map();
    /** The range known without a gap; null before anything was loaded. Empty when high is low - 1. */
    this.low = null;
    this.high = null;
    /** Whether there is nothing older to ask for. */
    this.atStart = false;
    /** The seqs behind which a gap was given up (see giveUpGap). */
    this.holes = new Set();
    this.order = null;
  }

  get loaded() {
    return this.low !== null;
  }

  has(seq) {
    return this.bySeq.has(seq) || (this.loaded && seq >= this.low && seq <= this.high);
  }

  get(seq) {
    return this.bySeq.get(seq);
  }

  /** Says that everything after `seq` is wanted: the log is known up to it, without holding what came before. */
  beginAfter(seq) {
    this.low = seq + 1;
    this.high = seq;
    this.atStart = seq === 0;
    this.absorb();
  }

  /** Takes one message, live or from a sync page; false: it is there already, or before all that is kept. */
  put(message) {
    if (!this.loaded || message.seq <= this.high || this.bySeq.has(message.seq)) return false;
    this.bySeq.set(message.seq, message);
    this.order = null;
    this.absorb();
    return true;
  }

  /** Replaces a message's state by a newer one, where the log holds it. */
  replace(message) {
    if (!this.bySeq.has(message.seq)) return false;
    this.bySeq.set(message.seq, message);
    return true;
  }

  /** Whether a history page of what comes before `beforeSeq` leaves nothing unknown between itself and the range. */
  touches(messages, beforeSeq) {
    if (!this.loaded || messages.length === 0) return true;
    const reachesDown = messages[0].seq <= this.high + 1;
    // The server has nothing between the page's last message and `beforeSeq`.
    const reachesUp = beforeSeq >= this.low || messages.at(-1).seq + 1 >= this.low;
    return reachesDown && reachesUp;
  }

  /**
   * Takes a history page of what comes before `beforeSeq`; the first page begins the range. Of a page and a range that
   * don't touch only the newer stays: a range over both would claim to hold what lies between them.
   */
  coverBefore(messages, beforeSeq, more) {
    const first = messages[0]?.seq;
    const last = messages.at(-1)?.seq;
    const touching = this.touches(messages, beforeSeq);
    if (!touching && last < this.low) return;
    for (const message of messages) this.bySeq.set(message.seq, message);
    this.order = null;
    if (!this.loaded || !touching) {
      this.low = first ?? 1;
      this.high = last ?? 0;
      this.atStart = !more;
      for (const seq of this.bySeq.keys()) if (seq < this.low) this.bySeq.delete(seq);
    } else {
      // A page within the range says nothing of what comes before the range.
      if ((first ?? 0) <= this.low) this.atStart = !more;
      if (first !== undefined) this.low = Math.min(this.low, first);
      if (last !== undefined) this.high = Math.max(this.high, last);
    }
    this.absorb();
  }

  /** Takes a history page of what comes after `afterSeq`; seqs that the server skips in it are not a gap. */
  coverAfter(messages, afterSeq) {
    for (const message of messages) if (!this.has(message.seq)) this.bySeq.set(message.seq, message);
    this.order = null;
    if (this.loaded && afterSeq <= this.high && messages.length > 0) {
      this.high = Math.max(this.high, messages.at(-1).seq);
    }
    this.absorb();
  }

  /** Nothing before `seq` can be had any more (a member that came back): it is no gap. */
  raiseFirst(seq) {
    if (this.loaded && seq > this.high + 1) {
      this.high = seq - 1;
      this.absorb();
    }
  }

  /** Whether something up to `lastSeq`, or before a message held, is missing. */
  hasGap(lastSeq) {
    if (!this.loaded) return false;
    const newest = this.seqs().at(-1) ?? 0;
    return Math.max(lastSeq, newest) > this.high;
  }

  /** The server has nothing for the gap after repeated questions: go on behind it, and remember it for the eye. */
  giveUpGap(lastSeq) {
    this.holes.add(this.high);
    const next = this.seqs().find((seq) => seq > this.high);
    this.high = next === undefined ? Math.max(this.high, lastSeq) : next - 1;
    this.absorb();
  }

  /** Drops the oldest messages of a long log; scrolling up brings them back. */
  trim(keep = KEPT_MESSAGES, slack = 0) {
    if (!this.loaded || this.bySeq.size <= keep + slack) return;
    this.dropBefore(this.seqs().at(-keep));
  }

  /** Drops the messages before `low`, where that leaves a known range. */
  dropBefore(low) {
    if (low <= this.low || low > this.high) return;
    for (const seq of this.seqs()) if (seq < low) this.bySeq.delete(seq);
    for (const seq of this.holes) if (seq < low) this.holes.delete(seq);
    this.low = low;
    this.atStart = false;
    this.order = null;
  }

  /** The seqs held, in order. */
  seqs() {
    this.order ??= [...this.bySeq.keys()].sort((a, b) => a - b);
    return this.order;
  }

  /** The messages from `low` on, in order. */
  list() {
    return this.seqs().filter((seq) => this.loaded && seq >= this.low).map((seq) => this.bySeq.get(seq));
  }

  /** The newest message up to `high` that is not `userId`'s; 0: none is held. */
  lastForeign(userId) {
    const seqs = this.seqs();
    for (let at = seqs.length - 1; at >= 0; at -= 1) {
      if (seqs[at] <= this.high && this.bySeq.get(seqs[at]).sender_id !== userId) return seqs[at];
    }
    return 0;
  }

  absorb() {
    while (this.loaded && this.bySeq.has(this.high + 1)) this.high += 1;
  }
}
