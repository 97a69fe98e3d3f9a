// What a user can do with a message: answer, edit, take back, react, pin, forward, hide; and going to one.

import { fullTimeOf, newClientId, summary } from './format.js';
import { may, outranks } from './rights.js';
import { PENDING_LIMIT } from './store.js';
import { isHidden } from './targets.js';
import { confirm, tell } from './views/dialog.js';
import { forwardTo } from './views/dialogs.js';
import { avatar, el, toast } from './views/dom.js';
import { emojiRow } from './views/emoji.js';
import { showScheduled } from './views/later.js';
import { openMenu } from './views/menu.js';

export class MessageActions {
  constructor(client) {
    const { api, store, users } = client;
    Object.assign(this, { client, api, store, users });
  }

  /** Does `work`; a refusal is shown for a moment. Resolves to whether it was done. */
  async attempt(work) {
    try {
      await work();
      return true;
    } catch (error) {
      toast(error.message, { isError: true });
      return false;
    }
  }

  tooMany() {
    toast(`${PENDING_LIMIT} messages are waiting to be sent. Wait for the connection.`, { isError: true });
    return false;
  }

  // ---- Moving about ----

  older(id) {
    return this.client.feed.loadOlder(id);
  }

  newer(id) {
    return this.client.feed.loadNewer(id);
  }

  wantQuoted(id, seq) {
    this.client.feed.wantQuoted(id, seq);
  }

  toNewest(id) {
    this.store.leaveExcerpt(id);
    const { timeline } = this.client.chat;
    timeline.render();
    timeline.toEnd();
    this.client.feed.tend(id);
  }

  /** Opens the conversation where `seq` stands and shows it. */
  async jumpTo(id, seq) {
    if (!this.store.get(id)) {
      toast('You are no longer a member of that conversation.', { isError: true });
      return;
    }
    if (this.client.openId !== id || this.client.openPage) this.client.go(`c${id}`);
    this.client.element.classList.add('chat-open');
    await this.attempt(async () => {
      const found = await this.client.feed.reveal(id, seq);
      if (found) this.client.chat.timeline.reveal(seq);
      else if (found === false) toast('That message can’t be seen any more.');
    });
  }

  // ---- The menu ----

  messageMenu(id, message, anchor, at) {
    const info = this.store.get(id)?.info;
    if (!info) return;
    const { seq, recalled, text } = message;
    const own = message.sender_id === this.store.userId;
    const role = this.client.members.get(id, message.sender_id)?.role ?? 'member';
    const mayRecall = own || (info.kind === 'group' && may(info, 'recallOthers') && outranks(info.role, role));
    const pinned = this.client.pins.has(id, seq);
    let close = () => {};
    const pick = (emoji) => {
      close();
      this.react(id, message, emoji);
    };
    close = openMenu(anchor, [
      recalled ? null : { label: 'Reply', icon: 'reply', run: () => this.reply(id, message) },
      own && !recalled && message.kind === 'text' ? { label: 'Edit', icon: 'edit', run: () => this.client.chat.composer.edit(message) } : null,
      text && !recalled ? { label: 'Copy text', icon: 'copy', run: () => this.copy(text, 'The text was copied.') } : null,
      recalled ? null : { label: 'Forward…', icon: 'forward', run: () => this.forward(id, message) },
      recalled || !may(info, 'pin') ? null : { label: pinned ? 'Unpin' : 'Pin', icon: 'pin', run: () => this.togglePin(id, message, pinned) },
      own ? { label: info.kind === 'direct' ? 'Delivered and read' : 'Who has read it', icon: 'info', run: () => this.showReaders(id, message) } : null,
      { label: 'Delete for me', icon: 'trash', run: () => this.hideMessage(id, seq) },
      mayRecall && !recalled ? { label: own ? 'Take back for everyone' : 'Remove for everyone', icon: 'undo', danger: true, run: () => this.recall(id, seq) } : null,
    ], { at, label: 'Message', top: recalled ? null : emojiRow(pick, this.ownReactions(message)) });
  }

  reactionMenu(id, message, anchor) {
    const close = openMenu(anchor, [], {
      label: 'React',
      top: emojiRow((emoji) => {
        close();
        this.react(id, message, emoji);
      }, this.ownReactions(message)),
    });
  }

  ownReactions(message) {
    return new Set((message.reactions ?? []).filter(({ user_ids: ids }) => ids.includes(this.store.userId)).map(({ emoji }) => emoji));
  }

  // ---- Changes that all see ----

  reply(id, message) {
    if (this.client.openId === id) this.client.chat.composer.reply(message);
  }

  edit(id, seq, text) {
    return this.attempt(() => this.client.changes.edit(id, seq, text));
  }

