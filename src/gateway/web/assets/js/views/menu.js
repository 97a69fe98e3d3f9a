// A menu that opens at a button or where the pointer is: arrows walk, Enter chooses, Escape returns the focus.

import { el } from './dom.js';
import { icon } from './icons.js';

/** Kept between a menu and the window's edge. */
const MARGIN_PX = 8;

/** Closes the open menu; null: there is none. */
let open = null;

/**
 * `items`: `{label, icon, run, danger, checked}`, or null where one doesn't apply. `top` is an element above them, such
 * as a row of emoji. `at`: `{x, y}`; without it the menu hangs below `anchor`.
 */
export function openMenu(anchor, items, { at, top = null, label = 'Menu' } = {}) {
  closeMenu();
  const stopped = new AbortController();
  const close = () => {
    if (stopped.signal.aborted) return;
    stopped.abort();
    open = null;
    // The focus goes back unless it is elsewhere already; what was chosen may then take it.
    const focused = menu.contains(document.activeElement) || document.activeElement === document.body;
    menu.remove();
    anchor.setAttribute?.('aria-expanded', 'false');
    if (focused) anchor.focus?.({ preventScroll: true });
  };
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
  // Where a context menu is asked for by the press (Linux, macOS), the release of the same press would close an “auto”
  // popover as a click outside of it: some browsers except the right button, none excepts Ctrl and the left one. So the
  // menu decides by itself, and counts presses alone.
  const menu = el('div', { class: 'menu', popover: 'manual', role: 'menu', 'aria-label': label, onkeydown: (event) => walk(menu, event, close) }, top, buttons);
  const listening = { capture: true, signal: stopped.signal };
  document.addEventListener('pointerdown', ({ target }) => menu.contains(target) || close(), listening);
  document.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape') return;
    event.preventDefault();
    event.stopPropagation();
    close();
  }, listening);
  document.body.append(menu);
  menu.showPopover();
  open = close;
  if (anchor.hasAttribute?.('aria-haspopup')) anchor.setAttribute('aria-expanded', 'true');
  place(menu, anchor, at);
  (menu.querySelector('button') ?? menu).focus();
  return close;
}

export const closeMenu = () => open?.();
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

function walk(menu, event, close) {
  const buttons = [...menu.querySelectorAll('button')];
  const at = buttons.indexOf(document.activeElement);
  const step = { ArrowDown: 1, ArrowUp: -1, ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const to = { Home: 0, End: buttons.length - 1 }[event.key] ?? (step ? (at + step + buttons.length) % buttons.length : -1);
  if (event.key === 'Tab') close();
  if (to < 0 || buttons.length === 0) return;
  event.preventDefault();
  buttons[to].focus();
}
