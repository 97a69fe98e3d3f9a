// The messages pinned in each conversation, newest pin first. No DOM.

export class Pins {
  constructor({ api, onChange }) {
    Object.assign(this, { api, onChange });
    this.byConversation = new Map();
    /** How often each was asked for: an answer that another question has overtaken is out of date. */
    this.asked = new Map();
  }

  of(id) {
    return this.byConversation.get(id) ?? [];
  }

  has(id, seq) {
    return this.of(id).some((message) => message.seq === seq);
  }

  /** Reads them anew; the earlier ones stay where that fails, and a server without pins has none. */
  async load(id) {
    const asked = (this.asked.get(id) ?? 0) + 1;
    this.asked.set(id, asked);
    try {
      const page = await this.api.pins(id);
      if (this.asked.get(id) !== asked) return;
      // A pin is the message, or names it beside who pinned it.
      this.byConversation.set(id, (page.items ?? []).map((pin) => pin.message ?? pin).filter(({ seq }) => seq > 0));
      this.onChange(id);
    } catch {
      // Opening the conversation again asks again.
    }
  }

  async pin(id, message) {
    await this.api.pin(id, message.seq);
    await this.load(id);
  }

  async unpin(id, seq) {
    await this.api.unpin(id, seq);
    await this.load(id);
  }
}