  /** The newest message of the user's own that can be edited. */
  editLast(id) {
    const messages = this.store.get(id)?.log.list() ?? [];
    const last = messages.findLast((message) => {
      const { sender_id: by, kind, recalled } = message;
      return by === this.store.userId && kind === 'text' && !recalled && !isHidden(message);
    });
    if (last) this.client.chat.composer.edit(last);
  }

  recall(id, seq) {
    confirm({
      title: 'Take the message back?', text: 'Its text goes for everyone; that there was a message stays visible.', label: 'Take back',
      act: () => this.client.changes.recall(id, seq),
    });
  }

  /** Puts a reaction on, or takes one's own off. */
  react(id, message, emoji) {
    return this.attempt(() => this.client.changes.react(id, message.seq, emoji, this.ownReactions(message).has(emoji)));
  }

  togglePin(id, message, pinned) {
    const { pins } = this.client;
    return this.attempt(() => (pinned ? pins.unpin(id, message.seq) : pins.pin(id, message)));
  }

  showPins(id) {
    const rows = this.client.pins.of(id).map((message) => el('li', {},
      el('button', {
        type: 'button', class: 'result',
        onclick: () => {
          opened.close();
          this.jumpTo(id, message.seq);
        },
      }, el('span', { class: 'result-text' }, el('span', { class: 'result-title', dir: 'auto' }, this.users.name(message.sender_id)), el('span', { class: 'hint', dir: 'auto' }, summary(message))))));
    const opened = tell({ title: 'Pinned messages', body: [el('ul', { class: 'results' }, rows)] });
  }

  forward(fromId, message) {
    const clientId = newClientId();
    forwardTo({
      store: this.store,
      users: this.users,
      title: 'Forward to',
      forward: async (id) => {
        await this.api.forward(id, fromId, [message.seq], clientId);
        toast(`Forwarded to ${this.nameOf(id)}.`);
        this.client.feed.refresh(id);
      },
    });
  }

  // ---- Later ----

  /** Rejects with what the server says. */
  async schedule(id, text, atMs, about) {
    const sentAtMs = await this.client.changes.schedule(id, text, atMs, about);
    toast(sentAtMs ? `It will be sent ${fullTimeOf(sentAtMs)}.` : 'This server has sent it at once.', { isError: !sentAtMs });
  }

  showScheduled(id) {
    return this.attempt(async () => {
      const { items = [] } = await this.api.scheduled();
      const here = items.filter((item) => !id || item.conversation_id === id);
      showScheduled({ items: here, store: this.store, users: this.users, cancel: (scheduledId) => this.api.cancelScheduled(scheduledId) });
    });
  }

  // ---- Changes for oneself ----

  hideMessage(id, seq) {
    return this.attempt(async () => {
      await this.api.hideMessage(id, seq);
      this.store.hideMessage(id, seq);
    });
  }

  // ---- Who has it ----

  async showReaders(id, message) {
    const { info, cursors } = this.store.get(id);
    let read = [...cursors].filter(([, cursor]) => cursor.read >= message.seq).map(([userId]) => userId);
    let delivered = [...cursors].filter(([, cursor]) => cursor.delivered >= message.seq && cursor.read < message.seq).map(([userId]) => userId);
    let counts = '';
    if (info.kind === 'direct') {
      read = info.peer_read_seq >= message.seq ? [info.peer_user_id] : [];
      delivered = info.peer_delivered_seq >= message.seq && read.length === 0 ? [info.peer_user_id] : [];
    } else {
      try {
        const answer = await this.api.readers(id, message.seq);
        const idsOf = (list) => (list ?? []).map((entry) => entry.user_id ?? entry);
        if (answer.read) [read, delivered] = [idsOf(answer.read), idsOf(answer.delivered).filter((userId) => !idsOf(answer.read).includes(userId))];
        if (answer.read_count > read.length) counts = `Read by ${answer.read_count}, delivered to ${answer.delivered_count}.`;
      } catch {
        // The receipts that came have to do.
      }
    }
    const list = (title, ids) => (ids.length === 0 ? [] : [
      el('h3', {}, title),
      el('ul', { class: 'members readers-list' }, ids.map((userId) => el('li', {}, avatar(this.users.name(userId), userId, 'direct'), el('span', { class: 'member-name' }, this.users.name(userId))))),
    ]);
    const nobody = read.length + delivered.length === 0 && !counts ? [el('p', { class: 'hint' }, 'Nobody yet.')] : [];
    tell({
      title: 'Who has it',
      body: [el('p', { class: 'hint' }, `Sent ${fullTimeOf(message.created_at_ms)}.`), ...(counts ? [el('p', {}, counts)] : []), ...list('Read', read), ...list('Delivered', delivered), ...nobody],
    });
  }
}
