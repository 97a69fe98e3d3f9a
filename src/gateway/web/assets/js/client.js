// A signed-in user's client, from sign-in to sign-out: the store and what feeds it, the views, the page's address and
// title. Unsent messages outlive a reload in sessionStorage (each tab has its own).

import { Actions } from './actions.js';
import { Api } from './api.js';
import { Changes } from './changes.js';
import { Connection } from './connection.js';
import { Contacts } from './contacts.js';
import { Drafts } from './drafts.js';
import { Feed } from './feed.js';
import { isId, newClientId, titleOf } from './format.js';
import { Members } from './members.js';
import { Notifier } from './notifier.js';
import { Outbox } from './outbox.js';
import { Pins } from './pins.js';
import { Presence, Typing } from './presence.js';
import { Store } from './store.js';
import { Users } from './users.js';
import { ChatView } from './views/chat.js';
import { ContactsPage } from './views/contacts.js';
import { el, toast } from './views/dom.js';
import { SettingsPage } from './views/settings.js';
import { Sidebar } from './views/sidebar.js';
import { bindKeys } from './views/keys.js';

/** Changes within this time are drawn at once; where drawing takes long, it takes at most a fraction of the time. */
const RENDER_PAUSE_MS = 16;
const RENDER_SHARE = 4;
/** Nothing is drawn while the pointer is pressed, for so long at most. */
const PRESS_LIMIT_MS = 2_000;
/** How often the countdown to the next attempt is drawn, and what was to vanish is looked for. */
const COUNTDOWN_MS = 1_000;
/** The peers of so many conversations are watched, the newest first. */
const WATCHED_PEERS = 400;

const scheme = location.protocol === 'https:' ? 'wss' : 'ws';

export class Client {
  /** `onEnd(message)` is called once, when the user is signed out; `root` holds the page. */
  constructor({ session, root, onEnd }) {
    Object.assign(this, { session, root, onEnd });
    this.openId = 0;
    this.openPage = '';
    /** When the pointer was pressed that is still down; -Infinity: none is. */
    this.pressedAtMs = -Infinity;
    this.unsentKey = `rookery.unsent.${session.user_id}`;
    this.stopped = new AbortController();
    const draw = () => this.draw();
    this.api = new Api({ token: session.token, onUnauthenticated: (message) => this.end(message) });
    this.store = new Store(session.user_id);
    this.users = new Users({ api: this.api, onChange: draw });
    this.connection = new Connection({
      url: `${scheme}://${location.host}/ws`,
      addressUrl: (address) => `${scheme}://${address}/ws`,
      token: session.token,
      callbacks: {
        onState: (state) => this.sidebar.setState(state, this.api.reachable),
        onWelcome: () => this.welcomed(),
        onEvent: (name, body) => this.feed.onEvent(name, body),
        onDown: () => this.lost(),
        onSignedOut: (message) => this.end(message),
      },
    });
    this.presence = new Presence({ connection: this.connection, wanted: () => this.watched(), onChange: draw });
    this.typing = new Typing({ connection: this.connection, userId: session.user_id, onChange: draw });
    this.contacts = new Contacts({ api: this.api, users: this.users, onChange: () => this.regard() });
    this.members = new Members({ api: this.api, users: this.users, store: this.store, onChange: () => this.regard() });
    this.pins = new Pins({ api: this.api, onChange: draw });
    this.drafts = new Drafts({ api: this.api, store: this.store });
    this.outbox = new Outbox({ store: this.store, connection: this.connection });
    this.changes = new Changes({ store: this.store, connection: this.connection, newId: newClientId });
    this.notifier = new Notifier({ store: this.store, users: this.users, open: (id) => this.go(`c${id}`), isSeen: (id) => this.isSeen(id) });
    this.feed = new Feed({
      store: this.store,
      connection: this.connection,
      api: this.api,
      outbox: this.outbox,
      onSynced: () => this.synced(),
      onLive: (message) => this.live(message),
      listeners: {
        presence: (presence) => this.presence.apply(presence),
        typing: (typing) => this.typing.apply(typing),
        hidden: ({ conversation_id: id, seqs = [] }) => seqs.forEach((seq) => this.store.hideMessage(id, seq)),
        contact: (contact) => this.contacts.apply(contact),
        notice: ({ title, text }) => toast([title, text].filter(Boolean).join(': ')),
      },
    });
    this.actions = new Actions(this);
    const { api, store, users, presence, typing, contacts, members, pins, drafts } = this;
    const parts = { api, store, users, presence, typing, contacts, members, pins, drafts };
    this.parts = parts;
    this.sidebar = new Sidebar(parts, this.actions);
    this.chat = new ChatView(parts, this.actions);
    this.pages = { contacts: new ContactsPage(parts, this.actions), settings: new SettingsPage(parts, this.actions) };
    this.element = el('div', { class: 'app' }, this.sidebar.element, this.chat.element, Object.values(this.pages).map((page) => page.element));
  }

