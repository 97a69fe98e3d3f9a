// Puts the client together: who is signed in, the store and what feeds it, the views, and the page's address and
// title. Everything that outlives a reload is kept here: the session in localStorage, unsent messages in
// sessionStorage (each tab has its own).

import { Api } from './api.js';
import { Connection } from './connection.js';
import { Feed } from './feed.js';
import { isId, newClientId, titleOf } from './format.js';
import { Outbox } from './outbox.js';
import { PENDING_LIMIT, Store } from './store.js';
import { Users } from './users.js';
import { ChatView } from './views/chat.js';
import { confirmLeave, joinGroup, newChat, newGroup } from './views/dialogs.js';
import { el, toast } from './views/dom.js';
import { Sidebar } from './views/sidebar.js';
import { SignInView } from './views/signin.js';

const SESSION_KEY = 'rookery.session';
/** Changes within this time are drawn at once. */
const RENDER_PAUSE_MS = 16;
/** How often the countdown to the next attempt is drawn. */
const COUNTDOWN_MS = 1_000;

const root = document.getElementById('app');
const scheme = location.protocol === 'https:' ? 'wss' : 'ws';

/** A signed-in user's client, from sign-in to sign-out. */
class Client {
  constructor(session, onEnd) {
    this.session = session;
    this.onEnd = onEnd;
    this.openId = 0;
    this.unsentKey = `rookery.unsent.${session.user_id}`;
    this.stopped = new AbortController();
    this.api = new Api({ token: session.token, onUnauthenticated: (message) => this.end(message) });
    this.store = new Store(session.user_id);
    this.users = new Users({ api: this.api, onChange: () => this.draw() });
    this.connection = new Connection({
      url: `${scheme}://${location.host}/ws`,
      addressUrl: (address) => `${scheme}://${address}/ws`,
      token: session.token,
      callbacks: {
        onState: (state) => this.sidebar.setState(state),
        onWelcome: () => this.feed.onWelcome(),
        onEvent: (name, body) => this.feed.onEvent(name, body),
        onDown: () => this.feed.onDown(),
        onSignedOut: (message) => this.end(message),
      },
    });
    this.outbox = new Outbox({ store: this.store, connection: this.connection });
    this.feed = new Feed({
      store: this.store,
      connection: this.connection,
      api: this.api,
      outbox: this.outbox,
      onSynced: () => this.synced(),
      onNotice: ({ title, text }) => toast([title, text].filter(Boolean).join(': ')),
    });
    const actions = this.actions();
    this.sidebar = new Sidebar({ store: this.store, users: this.users, actions });
    this.chat = new ChatView({ store: this.store, users: this.users, api: this.api, actions });
    this.element = el('div', { class: 'app' }, this.sidebar.element, this.chat.element);
  }

  start() {
    root.replaceChildren(this.element);
    this.store.subscribe((id) => this.changed(id));
    this.users.put({ user_id: this.session.user_id, username: this.session.username, display_name: '' });
    this.api.me().then((me) => this.users.put(me)).catch(() => {}); // The username stands in.
    const { signal } = this.stopped;
    window.addEventListener('hashchange', () => this.follow(), { signal });
    window.addEventListener('online', () => this.connection.retryNow(), { signal });
    document.addEventListener('visibilitychange', () => this.look(), { signal });
    window.addEventListener('focus', () => this.look(), { signal });
    this.countdown = setInterval(() => this.sidebar.setState(this.connection.state), COUNTDOWN_MS);
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
    this.onEnd(message);
  }

  actions() {
    const { api } = this;
    const done = () => this.chat.focusText();
    return {
      open: (id) => this.go(id),
      back: () => this.go(0),
      newChat: () => newChat({ api, start: (user) => this.enter(() => api.createDirect(user.user_id), user), done }),
      newGroup: () => newGroup({ api, create: (group) => this.enter(() => api.createGroup(group)), done }),
      joinGroup: () => joinGroup({ join: (id) => this.join(id), done }),
      signOut: () => this.signOut(),
      reconnect: () => (this.connection.state.phase === 'replaced' ? this.connection.start() : this.connection.retryNow()),
      send: (id, text) => this.send(id, text),
      older: (id) => this.feed.loadOlder(id),
      retry: (id, clientId) => this.outbox.retry(id, clientId),
      discard: (id, clientId) => this.store.discardPending(id, clientId),
      addMember: async (id, user) => {
        await api.addMember(id, user.user_id);
        this.users.put(user);
        toast(`${user.display_name || user.username} was added.`);
        this.feed.refresh(id);
      },
      leave: (id) => {
        const name = titleOf(this.store.get(id).info, this.users);
        confirmLeave({
          name,
          leave: async () => {
            await api.leave(id);
            this.store.remove(id);
          },
        });
      },
    };
  }

