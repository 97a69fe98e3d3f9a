// The page of a group: what it is, how it is set, who is in it, who wants in and who must stay out.

import { untilOf } from '../format.js';
import { may } from '../rights.js';
import { avatar, el, field, iconButton, reconcile, select } from './dom.js';
import { POLICIES } from './dialogs.js';
import { editGroup, memberMenu } from './groupacts.js';
import { Panel, toggle } from './panel.js';
import { UserPicker } from './picker.js';

const SLOW_MODES = [[0, 'Off'], [5, '5 seconds'], [15, '15 seconds'], [60, 'a minute'], [300, '5 minutes'], [3600, 'an hour']];
const INVITE_TERMS = [[0, 'For ever'], [3600, 'For an hour'], [86_400, 'For a day'], [604_800, 'For a week']];
const INVITE_USES = [[0, 'by anybody'], [1, 'once'], [10, '10 times'], [100, '100 times']];
const POLICY_WORDS = { open: 'Anyone may join by its number.', approval: 'Joining needs approval.', invite: 'Only by invitation.' };

export class GroupPanel extends Panel {
  constructor(parts, actions, onToggle) {
    super('Group', parts, actions, onToggle);
    /** Lists that only managers see: requests, invites, bans; null where they aren't known. */
    this.lists = { requests: null, invites: null, bans: null };
    this.memberRows = el('ul', { class: 'members' });
    this.picker = new UserPicker({ api: this.api, label: 'Add someone by username', onPick: (user) => this.add(user) });
  }

  opened() {
    this.lists = { requests: null, invites: null, bans: null };
    this.picker.clear();
    const info = this.store.get(this.id)?.info;
    if (!info) return;
    this.pending = info.pending_requests ?? 0;
    for (const name of Object.keys(this.lists)) if (may(info, name === 'bans' ? 'discipline' : name)) this.load(name);
  }

  /** Reads one of the managers' lists; a server without it has none, and the section stays away. */
  async load(name) {
    const { id } = this;
    try {
      const page = await this.api[name](id);
      if (id === this.id) this.lists[name] = page.items ?? [];
    } catch (error) {
      if (id === this.id && error.code !== 'unimplemented' && error.code !== 'permission_denied') this.error.textContent = error.message;
    }
    this.render();
  }

  sections(info) {
    if (this.pending !== (info.pending_requests ?? 0)) {
      this.pending = info.pending_requests ?? 0;
      this.load('requests');
    }
    return [
      this.identity(info), this.requests(info), this.memberSection(info), this.ownSection(info), this.settings(info), this.invites(info),
      this.bans(info), this.end(info),
    ];
  }

  identity(info) {
    const id = info.conversation_id;
    return {
      key: 'identity',
      signature: JSON.stringify([id, info.name, info.description, info.join_policy, info.announcement, info.role]),
      fill: (section) => section.replaceChildren(
        el('div', { class: 'identity' },
          avatar(info.name || 'Group', id, 'group large'),
          el('p', { class: 'identity-name', dir: 'auto' }, info.name || `Group ${id}`),
          info.description ? el('p', { class: 'description', dir: 'auto' }, info.description) : '',
          el('p', { class: 'hint' }, `Group number ${id}. ${POLICY_WORDS[info.join_policy] ?? ''}`)),
        may(info, 'changeRoom')
          ? el('div', { class: 'acts' }, el('button', { type: 'button', onclick: () => editGroup(this.store.get(id).info, (change) => this.actions.changeGroup(id, change)) }, 'Edit name and texts'))
          : ''),
    };
  }

