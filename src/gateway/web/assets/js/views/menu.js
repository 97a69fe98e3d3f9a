// A menu that opens at a button or where the pointer is: arrows walk, Enter chooses, Escape returns the focus.

import { el } from './dom.js';
import { icon } from './icons.js';

/** Kept between a menu and the window's edge. */
const MARGIN_PX = 8;

let open = null;

/**
 * `items`: `{label, icon, run, danger, checked}`, or null where one doesn't apply. `top` is an element above them, such
 * as a row of emoji. `at`: `{x, y}`; without it the menu hangs below `anchor`.
 */
export function openMenu(anchor, items, { at, top = null, label = 'Menu' } = {}) {
  open?.hidePopover();
  const close = () => menu.hidePopover();
  const buttons = items.filter(Boolean).map((item) =>
    el('button', {
      type: 'button', class: item.danger ? 'menu-item danger' : 'menu-item', tabIndex: -1,
      role: item.checked === undefined ? 'menuitem' : 'menuitemradio',
      'aria-checked': item.checked === undefined ? undefined : String(item.checked),
      onclick: () => {
        close();
        item.run();
      },
    }, item.icon ? icon(item.icon) : null, el('span', {}, item.label), item.checked ? icon('check') : null));
  const menu = el('div', { class: 'menu', popover: 'auto', role: 'menu', 'aria-label': label, onkeydown: (event) => walk(menu, event) }, top, buttons);
  menu.addEventListener('toggle', ({ newState }) => {
    if (newState !== 'closed') return;
    // The focus goes back unless what was chosen has taken it.
    const lost = menu.contains(document.activeElement) || document.activeElement === document.body;
    menu.remove();
    anchor.setAttribute?.('aria-expanded', 'false');
    if (open === menu) open = null;
    if (lost) anchor.focus?.({ preventScroll: true });
  });
  document.body.append(menu);
  menu.showPopover();
  open = menu;
  if (anchor.hasAttribute?.('aria-haspopup')) anchor.setAttribute('aria-expanded', 'true');
  place(menu, anchor, at);
  (menu.querySelector('button') ?? menu).focus();
  return close;
}

export const closeMenu = () => open?.hidePopover();
export const isMenuOpen = () => open !== null;

function place(menu, anchor, at) {
  const box = anchor.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = menu;
  const x = at?.x ?? (box.left + width > innerWidth - MARGIN_PX ? box.right - width : box.left);
  const below = at?.y ?? box.bottom + 4;
  const y = below + height > innerHeight - MARGIN_PX ? (at ? at.y - height : box.top - height - 4) : below;
  menu.style.left = `${Math.max(MARGIN_PX, Math.min(x, innerWidth - width - MARGIN_PX))}px`;
  menu.style.top = `${Math.max(MARGIN_PX, Math.min(y, innerHeight - height - MARGIN_PX))}px`;
}

function walk(menu, event) {
  const buttons = [...menu.querySelectorAll('button')];
  const at = buttons.indexOf(document.activeElement);
  const step = { ArrowDown: 1, ArrowUp: -1, ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const to = { Home: 0, End: buttons.length - 1 }[event.key] ?? (step ? (at + step + buttons.length) % buttons.length : -1);
  if (event.key === 'Tab') menu.hidePopover();
  if (to < 0 || buttons.length === 0) return;
  event.preventDefault();
  buttons[to].focus();
}
