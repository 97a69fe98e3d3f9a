// Finding a user by name: a search field with its results below. Enter takes the first, arrows walk through them.

import { avatar, el } from './dom.js';

const SEARCH_PAUSE_MS = 250;

let count = 0;

export class UserPicker {
  /** `onPick(user)` is called with the user chosen. */
  constructor({ api, label, onPick }) {
    Object.assign(this, { api, onPick });
    count += 1;
    const resultsId = `picker-results-${count}`;
    this.found = [];
    this.asked = 0;
    this.input = el('input', {
      type: 'search', autocomplete: 'off', autocapitalize: 'none', spellcheck: false, 'aria-controls': resultsId,
      oninput: () => this.changed(), onkeydown: (event) => this.keyDown(event),
    });
    this.results = el('ul', { class: 'results', id: resultsId, 'aria-live': 'polite', onkeydown: (event) => this.walk(event) });
    this.element = el('div', { class: 'picker' }, el('label', { class: 'field' }, el('span', {}, label), this.input), this.results);
  }

  clear() {
    this.input.value = '';
    this.asked += 1;
    this.show([], '');
  }

  changed() {
    clearTimeout(this.timer);
    const query = this.input.value.trim();
    if (!query) this.clear();
    else this.timer = setTimeout(() => this.search(query), SEARCH_PAUSE_MS);
  }

  async search(query) {
    const asked = (this.asked += 1);
    try {
      const users = await this.api.findUsers(query);
      if (asked === this.asked) this.show(users, users.length === 0 ? 'Nobody by that name.' : '');
    } catch (error) {
      if (asked === this.asked) this.show([], error.message);
    }
  }

  show(users, note) {
    this.found = users;
    this.results.replaceChildren(
      ...users.map((user) => {
        const name = user.display_name || user.username;
        return el('li', {},
          el('button', { type: 'button', class: 'result', onclick: () => this.onPick(user) },
            avatar(name, user.user_id, 'direct'),
            el('span', {}, name, el('span', { class: 'hint' }, ` @${user.username}`))));
      }),
      ...(note ? [el('li', { class: 'hint' }, note)] : []),
    );
  }

  async keyDown(event) {
    if (event.key === 'ArrowDown') {
      event.preventDefault();
      this.results.querySelector('button')?.focus();
    } else if (event.key === 'Enter' && !event.isComposing) {
      event.preventDefault();
      clearTimeout(this.timer);
      const query = this.input.value.trim();
      if (!query) return;
      await this.search(query);
      const exact = this.found.find((user) => user.username.toLowerCase() === query.toLowerCase());
      const user = exact ?? (this.found.length === 1 ? this.found[0] : undefined);
      if (user) this.onPick(user);
    }
  }

  walk(event) {
    const row = event.target.closest('li');
    const to = { ArrowDown: row?.nextElementSibling, ArrowUp: row?.previousElementSibling }[event.key];
    if (event.key === 'ArrowUp' && !to) this.input.focus();
    if (!to) return;
    event.preventDefault();
    to.querySelector('button')?.focus();
  }
}
