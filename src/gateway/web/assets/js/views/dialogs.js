// The dialogs that begin something: a direct chat, a new group, joining one, a contact; and where to forward to.

import { isId, titleOf } from '../format.js';
import { openDialog } from './dialog.js';
import { avatar, el, field, select } from './dom.js';
import { UserPicker } from './picker.js';

/** So many conversations are offered to forward to; typing narrows them down. */
const FORWARD_CHOICES = 12;

export const POLICIES = [
  ['open', 'Open: anyone with its number'],
  ['approval', 'After approval'],
  ['invite', 'By invitation only'],
];

/** `start(user)` opens the direct conversation. */
export function newChat({ api, start, done }) {
  let opened;
  const picker = new UserPicker({ api, label: 'Username', onPick: (user) => opened.run(() => start(user)) });
  opened = openDialog({ title: 'New chat', body: [picker.element], done });
}

/** `create(group)` makes the group and opens it. */
export function newGroup({ api, create, done }) {
  const name = el('input', { required: true, maxLength: 100 });
  const description = el('input', { maxLength: 500 });
  const policy = select(POLICIES, 'open');
  const members = new Map();
  const chips = el('ul', { class: 'chips', 'aria-label': 'Chosen members' });
  const picker = new UserPicker({
    api,
    label: 'Members, by username',
    onPick: (user) => {
      members.set(user.user_id, user);
      picker.clear();
      picker.input.focus();
      showChips();
    },
  });
  const showChips = () => chips.replaceChildren(...[...members.values()].map((user) => {
    const label = `Remove ${user.username}`;
    const remove = () => {
      members.delete(user.user_id);
      showChips();
    };
    return el('li', {}, user.display_name || user.username, el('button', { type: 'button', class: 'quiet', 'aria-label': label, onclick: remove }, '×'));
  }));
  openDialog({
    title: 'New group',
    body: [
      field('Name', name),
      field('Description', description),
      field('Who may join', policy),
      picker.element, chips,
    ],
    submitLabel: 'Create group',
    submit: () => create({
      name: name.value.trim(),
      description: description.value.trim(),
      join_policy: policy.value,
      member_ids: [...members.keys()],
    }),
    done,
  });
}

/** `join(id, message)` asks to become a member; `useInvite(code)` becomes one by a code. */
export function joinGroup({ join, useInvite, done }) {
  const number = el('input', { required: true, autocomplete: 'off', autocapitalize: 'none', spellcheck: false });
  const message = el('input', { maxLength: 200 });
  openDialog({
    title: 'Join a group',
    body: [
      field('Group number or invite code', number, 'A member finds either in the group’s details.'),
      field('A word to its admins', message, 'They read it where joining needs their approval.'),
    ],
    submitLabel: 'Join',
    submit: async () => {
      // An invite is often passed on as the whole address.
      const code = number.value.trim().replace(/^.*#join-/, '');
      const id = Number(code);
      if (isId(id)) await join(id, message.value.trim());
      else if (code) await useInvite(code);
    },
    done,
  });
}

/** `request(user, message)` asks somebody to be a contact. */
export function addContact({ api, request, done }) {
  const message = el('input', { maxLength: 200 });
  let opened;
  const picker = new UserPicker({ api, label: 'Username', onPick: (user) => opened.run(() => request(user, message.value.trim())) });
  opened = openDialog({ title: 'Add a contact', body: [field('A word with it', message), picker.element], done });
}

/** `forward(id)` sends copies to the conversation chosen. */
export function forwardTo({ store, users, title, forward, done }) {
  const filter = el('input', { type: 'search', autocomplete: 'off', oninput: () => list() });
  const results = el('ul', { class: 'results' });
  let opened;
  const list = () => {
    const words = filter.value.trim().toLowerCase();
    const found = store.list().filter(({ info }) => titleOf(info, users).toLowerCase().includes(words)).slice(0, FORWARD_CHOICES);
    results.replaceChildren(...found.map(({ info }) => {
      const name = titleOf(info, users);
      return el('li', {},
        el('button', { type: 'button', class: 'result', onclick: () => opened.run(() => forward(info.conversation_id)) },
          avatar(name, info.peer_user_id || info.conversation_id, info.kind), el('span', {}, name)));
    }));
  };
  list();
  opened = openDialog({ title, body: [field('Conversation', filter), results], done });
}
