// Who somebody is, how it is, and what the user wants with it: beside a direct conversation, or in a dialog.

import { presenceText } from '../format.js';
import { confirm, tell } from './dialog.js';
import { avatar, el } from './dom.js';
import { Panel, renderSections } from './panel.js';

export class PersonPanel extends Panel {
  constructor(parts, actions, onToggle) {
    super('Details', parts, actions, onToggle);
  }

  opened() {
    this.actions.refreshUser(this.store.get(this.id)?.info.peer_user_id);
  }

  sections(info) {
    return [personSection(this, info.peer_user_id, (work) => this.act(work)), this.ownSection(info), this.putAway(info)];
  }

  putAway(info) {
    return {
      key: 'away',
      signature: '',
      fill: (section) => section.replaceChildren(
        el('button', { type: 'button', class: 'quiet', onclick: () => this.act(() => this.actions.hide(info.conversation_id)) }, 'Hide until the next message')),
    };
  }
}

/** A section about one user. `parts`: users, presence, contacts, actions; `act(work)` shows what is refused. */
export function personSection({ users, presence, contacts, actions }, userId, act, { message = false } = {}) {
  const user = users.get(userId);
  const name = users.name(userId);
  const how = presenceText(presence.get(userId));
  const state = contacts.state(userId);
  const button = (label, work, kind = '') => el('button', { type: 'button', class: kind, 'data-focus': 'contact', onclick: () => act(work) }, label);
  const blocked = state === 'blocked';
  const block = () => confirm({
    title: `Block ${name}?`, text: 'Neither of you can write to the other or see how the other is. Nobody is told.', label: 'Block', act: () => contacts.block(userId),
  });
  const relation = {
    none: () => [button('Add to contacts', () => contacts.request({ user_id: userId, ...user }))],
    requested: () => [el('p', { class: 'hint' }, 'You have asked to be contacts.'), button('Take it back', () => contacts.remove(userId))],
    invited: () => [
      el('p', { class: 'hint' }, contacts.byId.get(userId)?.message || 'Asks to be your contact.'),
      button('Accept', () => contacts.accept(userId), 'primary'), button('Decline', () => contacts.decline(userId)),
    ],
    friend: () => [el('p', { class: 'hint' }, 'One of your contacts.'), button('Remove from contacts', () => contacts.remove(userId))],
    blocked: () => [el('p', { class: 'hint' }, 'You have blocked this user.'), button('Unblock', () => contacts.unblock(userId))],
  };
  return {
    key: 'person',
    signature: JSON.stringify([userId, name, user, how, state, message]),
    fill: (section) => section.replaceChildren(
      el('div', { class: 'identity' },
        avatar(name, userId, 'direct large', presence.get(userId)?.status),
        el('p', { class: 'identity-name', dir: 'auto' }, name),
        user ? el('p', { class: 'hint' }, `@${user.username}`) : '',
        how ? el('p', { class: 'hint' }, how) : '',
        user?.bio ? el('p', { class: 'description', dir: 'auto' }, user.bio) : ''),
      el('div', { class: 'acts' },
        message && !blocked ? button('Message', () => actions.openUser(user ?? { user_id: userId }), 'primary') : '',
        relation[state](),
        blocked ? '' : el('button', { type: 'button', class: 'danger', onclick: block }, 'Block'))),
  };
}

/** Shows a user in a dialog that stays current until it is closed. */
export function showPerson(parts, userId) {
  const body = el('div', { class: 'sections' });
  const error = el('p', { class: 'form-error', role: 'alert' });
  const act = async (work) => {
    error.textContent = '';
    try {
      await work();
      if (body.isConnected) draw();
    } catch (cause) {
      error.textContent = cause.message;
    }
  };
  const opened = tell({ title: 'Profile', body: [body, error] });
  const actions = { ...parts.actions, openUser: async (user) => {
    await parts.actions.openUser(user);
    opened.close();
  } };
  const draw = () => renderSections(body, [personSection({ ...parts, actions }, userId, act, { message: true })]);
  draw();
  parts.actions.refreshUser(userId).then(() => body.isConnected && draw());
}
