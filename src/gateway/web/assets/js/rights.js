// Who may do what in a group, as the server's table has it (src/domain/permissions.rs): for what the page offers. The
// server decides; where the two differ, its refusal is shown.

const RANK = { member: 0, admin: 1, owner: 2 };
const LOWEST = {
  write: 'member',
  writeAnyway: 'admin',
  mentionAll: 'admin',
  recallOthers: 'admin',
  pin: 'admin',
  changeRoom: 'admin',
  addMembers: 'admin',
  discipline: 'admin',
  requests: 'admin',
  invites: 'admin',
  setRoles: 'owner',
  transfer: 'owner',
  dissolve: 'owner',
};

/** Whether the user may do `act` in a conversation. In a direct one both are the same. */
export function may(info, act) {
  if (info.kind === 'direct') return act === 'write' || act === 'pin';
  return (RANK[info.role] ?? 0) >= RANK[LOWEST[act]];
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
