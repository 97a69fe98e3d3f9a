// Building elements. Text only ever enters the page as text nodes, so that nothing a user wrote can become markup.

import { icon } from './icons.js';

/** Makes an element: `on…` properties are listeners, `class` and names with a dash are attributes, others properties. */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'class' || name === 'role' || name.includes('-')) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== ''));
  return element;
}

/**
 * Makes `parent`'s children those of `items`, in order, keeping the element of each key. An item is `{key, signature,
 * fill(element)}`; `fill` is called when the element is new or its signature has changed.
 */
export function reconcile(parent, tag, items) {
  const kept = parent.rookeryRows ?? new Map();
  const rows = new Map();
  let at = parent.firstElementChild;
  for (const { key, signature, fill } of items) {
    const row = kept.get(key) ?? { element: document.createElement(tag), signature: null };
    kept.delete(key);
    rows.set(key, row);
    if (row.signature !== signature) {
      row.signature = signature;
      fill(row.element);
    }
    if (row.element === at) at = at.nextElementSibling;
    else parent.insertBefore(row.element, at);
  }
  for (const { element } of kept.values()) element.remove();
  parent.rookeryRows = rows;
}

/** A button that shows an icon and bears a name. */
export function iconButton(name, label, onclick, properties = {}) {
  return el('button', { type: 'button', class: 'icon-button', 'aria-label': label, title: label, onclick, ...properties }, icon(name));
}

/** A labelled control of a form. */
export function field(label, control, hint = '') {
  return el('label', { class: 'field' }, el('span', {}, label), control, hint ? el('span', { class: 'hint' }, hint) : null);
}

/** A choice of `[value, label]`. */
export function select(options, value, properties = {}) {
  return el('select', properties, options.map(([key, label]) => el('option', { value: String(key), selected: key === value }, label)));
}

/** A round badge with the initials of a name; its tone follows from the id. */
export function avatar(name, id, kind, status = '') {
  const words = name.trim().split(/\s+/).filter(Boolean);
  const initials = words.slice(0, 2).map((word) => [...word][0]).join('').toUpperCase();
  return el(
    'span', { class: `avatar ${kind}`, 'data-tone': String(id % 6), 'aria-hidden': 'true' }, initials || '?',
    status && status !== 'offline' ? el('span', { class: 'presence', 'data-status': status }) : null,
  );
}

/** A short message that goes away by itself. */
export function toast(text, { isError = false } = {}) {
  let region = document.getElementById('toasts');
  if (!region) {
    region = el('div', { id: 'toasts', role: 'status', 'aria-live': 'polite' });
    document.body.append(region);
  }
  const note = el('div', { class: isError ? 'toast error' : 'toast' }, text);
  region.append(note);
  while (region.childElementCount > 4) region.firstElementChild.remove();
  setTimeout(() => note.remove(), 6000);
}
