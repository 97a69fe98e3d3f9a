// Names of users by id, asked for once and cached.

/** The most lookups at once; the rest wait their turn. */
const LOOKUPS_AT_ONCE = 6;
/** A failed lookup is tried again when somebody asks after this. */
const RETRY_AFTER_MS = 30_000;

export class Users {
  /** `onChange()` is called when a name has become known. */
  constructor({ api, onChange, now = () => Date.now() }) {
    Object.assign(this, { api, onChange, now });
    this.known = new Map();
    this.wanted = [];
    this.failedAtMs = new Map();
    this.asking = 0;
  }

  /** Takes a User that came with another answer. */
  put(user) {
    if (!user?.user_id) return;
    this.known.set(user.user_id, user);
    this.onChange();
  }

  get(userId) {
    return this.known.get(userId);
  }

  /** The name to show; a stand-in while it is looked up. */
  name(userId) {
    const user = this.known.get(userId);
    if (user) return user.display_name || user.username || `User ${userId}`;
    this.want(userId);
    return `User ${userId}`;
  }

  want(userId) {
    const failedAtMs = this.failedAtMs.get(userId);
    if (!userId || this.wanted.includes(userId)) return;
    if (failedAtMs !== undefined && this.now() - failedAtMs < RETRY_AFTER_MS) return;
    this.failedAtMs.set(userId, this.now());
    this.wanted.push(userId);
    this.next();
  }

  async next() {
    if (this.asking >= LOOKUPS_AT_ONCE || this.wanted.length === 0) return;
    const userId = this.wanted.shift();
    this.asking += 1;
    try {
      this.put(await this.api.user(userId));
    } catch {
      // The stand-in stays; a later look tries again.
    }
    this.asking -= 1;
    this.next();
  }
}
