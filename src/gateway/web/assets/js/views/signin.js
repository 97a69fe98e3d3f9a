// The page before signing in: sign in, or sign up and sign in at once.

import { el } from './dom.js';

export class SignInView {
  /** `onSession(session)` receives the answer of POST /sessions with the username. */
  constructor({ api, onSession, notice = '' }) {
    Object.assign(this, { api, onSession });
    this.signingUp = false;
    this.username = el('input', {
      name: 'username', required: true, maxLength: 32, autocomplete: 'username', autocapitalize: 'none', spellcheck: false,
    });
    this.displayName = el('input', { name: 'display_name', maxLength: 64, autocomplete: 'name' });
    this.password = el('input', { name: 'password', type: 'password', required: true, maxLength: 256 });
    this.displayField = el('label', { class: 'field' }, el('span', {}, 'Name shown to others'), this.displayName);
    this.hint = el('span', { class: 'hint', id: 'password-hint' }, 'At least 6 characters.');
    this.password.setAttribute('aria-describedby', 'password-hint');
    this.error = el('p', { class: 'form-error', role: 'alert' }, notice);
    this.submit = el('button', { type: 'submit', class: 'primary' });
    this.swap = el('button', { type: 'button', class: 'link', onclick: () => this.setMode(!this.signingUp) });
    this.heading = el('h2', {});
    this.element = el(
      'main', { class: 'signin' },
      el('form', { class: 'card', onsubmit: (event) => this.go(event) },
        el('h1', { class: 'wordmark' }, 'Rookery'),
        this.heading,
        el('label', { class: 'field' }, el('span', {}, 'Username'), this.username),
        this.displayField,
        el('label', { class: 'field' }, el('span', {}, 'Password'), this.password, this.hint),
        this.error, this.submit, this.swap),
    );
    this.setMode(false, notice);
  }

  setMode(signingUp, notice = '') {
    this.signingUp = signingUp;
    this.displayField.hidden = !signingUp;
    this.hint.hidden = !signingUp;
    this.password.autocomplete = signingUp ? 'new-password' : 'current-password';
    this.heading.textContent = signingUp ? 'Create an account' : 'Sign in';
    this.submit.textContent = signingUp ? 'Create account' : 'Sign in';
    this.swap.textContent = signingUp ? 'I have an account already' : 'Create an account';
    this.error.textContent = notice;
    this.username.focus();
  }

  async go(event) {
    event.preventDefault();
    const username = this.username.value.trim();
    const password = this.password.value;
    this.error.textContent = '';
    this.submit.disabled = true;
    try {
      if (this.signingUp) await this.api.signUp(username, password, this.displayName.value.trim() || username);
      const session = await this.api.signIn(username, password, deviceName());
      this.onSession({ ...session, username });
    } catch (error) {
      this.error.textContent = error.message;
      const field = { username: this.username, password: this.password, display_name: this.displayName }[error.field];
      (field ?? this.password).focus();
    } finally {
      this.submit.disabled = false;
    }
  }
}

/** What the user will know this browser by among the devices. */
function deviceName() {
  const agent = navigator.userAgent;
  const browser = [['Firefox/', 'Firefox'], ['Edg/', 'Edge'], ['OPR/', 'Opera'], ['Chrome/', 'Chrome'], ['Safari/', 'Safari']].find(([mark]) => agent.includes(mark))?.[1] ?? 'Web browser';
  const system = ['Android', 'iPhone', 'iPad', 'Windows', 'Mac', 'Linux'].find((name) => agent.includes(name));
  return system ? `${browser} on ${system}` : browser;
}