  start() {
    this.root.replaceChildren(this.element);
    this.store.subscribe((id) => this.changed(id));
    this.users.put({ user_id: this.session.user_id, username: this.session.username, display_name: '' });
    this.api.me().then((me) => this.users.put(me)).catch(() => {}); // The username stands in.
    const { signal } = this.stopped;
    window.addEventListener('hashchange', () => this.follow(), { signal });
    window.addEventListener('online', () => this.connection.retryNow(), { signal });
    window.addEventListener('pagehide', () => this.chat.composer.leave(), { signal });
    document.addEventListener('visibilitychange', () => this.look(), { signal });
    window.addEventListener('focus', () => this.look(), { signal });
    bindKeys(this, signal);
    window.addEventListener('pointerdown', () => (this.pressedAtMs = performance.now()), { signal, capture: true });
    for (const end of ['pointerup', 'pointercancel']) window.addEventListener(end, () => (this.pressedAtMs = -Infinity), { signal, capture: true });
    this.countdown = setInterval(() => {
      this.sidebar.setState(this.connection.state, this.api.reachable);
      this.store.expire(this.openId, Date.now());
    }, COUNTDOWN_MS);
    this.connection.start();
    this.look();
    this.follow();
    this.draw();
  }

  /** Ends the client on this page; the caller has seen to the token. */
  end(message) {
    if (this.stopped.signal.aborted) return;
    this.stopped.abort();
    clearInterval(this.countdown);
    clearTimeout(this.drawTimer);
    this.connection.stop();
    for (const dialog of document.querySelectorAll('dialog')) dialog.close();
    this.onEnd(message);
  }

  // ---- The connection ----

  welcomed() {
    this.presence.onWelcome();
    this.contacts.load();
    this.feed.onWelcome();
  }

  lost() {
    this.presence.onDown();
    this.typing.onDown();
    this.feed.onDown();
  }

  live(message) {
    // What was written is typed no more.
    this.typing.apply({ conversation_id: message.conversation_id, user_id: message.sender_id, active: false });
    this.notifier.onLive(message);
  }

  /** Whom to watch: oneself, who is on the screen, contacts, and the peers of the newest conversations. */
  watched() {
    const open = this.store.get(this.openId)?.info;
    const shown = open?.kind === 'group' ? this.members.of(this.openId).items.map(({ user_id: id }) => id) : [open?.peer_user_id];
    const peers = this.store.list().slice(0, WATCHED_PEERS).map(({ info }) => info.peer_user_id);
    return [this.session.user_id, ...shown, ...this.contacts.friends(), ...peers];
  }

  isSeen(id) {
    return id === this.openId && document.visibilityState === 'visible' && document.hasFocus();
  }

  // ---- The page's address ----

