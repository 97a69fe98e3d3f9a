// What a user can do, as the views call it: each asks the server, shows what it refuses, and says what was done.

import { newClientId, titleOf } from './format.js';
import { MessageActions } from './messageactions.js';
import { addContact, joinGroup, newChat, newGroup } from './views/dialogs.js';
import { confirm, openDialog } from './views/dialog.js';
import { el, field, toast } from './views/dom.js';
import { showPerson } from './views/person.js';

export class Actions extends MessageActions {
  // ---- Where one is ----

  open(id) {
    this.client.go(`c${id}`);
  }

  back() {
    this.client.go('');
  }

  page(name) {
    this.client.go(this.client.openPage === name ? '' : name);
  }

  redraw() {
    this.client.draw();
  }

  searchIn(id) {
    this.client.element.classList.remove('chat-open'); // On a small screen the search is in the other column.
    this.client.sidebar.pane.focus(id);
  }

  reconnect() {
    const { connection } = this.client;
    if (connection.state.address) location.assign(`${location.protocol}//${connection.state.address}/${location.hash}`);
    else if (connection.state.phase === 'replaced') connection.start();
    else connection.retryNow();
  }

  // ---- Beginning something ----

  newChat() {
    newChat({ api: this.api, start: (user) => this.openUser(user), done: () => this.focusText() });
  }

  newGroup() {
    newGroup({ api: this.api, create: (group) => this.enter(() => this.api.createGroup(group)), done: () => this.focusText() });
  }

  joinGroup() {
    const useInvite = (code) => this.joined(() => this.api.useInvite(code));
    joinGroup({ join: (id, message) => this.joined(() => this.api.join(id, message), id), useInvite, done: () => this.focusText() });
  }

  /** The address of an invitation was opened. */
  offerInvite(code) {
    confirm({ title: 'You were invited to a group', label: 'Join', danger: false, act: () => this.joined(() => this.api.useInvite(code)), done: () => this.focusText() });
  }

  /** Copies the address that leads to an invitation. */
  copyInvite(code) {
    return this.copy(`${location.origin}${location.pathname}#join-${code}`, 'The invitation’s address was copied.');
  }

  addContact() {
    addContact({
      api: this.api,
      request: async (user, message) => {
        await this.client.contacts.request(user, message);
        toast(`${user.display_name || user.username} was asked.`);
      },
    });
  }

  focusText() {
    this.client.chat.focusText();
  }

  /** Makes a conversation by `create` and opens it. */
  async enter(create) {
    const conversation = await create();
    this.client.feed.onConversation(conversation);
    if (conversation.hidden) await this.api.prefer(conversation.conversation_id, { hidden: false });
    this.open(conversation.conversation_id);
  }

  /** Opens the direct conversation with a user; it is made with the first message, or here. */
  async openUser(user) {
    if (user.username) this.users.put(user);
    await this.enter(() => this.api.createDirect(user.user_id));
  }

  async joined(ask, id = 0) {
    const answer = await ask();
    const conversation = answer?.conversation ?? answer;
    if (conversation?.last_seq !== undefined) return this.enter(async () => conversation);
    if (answer?.state === 'requested') return toast('Your request was sent. The group appears here once it is accepted.');
    return this.enter(() => this.api.conversation(conversation?.conversation_id ?? id));
  }

  // ---- Oneself ----

  /** Changes the status, the text beside it, or both. */
  setPresence(change) {
    const { connection, presence } = this.client;
    const now = presence.get(this.store.userId);
    const status = now?.status && now.status !== 'offline' ? now.status : 'online';
    const wanted = { status, text: now?.text ?? '', ...change };
    return this.attempt(async () => {
      await connection.request('set_presence', wanted);
      presence.apply({ user_id: this.store.userId, last_seen_ms: 0, ...wanted });
    });
  }

  statusText() {
    const text = el('input', { maxLength: 140, value: this.client.presence.get(this.store.userId)?.text ?? '' });
    openDialog({
      title: 'Status text', body: [field('What others see beside your name', text)], submitLabel: 'Save', submit: () => this.setPresence({ text: text.value.trim() }),
    });
  }

  async signOut() {
    await this.api.signOut().catch(() => {}); // Without the server, forgetting the token has to do.
    this.ended('');
  }

  ended(message) {
    sessionStorage.removeItem(this.client.unsentKey);
    this.client.end(message);
  }

  // ---- People ----

  person(userId) {
    showPerson({ ...this.client.parts, actions: this }, userId);
  }

  async refreshUser(userId) {
    if (!userId) return;
    try {
      this.users.put(await this.api.user(userId));
    } catch {
      // What is known already has to do.
    }
  }

  // ---- A conversation ----

  /** The user's own settings of a conversation; rejects with what the server says. */
  async prefer(id, change) {
    return this.attempt(async () => this.client.feed.onConversation(await this.api.prefer(id, change)));
  }

  async hide(id) {
    await this.prefer(id, { hidden: true, pinned: false });
    if (this.client.openId === id) this.back();
  }

  markUnread(id) {
    const info = this.store.get(id)?.info;
    if (!info) return undefined;
    if (this.client.openId === id) this.back();
    return this.prefer(id, { marked_unread: true });
  }

  markRead(id) {
    return this.attempt(() => this.client.feed.readAll(id));
  }

  async changeGroup(id, change) {
    const conversation = await this.api.changeGroup(id, change);
    if (conversation?.conversation_id) this.client.feed.onConversation(conversation);
    else this.client.feed.refresh(id);
  }

  async addMember(id, user) {
    await this.api.addMember(id, user.user_id);
    this.users.put(user);
    toast(`${user.display_name || user.username} was added.`);
    await this.membersChanged(id);
  }

  async membersChanged(id) {
    await this.client.feed.refresh(id);
    await this.client.members.load(id, '', 1);
  }

  leave(id) {
    confirm({
      title: `Leave ${this.nameOf(id)}?`, text: 'You will get no more of its messages.', label: 'Leave the group',
      act: async () => {
        await this.api.leave(id);
        this.store.remove(id);
      },
    });
  }

  dissolve(id) {
    confirm({
      title: `Dissolve ${this.nameOf(id)}?`, text: 'It ends for all its members, and nobody can write in it again.', label: 'Dissolve the group',
      act: async () => {
        await this.api.dissolve(id);
        this.store.remove(id);
      },
    });
  }

  nameOf(id) {
    return titleOf(this.store.get(id).info, this.users);
  }

  // ---- Sending ----

  send(id, text, about) {
    const { outbox, chat } = this.client;
    const taken = outbox.enqueue(id, text, newClientId(), Date.now(), about);
    if (taken) this.toNewest(id);
    if (taken && this.client.openId === id) chat.timeline.unreadFrom = 0;
    return taken || this.tooMany();
  }

  retry(id, clientId) {
    this.client.outbox.retry(id, clientId);
  }

  discard(id, clientId) {
    this.store.discardPending(id, clientId);
  }

  /** Copies a text, and says so. */
  async copy(text, done) {
    try {
      await navigator.clipboard.writeText(text);
      toast(done);
    } catch {
      toast('The browser does not allow copying here.', { isError: true });
    }
  }
}
