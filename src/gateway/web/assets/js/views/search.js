// The search: conversations by name at once, people and messages as the server answers. It can be narrowed to one
// conversation. Arrows walk from the field into what was found; Escape leaves.

import { listTime, summary, titleOf } from '../format.js';
import { avatar, el, iconButton, reconcile } from './dom.js';
import { icon } from './icons.js';

const SEARCH_PAUSE_MS = 250;
const CONVERSATIONS_SHOWN = 8;
const PEOPLE_SHOWN = 5;
/** What stands before a hit in its line, in characters. */
const BEFORE_HIT = 24;

export class SearchPane {
  /** `onToggle()` is called when the search begins or ends. */
  constructor(parts, actions, onToggle) {
    Object.assign(this, parts, { actions, onToggle });
    this.within = 0;
    this.asked = 0;
    this.forget();
    this.input = el('input', {
      type: 'search', placeholder: 'Search', autocomplete: 'off', autocapitalize: 'none', spellcheck: false, 'aria-label': 'Search people, conversations and messages',
      'aria-controls': 'found', title: 'Ctrl K', oninput: () => this.changed(), onkeydown: (event) => this.keyDown(event),
    });
    this.chip = el('span', { class: 'within', hidden: true });
    this.field = el('div', { class: 'search' }, icon('search'), this.chip, this.input);
    this.note = el('p', { class: 'empty', role: 'status' });
    this.list = el('ul', { class: 'found', id: 'found', onkeydown: (event) => this.walk(event) });
    this.element = el('div', { class: 'pane', hidden: true }, this.list, this.note);
  }

  get active() {
    return this.input.value.trim() !== '' || this.within !== 0;
  }

  focus(within = this.within) {
    this.within = within;
    this.input.focus();
    this.input.select();
    this.changed();
  }

  leave() {
    this.within = 0;
    this.input.value = '';
    this.changed();
  }

  forget() {
    this.people = [];
    this.messages = [];
    this.cursor = '';
    this.trouble = '';
    this.isWhole = true;
    this.searching = false;
  }

  changed() {
    clearTimeout(this.timer);
    this.asked += 1;
    this.forget();
    const query = this.input.value.trim();
    if (query) {
      this.searching = true;
      this.timer = setTimeout(() => this.ask(query), SEARCH_PAUSE_MS);
    }
    this.onToggle();
    this.render();
  }

  async ask(query, cursor = '') {
    const asked = (this.asked += 1);
    const conversationId = this.within;
    const people = conversationId || cursor ? this.people : this.api.findUsers(query, PEOPLE_SHOWN).catch(() => []);
    try {
      const page = await this.api.search({ query, conversationId, cursor });
      if (asked !== this.asked) return;
      this.messages = [...(cursor ? this.messages : []), ...(page.items ?? [])];
      this.cursor = page.next_cursor ?? '';
      this.isWhole = page.complete !== false;
    } catch (error) {
      if (asked !== this.asked) return;
      this.trouble = error.code === 'unimplemented' ? 'This server can’t search messages yet.' : error.message;
    }
    this.people = await people;
    if (asked !== this.asked) return;
    this.searching = false;
    for (const user of this.people) this.users.put(user);
    this.render();
  }

  render() {
    this.element.hidden = !this.active;
    const within = this.store.get(this.within)?.info;
    this.chip.hidden = !within;
    const name = within ? titleOf(within, this.users) : '';
    if (this.chip.dataset.name !== name) {
      this.chip.dataset.name = name;
      this.chip.replaceChildren(el('span', {}, name), iconButton('close', 'Search everywhere', () => this.focus(0)));
    }
    if (!this.active) return;
    const query = this.input.value.trim();
    const sections = [
      ['Conversations', this.within || !query ? [] : this.conversations(query)],
      ['People', query ? this.people.filter(({ user_id: id }) => id !== this.store.userId).map((user) => this.person(user)) : []],
      ['Messages', this.messages.map((message) => this.message(message, query))],
    ];
    const rows = sections.flatMap(([title, items]) => (items.length === 0 ? [] : [heading(title), ...items]));
    if (this.cursor) rows.push({ key: 'more', signature: '', fill: (row) => row.replaceChildren(el('button', { type: 'button', class: 'link', onclick: () => this.ask(query, this.cursor) }, 'Show more')) });
    reconcile(this.list, 'li', rows);
    const partly = !this.searching && !this.isWhole ? 'Not everything was searched yet; ask again in a while.' : '';
    this.note.textContent = this.trouble || partly || (this.searching ? 'Searching…' : query ? (rows.length === 0 ? 'Nothing was found.' : '') : 'Type what you look for.');
  }

