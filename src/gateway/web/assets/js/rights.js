// Who may do what in a group, as the server's table has it (src/domain/permissions.rs): for what the page offers. The
// server decides; where the two differ, its refusal is shown.

const RANK = { member: 0, admin: 1, owner: 2 };
/** What the page asks about, by the server's name for it, with the lowest role that may. */
export const ACTS = {
  write: { name: 'Write', lowest: 'member' },
  reactAnyway: { name: 'ReactAnyway', lowest: 'admin' },
  writeAnyway: { name: 'WriteAnyway', lowest: 'admin' },
  mentionAll: { name: 'MentionAll', lowest: 'admin' },
  recallOthers: { name: 'RecallOthers', lowest: 'admin' },
  pin: { name: 'PinMessage', lowest: 'admin' },
  changeRoom: { name: 'ChangeRoom', lowest: 'admin' },
  addMembers: { name: 'AddMembers', lowest: 'admin' },
  discipline: { name: 'DisciplineMembers', lowest: 'admin' },
  requests: { name: 'AnswerRequests', lowest: 'admin' },
  invites: { name: 'Invite', lowest: 'admin' },
  setRoles: { name: 'SetRoles', lowest: 'owner' },
  transfer: { name: 'Transfer', lowest: 'owner' },
  dissolve: { name: 'Dissolve', lowest: 'owner' },
};

/** Whether the user may do `act` in a conversation. In a direct one both are the same. */
export function may(info, act) {
  if (info.kind === 'direct') return act === 'write' || act === 'pin';
  return (RANK[info.role] ?? 0) >= RANK[ACTS[act].lowest];
}

/** Whether one of role `by` stands above one of role `other`. */
export const outranks = (by, other) => (RANK[by] ?? 0) > (RANK[other] ?? 0);

/** Why the user can't write here now; empty: nothing speaks against it. */
export function whyNotWrite(info, nowMs = Date.now()) {
  if (info.kind !== 'group' || may(info, 'writeAnyway')) return '';
  if (info.read_only) return 'Only the owner and admins write here.';
  if (info.silence_all) return 'All members are silenced for now.';
  if ((info.silenced_until_ms ?? 0) > nowMs) return 'You are silenced here for now.';
  return '';
}