  /** Opens what `hash` names (`c12`, `contacts`, `settings`, or nothing), so that “back” and a reload do what one expects. */
  go(hash) {
    const wanted = hash ? `#${hash}` : '';
    if (location.hash === wanted) this.follow();
    else if (wanted) location.hash = wanted;
    else {
      history.pushState(null, '', location.pathname + location.search);
      this.follow();
    }
  }

  /** Shows what the address names, as far as it is known already. */
  follow() {
    const name = location.hash.slice(1);
    const invite = name.match(/^join-([\w-]{1,128})$/)?.[1];
    if (invite) {
      history.replaceState(null, '', location.pathname + location.search);
      this.actions.offerInvite(invite);
      return this.follow();
    }
    const wanted = Number(name.match(/^c(\d{1,16})$/)?.[1] ?? 0);
    const id = isId(wanted) && this.store.get(wanted) ? wanted : 0;
    const page = this.pages[name] ? name : '';
    this.element.classList.toggle('chat-open', id !== 0 || page !== '');
    this.chat.element.hidden = page !== '';
    if (page !== this.openPage) {
      this.pages[this.openPage]?.hide();
      this.openPage = page;
      this.pages[page]?.show();
    }
    if (id === this.openId) return undefined;
    this.openId = id;
    this.feed.open(id);
    this.chat.show(id);
    // Whoever opens it has come back to it.
    if (this.store.get(id)?.info.marked_unread) this.actions.prefer(id, { marked_unread: false });
    this.look();
    this.regard();
    return undefined;
  }

  look() {
    const visible = document.visibilityState === 'visible';
    this.feed.setVisible(visible);
    if (visible) this.connection.retryNow();
  }

  synced() {
    this.importUnsent();
    this.follow();
    if (this.openId) this.pins.load(this.openId);
    this.regard();
  }

  changed(id) {
    if (id === this.openId && !this.store.get(id)) {
      toast('You are no longer a member of that conversation.');
      this.go('');
    }
    // A pin is told by a message of the system's.
    const last = this.store.get(id)?.info.last_message;
    if (id === this.openId && last?.kind === 'system' && `${id} ${last.seq}` !== this.pinsAsOf) {
      this.pinsAsOf = `${id} ${last.seq}`;
      this.pins.load(id);
    }
    this.regard();
  }

  /** Draws, and watches whom that shows. */
  regard() {
    this.presence.review();
    this.draw();
  }

  draw() {
    if (this.drawTimer || this.stopped.signal.aborted) return;
    const pauseMs = Math.max(RENDER_PAUSE_MS, RENDER_SHARE * (this.drawMs ?? 0));
    this.drawTimer = setTimeout(() => {
      this.drawTimer = undefined;
      const began = performance.now();
      // A button that is drawn anew between a press and its release gets no click.
      if (began - this.pressedAtMs < PRESS_LIMIT_MS) {
        this.draw();
        return;
      }
      this.sidebar.setMe(this.users.name(this.session.user_id));
      this.sidebar.render({ openId: this.openId, synced: this.feed.synced });
      this.chat.render();
      this.pages[this.openPage]?.render();
      const open = this.store.get(this.openId)?.info;
      this.notifier.showTitle(open ? titleOf(open, this.users) : '');
      this.exportUnsent();
      this.drawMs = performance.now() - began;
    }, pauseMs);
  }

  // ---- Unsent messages; their client_ids keep a repeat from being stored twice ----

  exportUnsent() {
    if (!this.imported) return;
    const unsent = JSON.stringify(this.store.exportPending());
    if (unsent === this.exported) return;
    this.exported = unsent;
    try {
      sessionStorage.setItem(this.unsentKey, unsent);
    } catch {
      // No room: they live as long as the page.
    }
  }

  importUnsent() {
    if (this.imported) return;
    this.imported = true;
    try {
      this.store.importPending(JSON.parse(sessionStorage.getItem(this.unsentKey) ?? '[]'));
    } catch {
      sessionStorage.removeItem(this.unsentKey); // Not ours, or of another version.
    }
  }
}