  conversations(query) {
    const words = query.toLowerCase();
    const found = this.store.list().filter(({ info }) => this.namesOf(info).some((name) => name.toLowerCase().includes(words)));
    return found.slice(0, CONVERSATIONS_SHOWN).map(({ info }) => {
      const id = info.conversation_id;
      const title = titleOf(info, this.users);
      return {
        key: `c${id}`,
        signature: title,
        fill: (row) => row.replaceChildren(result(avatar(title, info.peer_user_id || id, info.kind), title, info.kind === 'group' ? `${info.member_count} members` : '', () => {
          this.leave();
          this.actions.open(id);
        })),
      };
    });
  }

  namesOf(info) {
    const peer = info.kind === 'direct' ? this.users.get(info.peer_user_id) : undefined;
    return [titleOf(info, this.users), peer?.username ?? ''];
  }

  person(user) {
    const name = user.display_name || user.username;
    return {
      key: `u${user.user_id}`,
      signature: name,
      fill: (row) => row.replaceChildren(result(avatar(name, user.user_id, 'direct'), name, `@${user.username}`, async () => {
        await this.actions.openUser(user);
        this.leave();
      })),
    };
  }

  message(message, query) {
    const { conversation_id: id, seq } = message;
    const info = this.store.get(id)?.info;
    const who = message.sender_id === this.store.userId ? 'You' : this.users.name(message.sender_id);
    const where = info && !this.within ? titleOf(info, this.users) : '';
    const title = where && info.kind === 'group' ? `${who} in ${where}` : info?.kind === 'direct' && where ? `${who === 'You' ? 'You to ' : ''}${where}` : who;
    return {
      key: `m${id}-${seq}`,
      signature: JSON.stringify([title, message.text, query]),
      fill: (row) => row.replaceChildren(result(null, title, excerpt(summary(message), query), () => this.actions.jumpTo(id, seq), listTime(message.created_at_ms))),
    };
  }

  // ---- Keys ----

  keyDown(event) {
    if (event.key === 'Escape' && this.active) {
      event.stopPropagation();
      this.leave();
    } else if (event.key === 'Backspace' && this.input.value === '' && this.within) this.focus(0);
    else if (event.key === 'ArrowDown' || (event.key === 'Enter' && !event.isComposing)) {
      event.preventDefault();
      const first = this.active ? this.list.querySelector('button') : document.querySelector('.conversations button');
      if (event.key === 'Enter' && this.active) first?.click();
      else first?.focus();
    }
  }

  walk(event) {
    if (event.key === 'Escape') {
      event.stopPropagation();
      this.leave();
      this.input.focus();
    }
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const buttons = [...this.list.querySelectorAll('button')];
    const to = buttons.indexOf(document.activeElement) + step;
    if (to < 0) this.input.focus();
    else buttons[to]?.focus();
  }
}

function heading(title) {
  return { key: `h ${title}`, signature: title, fill: (row) => row.replaceChildren(el('h3', {}, title)) };
}

function result(face, title, detail, run, time = '') {
  return el('button', { type: 'button', class: 'result', onclick: run },
    face, el('span', { class: 'result-text' }, el('span', { class: 'result-title', dir: 'auto' }, title, time ? el('time', { class: 'hint' }, time) : null), el('span', { class: 'hint', dir: 'auto' }, detail)));
}

/** The part of a text around the first word that was looked for, with the word marked. */
function excerpt(text, query) {
  const line = text.replaceAll(/\s+/g, ' ');
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const places = words.map((word) => [line.toLowerCase().indexOf(word), word.length]).filter(([at]) => at >= 0);
  if (places.length === 0) return line.slice(0, 140);
  const [at, length] = places.sort((a, b) => a[0] - b[0])[0];
  const from = Math.max(0, at - BEFORE_HIT);
  return [from > 0 ? `…${line.slice(from, at)}` : line.slice(0, at), el('mark', {}, line.slice(at, at + length)), line.slice(at + length, at + 140)];
}
