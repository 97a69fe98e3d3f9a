// What an edit, a recall or a reaction makes of the message that it names. Pure.

const ABOUT_ANOTHER = new Set(['edit', 'recall', 'reaction']);

/** Whether a message is about another one (`target_seq`): it has no bubble of its own and counts as unread for nobody. */
export function isAboutAnother(message) {
  return ABOUT_ANOTHER.has(message.kind);
}

/** Whether the reader has hidden a message from itself. */
export const isHidden = (message) => Boolean(message.marks?.hidden);

/** Whether there is something in a message to be read. */
export const counts = (message) => !isAboutAnother(message) && !message.recalled && !isHidden(message);

/** When a message is to vanish; 0: never. */
export const expiryOf = (message) => message.marks?.expires_at_ms ?? 0;

/** A message whose time has come, as the server will show it too. */
export function expired(message) {
  return { ...message, text: '', attachments: [], mentions: [], reactions: [], recalled: true };
}

/** The target's state after `change`; the same object where it changes nothing. */
export function changed(target, change) {
  if (target.recalled) return target;
  switch (change.kind) {
    case 'edit':
      return { ...target, text: change.text, edited_at_ms: change.created_at_ms };
    case 'recall':
      return { ...target, text: '', attachments: [], mentions: [], reactions: [], recalled: true };
    case 'reaction':
      return { ...target, reactions: reacted(target.reactions ?? [], change) };
    default:
      return target;
  }
}

/**
 * Reactions keep the order in which each emoji came first; one that nobody holds any more goes. An entry that is marked
 * as recalled takes a reaction off. `user_ids` names the first hundred only, `count` all of them.
 */
function reacted(reactions, { emoji, sender_id: by, recalled: removed = false }) {
  const after = reactions.map((reaction) => {
    if (reaction.emoji !== emoji) return reaction;
    const had = reaction.user_ids.includes(by);
    const others = reaction.user_ids.filter((id) => id !== by);
    const count = countOf(reaction);
    if (removed) return { ...reaction, user_ids: others, count: had || count > reaction.user_ids.length ? count - 1 : count };
    return { ...reaction, user_ids: [...others, by], count: had ? count : count + 1 };
  });
  if (!removed && !after.some((reaction) => reaction.emoji === emoji)) after.push({ emoji, user_ids: [by], count: 1 });
  return after.filter((reaction) => countOf(reaction) > 0);
}

/** By how many an emoji is held. */
export function countOf(reaction) {
  return Math.max(reaction.count ?? 0, reaction.user_ids.length);
}