  settings(info) {
    if (!may(info, 'changeRoom')) return null;
    const set = (change) => this.act(() => this.actions.changeGroup(info.conversation_id, change));
    const slow = info.slow_mode_seconds ?? 0;
    const slowModes = SLOW_MODES.some(([seconds]) => seconds === slow) ? SLOW_MODES : [...SLOW_MODES, [slow, `${slow} seconds`]];
    return {
      key: 'settings',
      signature: JSON.stringify([info.join_policy, info.read_only, info.silence_all, info.history_open, slow]),
      fill: (section) => section.replaceChildren(
        el('h3', {}, 'Settings'),
        field('Who may join', select(POLICIES, info.join_policy, { 'data-focus': 'policy', onchange: ({ target }) => set({ join_policy: target.value }) })),
        field('Slow mode: a member waits between messages', select(slowModes, slow, {
          'data-focus': 'slow', onchange: ({ target }) => set({ slow_mode_seconds: Number(target.value) }),
        })),
        toggle('Only admins write', info.read_only, (value) => set({ read_only: value }), 'readonly'),
        toggle('Silence all members', info.silence_all, (value) => set({ silence_all: value }), 'silence'),
        toggle('New members see what was written before', info.history_open, (value) => set({ history_open: value }), 'history')),
    };
  }

  requests(info) {
    const { requests } = this.lists;
    if (!requests?.length || !may(info, 'requests')) return null;
    const answer = (userId, word) => this.act(async () => {
      await this.api.answerRequest(this.id, userId, word);
      await this.load('requests');
    });
    return {
      key: 'requests',
      signature: JSON.stringify([requests, requests.map(({ user_id: id }) => this.users.name(id))]),
      fill: (section) => section.replaceChildren(
        el('h3', {}, `Want to join (${requests.length})`),
        el('ul', { class: 'members' }, requests.map(({ user_id: userId, message }) => this.personRow(userId, message, [
          el('button', { type: 'button', class: 'primary', onclick: () => answer(userId, 'accept') }, 'Accept'),
          iconButton('close', `Decline ${this.users.name(userId)}`, () => answer(userId, 'decline')),
        ])))),
    };
  }

  invites(info) {
    const { invites } = this.lists;
    if (!invites || !may(info, 'invites')) return null;
    const { id } = this;
    const term = select(INVITE_TERMS, 604_800, { 'aria-label': 'How long it may be used' });
    const uses = select(INVITE_USES, 0, { 'aria-label': 'How often it may be used' });
    const make = () => this.act(async () => {
      const terms = {};
      if (Number(term.value)) terms.expires_in_seconds = Number(term.value);
      if (Number(uses.value)) terms.uses_max = Number(uses.value);
      await this.api.invite(id, terms);
      await this.load('invites');
    });
    const revoke = (code) => this.act(async () => {
      await this.api.revokeInvite(id, code);
      await this.load('invites');
    });
    const wordsOf = ({ uses: used = 0, uses_max: max = 0, expires_at_ms: expires = 0 }) =>
      [max ? `used ${used} of ${max}` : `used ${used} times`, expires ? untilOf(expires) : 'for ever'].join(', ');
    return {
      key: 'invites',
      signature: JSON.stringify(invites),
      fill: (section) => section.replaceChildren(
        el('h3', {}, 'Invite codes'),
        el('ul', { class: 'members' }, invites.map((invite) => el('li', {},
          el('span', { class: 'member-name' }, el('code', {}, invite.code), el('span', { class: 'hint' }, wordsOf(invite))),
          iconButton('link', `Copy the address of the invitation ${invite.code}`, () => this.actions.copyInvite(invite.code)),
          iconButton('trash', `Take the code ${invite.code} back`, () => revoke(invite.code))))),
        el('div', { class: 'inline' }, term, uses),
        el('div', { class: 'acts' }, el('button', { type: 'button', onclick: make }, 'Make a code'))),
    };
  }

