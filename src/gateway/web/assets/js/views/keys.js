// The keys that hold wherever the focus is.

import { isMenuOpen } from './menu.js';

/** Listens until `signal` ends it. */
export function bindKeys(client, signal) {
  const { actions, chat, sidebar } = client;
  const onkeydown = (event) => {
    if (event.defaultPrevented || event.isComposing || isMenuOpen() || document.querySelector('dialog[open]')) return;
    const key = event.key.toLowerCase();
    const command = event.ctrlKey || event.metaKey;
    if (command && !event.altKey && key === 'k') {
      event.preventDefault();
      // On a small screen the search is where the list is.
      if (matchMedia('(max-width: 700px)').matches && client.openId) actions.back();
      sidebar.pane.focus(0);
    } else if (command && event.shiftKey && key === 'f' && client.openId) {
      event.preventDefault();
      actions.searchIn(client.openId);
    } else if (event.altKey && !command && (key === 'arrowup' || key === 'arrowdown')) {
      event.preventDefault();
      const to = sidebar.neighbour(client.openId, key === 'arrowup' ? -1 : 1);
      if (to) actions.open(to);
    } else if (key === 'escape') {
      if (client.openPage) actions.back();
      else if (!chat.escape() && client.openId) {
        if (document.activeElement === document.body || chat.element.contains(document.activeElement)) sidebar.focusList(client.openId);
      }
    }
  };
  document.addEventListener('keydown', onkeydown, { signal });
}
