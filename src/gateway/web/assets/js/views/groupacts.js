// What managers of a group do by menu and dialog: change its texts, and what members are and may.

import { may, outranks } from '../rights.js';
import { choose, confirm, openDialog } from './dialog.js';
import { el, field } from './dom.js';
import { openMenu } from './menu.js';
import { FOREVER_MS } from './panel.js';

const MINUTE_MS = 60_000;
const SILENCES = [[10 * MINUTE_MS, 'for 10 minutes'], [60 * MINUTE_MS, 'for an hour'], [24 * 60 * MINUTE_MS, 'for a day'], [0, 'until it is taken back']];

/** `change(fields)` takes the texts that were changed. */
export function editGroup(info, change) {
  const name = el('input', { required: true, maxLength: 100, value: info.name });
  const description = el('textarea', { rows: 3, maxLength: 500, value: info.description });
  const announcement = el('textarea', { rows: 3, maxLength: 1000, value: info.announcement ?? '' });
  openDialog({
    title: 'Edit the group',
    body: [field('Name', name), field('Description', description), field('Announcement', announcement, 'It stands above the messages for everybody. Empty: none.')],
    submitLabel: 'Save',
    submit: async () => {
      const wanted = { name: name.value.trim(), description: description.value.trim(), announcement: announcement.value.trim() };
      const changed = Object.fromEntries(Object.entries(wanted).filter(([key, value]) => value !== (info[key] ?? '')));
      if (Object.keys(changed).length > 0) await change(changed);
    },
  });
}

/** Opens the menu of a member; `act(work)` does `work(api, id)` and shows what is refused. */
export function memberMenu({ anchor, member, info, name, actions, act }) {
  const { user_id: userId, role = 'member' } = member;
  const above = outranks(info.role, role);
  const silenced = (member.silenced_until_ms ?? 0) > Date.now();
  const set = (change) => act((api, id) => api.changeMember(id, userId, change));
  const silence = () => choose({
    title: `Silence ${name}`, label: 'Silence', options: SILENCES,
    act: (ms) => set({ silenced_until_ms: ms ? Date.now() + ms : FOREVER_MS }),
  });
  const ask = (title, text, label, work) => () => confirm({ title, text, label, act: () => act(work) });
  openMenu(anchor, [
    { label: 'Profile', icon: 'user', run: () => actions.person(userId) },
    { label: 'Message', icon: 'send', run: () => actions.openUser({ user_id: userId }) },
    may(info, 'setRoles') && role === 'member' ? { label: 'Make an admin', icon: 'key', run: () => set({ role: 'admin' }) } : null,
    may(info, 'setRoles') && role === 'admin' ? { label: 'Make a member', icon: 'key', run: () => set({ role: 'member' }) } : null,
    may(info, 'transfer')
      ? { label: 'Make the owner', icon: 'key', run: ask(`Make ${name} the owner?`, 'You become an admin, and only the new owner can give it back.', 'Hand over', (api, id) => api.changeMember(id, userId, { role: 'owner' })) }
      : null,
    may(info, 'discipline') && above && !silenced ? { label: 'Silence…', icon: 'bellOff', run: silence } : null,
    may(info, 'discipline') && above && silenced ? { label: 'Let write again', icon: 'bell', run: () => set({ silenced_until_ms: 0 }) } : null,
    may(info, 'discipline') && above ? { label: 'Remove', icon: 'exit', danger: true, run: ask(`Remove ${name}?`, '', 'Remove', (api, id) => api.removeMember(id, userId)) } : null,
    may(info, 'discipline') && above
      ? { label: 'Ban', icon: 'ban', danger: true, run: ask(`Ban ${name}?`, 'Who is banned is removed, and can’t come back until the ban is lifted.', 'Ban', (api, id) => api.ban(id, userId)) }
      : null,
  ], { label: `More about ${name}` });
}
