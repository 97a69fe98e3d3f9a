// Desktop notifications and the page's title: what tells of messages when the page isn't looked at.

import { isMuted } from './conversation.js';
import { summary, titleOf } from './format.js';
import { preferences } from './preferences.js';
import { isAboutAnother } from './targets.js';

export const canNotify = () => 'Notification' in globalThis && isSecureContext;

/** Whether a message is to make a noise for `userId`, by what is set for its conversation. */
export function isWorthTelling(info, message, userId, nowMs) {
  if (message.sender_id === userId || message.kind === 'system' || isAboutAnother(message)) return false;
  if (isMuted(info, nowMs)) return false;
  const named = (message.mentions ?? []).some((id) => id === userId || id === 0);
  return info.notifications !== 'mentions' || named;
}

export class Notifier {
  /** `open(id)` shows a conversation; `isSeen(id)` says whether the user sees it now. */
  constructor({ store, users, open, isSeen }) {
    Object.assign(this, { store, users, open, isSeen });
  }

  onLive(message) {
    const id = message.conversation_id;
    const info = this.store.get(id)?.info;
    if (!info || this.isSeen(id) || !isWorthTelling(info, message, this.store.userId, Date.now())) return;
    if (!canNotify() || !preferences().notifications || Notification.permission !== 'granted') return;
    const title = titleOf(info, this.users);
    const text = summary(message).slice(0, 200);
    try {
      const body = info.kind === 'group' ? `${this.users.name(message.sender_id)}: ${text}` : text;
      const note = new Notification(title, { body, tag: `rookery-${id}`, icon: 'icon.svg' });
      note.onclick = () => {
        window.focus();
        this.open(id);
        note.close();
      };
    } catch {
      // Some phones allow them to service workers only; the title still counts.
    }
  }

  showTitle(openName) {
    const unread = this.store.totalUnread(Date.now());
    const name = openName ? `${openName} – Rookery` : 'Rookery';
    document.title = unread > 0 ? `(${unread}) ${name}` : name;
  }
}

/** Asks the browser for leave to notify; resolves to whether it was given. */
export async function askToNotify() {
  if (!canNotify()) return false;
  return (await Notification.requestPermission()) === 'granted';
}
