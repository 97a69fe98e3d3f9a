// The dialogs that begin a conversation: a direct chat, a new group, joining a group; and the one that asks again.

import { isId } from '../format.js';
import { el } from './dom.js';
import { UserPicker } from './picker.js';

/**
 * Shows a dialog; `submit()` may reject with an error to show. The dialog closes when it resolves, and then `done()`
 * may place the focus, which the browser has put back where it was before the dialog.
 */
function show({ title, body, submitLabel, submit, done = () => {}, danger = false }) {
  const error = el('p', { class: 'form-error', role: 'alert' });
  const button = el('button', { type: 'submit', class: danger ? 'danger' : 'primary' }, submitLabel ?? '');
  const titleId = `dialog-${Date.now()}`;
  let succeeded = false;
  const onclose = () => {
    dialog.remove();
    if (succeeded) done();
  };
  const dialog = el('dialog', { 'aria-labelledby': titleId, onclose });
  const run = async (work) => {
    error.textContent = '';
    button.disabled = true;
    try {
      await work();
      succeeded = true;
      dialog.close();
    } catch (cause) {
      error.textContent = cause.message;
    } finally {
      button.disabled = false;
    }
  };
  const onsubmit = (event) => {
    event.preventDefault();
    if (submit) run(submit);
  };
  dialog.append(
    el('form', { onsubmit },
      el('h2', { id: titleId }, title), ...body, error,
      el('div', { class: 'buttons' },
        el('button', { type: 'button', class: 'quiet', onclick: () => dialog.close() }, 'Cancel'),
        submit ? button : null)),
  );
  document.body.append(dialog);
  dialog.showModal();
  return { run };
}

/** `start(user)` opens the direct conversation. */
export function newChat({ api, start, done }) {
  let opened;
  const picker = new UserPicker({ api, label: 'Username', onPick: (user) => opened.run(() => start(user)) });
  opened = show({ title: 'New chat', body: [picker.element], done });
}

/** `create(group)` makes the group and opens it. */
export function newGroup({ api, create, done }) {
  const name = el('input', { required: true, maxLength: 100 });
  const description = el('input', { maxLength: 500 });
  const policy = el('select', {},
    el('option', { value: 'open' }, 'Open: anyone with its number'),
    el('option', { value: 'approval' }, 'After approval'),
    el('option', { value: 'invite' }, 'By invitation only'));
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
  show({
    title: 'New group',
    body: [
      el('label', { class: 'field' }, el('span', {}, 'Name'), name),
      el('label', { class: 'field' }, el('span', {}, 'Description'), description),
      el('label', { class: 'field' }, el('span', {}, 'Who may join'), policy),
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

/** `join(id)` asks to become a member. */
export function joinGroup({ join, done }) {
  const number = el('input', { required: true, inputMode: 'numeric', pattern: '[0-9]+', autocomplete: 'off' });
  show({
    title: 'Join a group',
    body: [
      el('label', { class: 'field' }, el('span', {}, 'Group number'), number,
        el('span', { class: 'hint' }, 'A member finds it at the top of the group’s member list.')),
    ],
    submitLabel: 'Join',
    submit: async () => {
      const id = Number(number.value.trim());
      if (!isId(id)) throw new Error('That is not a group’s number.');
      await join(id);
    },
    done,
  });
}

export function confirmLeave({ name, leave }) {
  show({
    title: `Leave ${name}?`,
    body: [el('p', {}, 'You will get no more of its messages.')],
    submitLabel: 'Leave group',
    submit: leave,
    danger: true,
  });
}
