// The panel of a group: what it is, who is in it, adding someone, leaving.

import { avatar, el, reconcile } from './dom.js';
import { UserPicker } from './picker.js';

const POLICY_WORDS = {
  open: 'Anyone may join by the group’s number.',
  approval: 'Joining needs approval.',
  invite: 'Only by invitation.',
};

export class MembersPanel {
  /** `actions`: `addMember(id, user)` (a promise) and `leave(id)`; `onToggle(shown)` as the panel comes and goes. */
  constructor({ store, users, api, actions, onToggle }) {
    Object.assign(this, { store, users, api, actions, onToggle });
    this.id = 0;
    this.members = [];
    this.cursor = '';
    this.seen = '';
    this.description = el('p', { class: 'description', dir: 'auto' });
    this.facts = el('p', { class: 'hint' });
    this.list = el('ul', { class: 'members' });
    this.moreButton = el('button', { type: 'button', class: 'link', hidden: true, onclick: () => this.load(true) }, 'Show more');
    this.error = el('p', { class: 'form-error', role: 'alert' });
    this.picker = new UserPicker({ api, label: 'Add someone by username', onPick: (user) => this.add(user) });
    this.leaveButton = el('button', { type: 'button', class: 'danger', onclick: () => actions.leave(this.id) }, 'Leave group');
    this.element = el(
      'aside', { class: 'panel', hidden: true, 'aria-label': 'Members' },
      el('header', { class: 'bar' },
        el('h2', {}, 'Members'),
        el('button', { type: 'button', class: 'quiet', 'aria-label': 'Close the members', onclick: () => this.hide() }, '×')),
      this.description, this.facts, this.picker.element, this.error, this.list, this.moreButton, this.leaveButton,
    );
  }

  show(id) {
    this.id = id;
    this.element.hidden = false;
    this.members = [];
    this.cursor = '';
    this.seen = '';
    this.error.textContent = '';
    this.picker.clear();
    this.onToggle(true);
    this.render();
  }

  hide() {
    this.element.hidden = true;
    this.id = 0;
    this.onToggle(false);
  }

  render() {
    const info = this.store.get(this.id)?.info;
    if (!info) return;
    const state = `${info.updated_at_ms} ${info.member_count}`;
    if (state !== this.seen) {
      this.seen = state;
      this.load(false);
    }
    this.description.textContent = info.description;
    this.facts.textContent = `Group number ${info.conversation_id}. ${POLICY_WORDS[info.join_policy] ?? ''}`;
    reconcile(this.list, 'li', this.members.map((member) => this.item(member)));
    this.moreButton.hidden = this.cursor === '';
  }

  item(member) {
    const id = member.user_id;
    const name = this.users.name(id);
    const username = this.users.get(id)?.username ?? '';
    const self = id === this.store.userId;
    return {
      key: id,
      signature: JSON.stringify([name, username, member.role]),
      fill: (row) =>
        row.replaceChildren(
          avatar(name, id, 'direct'),
          el('span', { class: 'member-name' }, self ? `${name} (you)` : name, el('span', { class: 'hint' }, username ? ` @${username}` : '')),
          member.role && member.role !== 'member' ? el('span', { class: 'role' }, member.role) : '',
        ),
    };
  }

  async load(more) {
    const id = this.id;
    try {
      const page = await this.api.members(id, more ? this.cursor : '');
      if (id !== this.id) return;
      const items = page.items ?? [];
      for (const item of items) if (item.username) this.users.put(item);
      this.members = more ? [...this.members, ...items] : items;
      this.cursor = page.next_cursor ?? '';
      this.render();
    } catch (error) {
      if (id === this.id) this.error.textContent = error.message;
    }
  }

  async add(user) {
    this.error.textContent = '';
    const id = this.id;
    try {
      await this.actions.addMember(id, user);
      this.picker.clear();
      if (id === this.id) this.load(false);
    } catch (error) {
      this.error.textContent = error.message;
    }
  }
}