  memberSection(info) {
    const { items, cursor, error } = this.members.of(this.id);
    const rank = { owner: 0, admin: 1 };
    const sorted = [...items].sort((a, b) => (rank[a.role] ?? 2) - (rank[b.role] ?? 2));
    const mayAdd = may(info, 'addMembers');
    const section = {
      key: 'members',
      signature: JSON.stringify([info.conversation_id, info.member_count, mayAdd, cursor !== '', error]),
      fill: (element) => element.replaceChildren(
        el('h3', {}, `${info.member_count} member${info.member_count === 1 ? '' : 's'}`),
        mayAdd ? this.picker.element : '',
        error ? el('p', { class: 'form-error' }, error) : '',
        this.memberRows,
        cursor ? el('button', { type: 'button', class: 'link', onclick: () => this.members.more(this.id) }, 'Show more') : ''),
    };
    reconcile(this.memberRows, 'li', sorted.map((member) => this.memberItem(info, member)));
    return section;
  }

  memberItem(info, member) {
    const { user_id: userId, role, silenced_until_ms: silencedUntilMs = 0 } = member;
    const name = this.users.name(userId);
    const username = this.users.get(userId)?.username ?? '';
    const status = this.presence.get(userId)?.status ?? '';
    const silenced = silencedUntilMs > Date.now() ? `silenced ${untilOf(silencedUntilMs)}` : '';
    const self = userId === this.store.userId;
    return {
      key: userId,
      signature: JSON.stringify([name, username, role, status, silenced, info.role]),
      fill: (row) => row.replaceChildren(
        el('button', { type: 'button', class: 'face', 'aria-label': `Profile of ${name}`, onclick: () => this.actions.person(userId) }, avatar(name, userId, 'direct', status)),
        el('span', { class: 'member-name' }, self ? `${name} (you)` : name, el('span', { class: 'hint' }, [username && `@${username}`, silenced].filter(Boolean).join(' · '))),
        role && role !== 'member' ? el('span', { class: 'role' }, role) : '',
        self ? '' : iconButton('more', `More about ${name}`, ({ currentTarget }) => this.openMemberMenu(member, currentTarget), { 'aria-haspopup': 'menu' })),
    };
  }

  openMemberMenu(member, anchor) {
    const { id } = this;
    memberMenu({
      anchor, member, info: this.store.get(id).info, name: this.users.name(member.user_id), actions: this.actions,
      act: (work) => this.act(async () => {
        await work(this.api, id);
        await this.actions.membersChanged(id);
        if (this.lists.bans) await this.load('bans');
      }),
    });
  }

  bans(info) {
    const { bans } = this.lists;
    if (!bans?.length || !may(info, 'discipline')) return null;
    const lift = (userId) => this.act(async () => {
      await this.api.unban(this.id, userId);
      await this.load('bans');
    });
    return {
      key: 'bans',
      signature: JSON.stringify([bans, bans.map(({ user_id: id }) => this.users.name(id))]),
      fill: (section) => section.replaceChildren(
        el('h3', {}, `Banned (${bans.length})`),
        el('ul', { class: 'members' }, bans.map(({ user_id: userId, reason }) => this.personRow(userId, reason, [
          el('button', { type: 'button', onclick: () => lift(userId) }, 'Lift'),
        ])))),
    };
  }

  personRow(userId, note, controls) {
    const name = this.users.name(userId);
    return el('li', {}, avatar(name, userId, 'direct'), el('span', { class: 'member-name' }, name, note ? el('span', { class: 'hint', dir: 'auto' }, note) : null), controls);
  }

  end(info) {
    const { actions } = this;
    return {
      key: 'end',
      signature: info.role ?? '',
      fill: (section) => section.replaceChildren(el('div', { class: 'acts' },
        el('button', { type: 'button', class: 'danger', onclick: () => actions.leave(info.conversation_id) }, 'Leave the group'),
        may(info, 'dissolve') ? el('button', { type: 'button', class: 'danger', onclick: () => actions.dissolve(info.conversation_id) }, 'Dissolve the group') : '')),
    };
  }

  add(user) {
    return this.act(async () => {
      await this.actions.addMember(this.id, user);
      this.picker.clear();
    });
  }
}
