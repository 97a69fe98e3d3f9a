// The emoji offered for reactions. The server takes others too; these are the ones that people look for.

import { el } from './dom.js';
import { icon } from './icons.js';

export const QUICK = ['👍', '❤️', '😂', '😮', '😢', '🙏'];
const MORE = [
  '👎', '👏', '🙌', '💪', '🤝', '👀', '🔥', '🎉', '✨', '💯', '✅', '❌', '❓', '❗', '⭐', '💡', '😀', '😊', '😍', '🤔', '🙂', '😉', '😎', '😅',
  '🤣', '😭', '😡', '😱', '🤯', '🥳', '😴', '🤷', '💔', '🧡', '💚', '💙', '☕', '🍰', '🚀', '🐞', '🛠️', '📌',
];

/** A row of the usual ones and a button for more; `pick(emoji)` is called with the one chosen. */
export function emojiRow(pick, chosen = new Set()) {
  const row = el('div', { class: 'emoji-row', role: 'group', 'aria-label': 'React' });
  const button = (emoji) => el('button', {
    type: 'button', class: 'emoji', 'aria-label': `React with ${emoji}`, 'aria-pressed': String(chosen.has(emoji)), onclick: () => pick(emoji),
  }, emoji);
  const more = el('button', {
    type: 'button', class: 'emoji', 'aria-label': 'More emoji',
    onclick: () => {
      row.classList.add('all');
      row.replaceChildren(...[...QUICK, ...MORE].map(button));
      row.firstElementChild.focus();
    },
  }, icon('add'));
  row.append(...QUICK.map(button), more);
  return row;
}
