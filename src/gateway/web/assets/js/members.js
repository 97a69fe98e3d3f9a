// Who is in a group, as far as it was asked for: for its page, for mentions, and for how far each has read. No DOM.

/** A group of up to so many is read whole when it is opened; of a larger one a page at a time. */
export const SMALL_GROUP = 200;
const PAGES_AT_ONCE = 4;

export class Members {
  constructor({ api, users, store, onChange }) {
    Object.assign(this, { api, users, store, onChange });
    this.byConversation = new Map();
    this.busy = new Map();
  }

  /** `{items, cursor, error}`: `cursor` is empty when that is all. */
  of(id) {
    return this.byConversation.get(id) ?? { items: [], cursor: '', error: '', version: '' };
  }

  get(id, userId) {
    return this.of(id).items.find((member) => member.user_id === userId);
  }

  /** Reads the members anew, if the conversation says that they may have changed. */
  review(id) {
    const info = this.store.get(id)?.info;
    if (info?.kind !== 'group') return undefined;
    const version = `${info.updated_at_ms} ${info.member_count} ${info.owner_id} ${info.role}`;
    if (this.of(id).version === version) return undefined;
    return this.load(id, version, info.member_count <= SMALL_GROUP ? PAGES_AT_ONCE : 1);
  }

  /** One more page. */
  more(id) {
    const { cursor, items, version } = this.of(id);
    return cursor ? this.load(id, version, 1, cursor, items) : undefined;
  }

  load(id, version, pages, cursor = '', before = []) {
    const running = this.busy.get(id);
    if (running?.version === version) return running.work;
    const work = this.read(id, version, pages, cursor, before).finally(() => {
      if (this.busy.get(id)?.work === work) this.busy.delete(id);
    });
    this.busy.set(id, { version, work });
    return work;
  }

  async read(id, version, pages, from, before) {
    let cursor = from;
    const items = [...before];
    try {
      for (let at = 0; at < pages; at += 1) {
        const page = await this.api.members(id, cursor);
        for (const member of page.items ?? []) {
          if (member.username) this.users.put(member);
          items.push(member);
        }
        cursor = page.next_cursor ?? '';
        if (!cursor) break;
      }
      this.byConversation.set(id, { items, cursor, error: '', version });
      this.store.applyMemberCursors(id, items);
    } catch (error) {
      this.byConversation.set(id, { ...this.of(id), error: error.message, version });
    }
    this.onChange(id);
  }
}
