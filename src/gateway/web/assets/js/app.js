// Where the page begins: who is signed in, kept in localStorage for all tabs, and the sign-in page for whoever isn't.

import { Api } from './api.js';
import { Client } from './client.js';
import { isId } from './format.js';
import { applyTheme } from './preferences.js';
import { SignInView } from './views/signin.js';

const SESSION_KEY = 'rookery.session';

const root = document.getElementById('app');
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
  const onEnd = (message) => {
    client = null;
    // Another tab may have signed in anew meanwhile.
    if (readSession()?.token === session.token) localStorage.removeItem(SESSION_KEY);
    history.replaceState(null, '', location.pathname + location.search);
    showSignIn(message);
  };
  client = new Client({ session, root, onEnd });
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

applyTheme();
const session = readSession();
if (session) begin(session);
else showSignIn();
