// The user's contacts, the requests both ways, and whom the user has blocked. No DOM.

/** The server's bound of either list, and pages of it. */
const PAGES_MAX = 60;

export class Contacts {
  constructor({ api, users, onChange }) {
    Object.assign(this, { api, users, onChange });
    this.byId = new Map();
    this.blocked = new Set();
    this.loaded = false;
  }

  /** `friend`, `requested` (by this user), `invited` (by the other), `blocked` or `none`. */
  state(userId) {
    if (this.blocked.has(userId)) return 'blocked';
    return this.byId.get(userId)?.state ?? 'none';
  }

  /** Those in a state, by name. */
  list(state) {
    const of = [...this.byId.values()].filter((contact) => contact.state === state);
    return of.sort((a, b) => this.users.name(a.user_id).localeCompare(this.users.name(b.user_id)));
  }

  friends() {
    return this.list('friend').map(({ user_id: id }) => id);
  }

  /** The event of a change that this or another device, or the other user, has made. */
  apply({ user_id: userId, state, message = '' }) {
    if (state === 'removed' || state === 'none') {
      this.byId.delete(userId);
      this.blocked.delete(userId);
    } else if (state === 'blocked') {
      this.byId.delete(userId);
      this.blocked.add(userId);
    } else {
      this.byId.set(userId, { user_id: userId, state, message });
    }
    this.onChange();
  }

  /** Reads both lists anew; the earlier ones stay where that fails. */
  async load() {
    try {
      const [contacts, blocked] = await Promise.all([this.pages((cursor) => this.api.contacts(cursor)), this.pages((cursor) => this.api.blocks(cursor))]);
      this.byId = new Map(contacts.map((contact) => [contact.user_id, contact]));
      this.blocked = new Set(blocked.map(({ user_id: id }) => id));
      for (const user of [...contacts, ...blocked]) if (user.username) this.users.put(user);
      this.loaded = true;
      this.onChange();
    } catch {
      // The next connection reads them again.
    }
  }

  async pages(ask) {
    const items = [];
    let cursor = '';
    for (let pages = 0; pages < PAGES_MAX; pages += 1) {
      const page = await ask(cursor);
      items.push(...(page.items ?? []));
      cursor = page.next_cursor ?? '';
      if (!cursor) break;
    }
    return items;
  }

  // ---- What the user does; each rejects with what the server says ----

  async request(user, message = '') {
    const contact = await this.api.requestContact(user.user_id, message);
    this.users.put(user);
    this.apply(contact);
  }

  async accept(userId) {
    await this.api.acceptContact(userId);
    this.apply({ user_id: userId, state: 'friend' });
  }

  async decline(userId) {
    await this.api.declineContact(userId);
    this.apply({ user_id: userId, state: 'removed' });
  }

  async remove(userId) {
    await this.api.removeContact(userId);
    this.apply({ user_id: userId, state: 'removed' });
  }

  async block(userId) {
    await this.api.block(userId);
    this.apply({ user_id: userId, state: 'blocked' });
  }

  async unblock(userId) {
    await this.api.unblock(userId);
    this.apply({ user_id: userId, state: 'removed' });
  }
}
