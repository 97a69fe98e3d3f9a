// A message's text as elements: addresses become links, mentions stand out. Everything else stays the text it is.

import { el } from './dom.js';

const PARTS = /(https?:\/\/[^\s<>"']+)|(@[\p{L}\p{N}_.-]+)/gu;
/** What ends a sentence or a bracket belongs to the text, not to the address before it. */
const TAIL = /[.,;:!?)\]}»”’]+$/u;

/** The children of a text; `names` are the mentioned members' user names, in lower case, `own` the reader's. */
export function richText(text, { names = new Set(), own = '' } = {}) {
  const children = [];
  let from = 0;
  for (const match of text.matchAll(PARTS)) {
    const [whole, address, mention] = match;
    const part = address ? linkOf(address) : mentionOf(mention, names, own);
    if (!part) continue;
    children.push(text.slice(from, match.index), part.element);
    from = match.index + (part.length ?? whole.length);
  }
  children.push(text.slice(from));
  return children.filter((child) => child !== '');
}

function linkOf(found) {
  const address = found.replace(TAIL, '');
  if (!URL.canParse(address)) return null;
  return { element: el('a', { href: address, target: '_blank', rel: 'noopener noreferrer' }, address), length: address.length };
}

function mentionOf(found, names, own) {
  // A full stop after a name is no part of it.
  const whole = found.slice(1).toLowerCase();
  const name = names.has(whole) ? whole : whole.replace(/[.-]+$/, '');
  if (!names.has(name)) return null;
  const isOwn = name === own || name === 'all';
  return { element: el('span', { class: isOwn ? 'mention own-mention' : 'mention' }, `@${found.slice(1, 1 + name.length)}`), length: name.length + 1 };
}