  /** Makes a conversation by `create` and opens it. */
  async enter(create, user) {
    if (user) this.users.put(user);
    const conversation = await create();
    this.feed.onConversation(conversation);
    this.go(conversation.conversation_id);
  }

  async join(id) {
    const answer = await this.api.join(id);
    if (answer?.conversation_id) return this.enter(async () => answer);
    try {
      return await this.enter(() => this.api.conversation(id));
    } catch (error) {
      if (error.code !== 'not_found' && error.code !== 'permission_denied') throw error;
      return toast('Your request was sent. The group appears here once it is accepted.');
    }
  }

  send(id, text) {
    const taken = this.outbox.enqueue(id, text, newClientId(), Date.now());
    if (!taken) toast(`${PENDING_LIMIT} messages are waiting to be sent. Wait for the connection.`, { isError: true });
    return taken;
  }

  async signOut() {
    await this.api.signOut().catch(() => {}); // Without the server, forgetting the token has to do.
    sessionStorage.removeItem(this.unsentKey);
    this.end('');
  }

  // ---- The page ----

  /** Opens a conversation by the page's address, so that “back” and a reload do what one expects. */
  go(id) {
    const hash = id ? `#c${id}` : '';
    if (location.hash === hash) this.follow();
    else if (hash) location.hash = hash;
    else {
      history.pushState(null, '', location.pathname + location.search);
      this.follow();
    }
  }

  /** Shows what the address names, as far as it is known already. */
  follow() {
    const wanted = Number(location.hash.match(/^#c(\d{1,16})$/)?.[1] ?? 0);
    const id = isId(wanted) && this.store.get(wanted) ? wanted : 0;
    this.element.classList.toggle('chat-open', id !== 0);
    if (id === this.openId) return;
    this.openId = id;
    this.feed.open(id);
    this.chat.show(id);
    this.look();
    this.draw();
  }

  look() {
    const visible = document.visibilityState === 'visible';
    this.feed.setVisible(visible);
    if (visible) this.connection.retryNow();
  }

  synced() {
    this.importUnsent();
    this.follow();
    this.draw();
  }

  changed(id) {
    if (id === this.openId && !this.store.get(id)) {
      toast('You are no longer a member of that conversation.');
      this.go(0);
    }
    this.draw();
  }

  draw() {
    if (this.drawTimer || this.stopped.signal.aborted) return;
    this.drawTimer = setTimeout(() => {
      this.drawTimer = undefined;
      this.sidebar.setMe(this.users.name(this.session.user_id));
      this.sidebar.render({ openId: this.openId, synced: this.feed.synced });
      this.chat.render();
      const unread = this.store.totalUnread();
      document.title = unread > 0 ? `(${unread}) Rookery` : 'Rookery';
      this.exportUnsent();
    }, RENDER_PAUSE_MS);
  }

  /** Unsent messages outlive a reload; their client_ids keep a repeat from being stored twice. */
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

// ---- Signing in and out ----

let client = null;

function readSession() {
  try {
    const session = JSON.parse(localStorage.getItem(SESSION_KEY));
    return session?.token && isId(session.user_id) ? session : null;
  } catch {
    return null;
  }
}

function begin(session) {
  client = new Client(session, (message) => {
    client = null;
    // Another tab may have signed in anew meanwhile.
    if (readSession()?.token === session.token) localStorage.removeItem(SESSION_KEY);
    history.replaceState(null, '', location.pathname + location.search);
    showSignIn(message);
  });
  client.start();
}

function showSignIn(notice = '') {
  document.title = 'Rookery';
  const view = new SignInView({
    api: new Api(),
    notice,
    onSession: (session) => {
      localStorage.setItem(SESSION_KEY, JSON.stringify(session));
      begin(session);
    },
  });
  root.replaceChildren(view.element);
  view.username.focus();
}

// Signing in or out in one tab is meant for all of them.
window.addEventListener('storage', ({ key }) => {
  if (key !== SESSION_KEY && key !== null) return;
  const session = readSession();
  if (client && !session) client.end('');
  else if (!client && session) begin(session);
});

const session = readSession();
if (session) begin(session);
else showSignIn();
