// The open conversation: its header, what is pinned, its messages, the composer, and its page beside it.

import { presenceText, summary, titleOf } from '../format.js';
import { Composer } from './composer.js';
import { avatar, el, iconButton } from './dom.js';
import { GroupPanel } from './group.js';
import { PersonPanel } from './person.js';
import { Timeline } from './timeline.js';

/** So many typists are named. */
const TYPISTS_NAMED = 2;

export class ChatView {
  /** `parts`: store, users, api, presence, typing, drafts, members, contacts, pins; `actions`: see app.js. */
  constructor(parts, actions) {
    Object.assign(this, parts, { actions });
    this.id = 0;
    this.timeline = new Timeline({ store: this.store, users: this.users, actions, isPinned: (id, seq) => this.pins.has(id, seq) });
    this.composer = new Composer({ ...parts, actions });
    this.title = el('h2', {});
    this.subtitle = el('p', { class: 'subtitle', 'aria-live': 'polite' });
    this.face = el('button', { type: 'button', class: 'face', 'aria-label': 'Details', onclick: () => this.toggleDetails() });
    this.detailsButton = iconButton('info', 'Details', () => this.toggleDetails(), { 'aria-expanded': 'false' });
    this.pinned = el('div', { class: 'strip', hidden: true });
    this.announcement = el('div', { class: 'strip', hidden: true });
    const onToggle = (shown) => this.detailsButton.setAttribute('aria-expanded', String(shown));
    this.panels = { group: new GroupPanel(parts, actions, onToggle), direct: new PersonPanel(parts, actions, onToggle) };
    this.room = el(
      'section', { class: 'room', 'aria-label': 'Conversation' },
      el('header', { class: 'bar' },
        iconButton('back', 'Back to the conversations', () => actions.back(), { class: 'icon-button back' }),
        this.face,
        el('div', { class: 'bar-title', onclick: () => this.toggleDetails() }, this.title, this.subtitle),
        iconButton('search', 'Search in this conversation', () => actions.searchIn(this.id)),
        this.detailsButton),
      this.announcement, this.pinned, this.timeline.element, this.composer.element,
    );
    this.nothing = el('section', { class: 'nothing' }, el('p', {}, 'Choose a conversation, or begin one.'), el('p', { class: 'hint' }, 'Ctrl K finds people, conversations and messages.'));
    this.element = el('main', { class: 'chat' }, this.nothing, this.room, this.panels.group.element, this.panels.direct.element);
    this.show(0);
  }

  get panel() {
    return this.panels[this.store.get(this.id)?.info.kind] ?? this.panels.direct;
  }

  show(id) {
    this.composer.leave();
    this.id = id;
    this.nothing.hidden = id !== 0;
    this.room.hidden = id === 0;
    for (const panel of Object.values(this.panels)) panel.hide();
    if (!id) {
      this.composer.id = 0;
      return;
    }
    this.composer.id = 0; // Its draft is kept already.
    this.timeline.show(id);
    this.composer.show(id);
    this.pins.load(id);
    this.render();
    this.composer.fit();
    this.composer.focus();
  }

  focusText() {
    this.composer.focus();
  }

  render() {
    const conversation = this.store.get(this.id);
    if (!conversation) return;
    const { info } = conversation;
    const name = titleOf(info, this.users);
    const presence = info.kind === 'direct' ? this.presence.get(info.peer_user_id) : undefined;
    const face = `${name} ${presence?.status ?? ''}`;
    if (this.face.dataset.shows !== face) {
      this.face.dataset.shows = face;
      this.face.replaceChildren(avatar(name, info.peer_user_id || info.conversation_id, info.kind, presence?.status));
    }
    this.title.textContent = name;
    const subtitle = this.subtitleOf(info, presence);
    if (this.subtitle.textContent !== subtitle.text) this.subtitle.textContent = subtitle.text;
    this.subtitle.classList.toggle('typing', subtitle.typing);
    this.members.review(this.id);
    this.showStrips(info);
    this.timeline.render();
    this.composer.render();
    this.panel.render();
  }

  subtitleOf(info, presence) {
    const typists = this.typing.in(this.id);
    if (typists.length > 0) {
      if (info.kind === 'direct') return { text: 'typing…', typing: true };
      const names = typists.slice(0, TYPISTS_NAMED).map((id) => this.users.name(id)).join(', ');
      const more = typists.length - TYPISTS_NAMED;
      return { text: more > 0 ? `${names} and ${more} more are typing…` : `${names} ${typists.length > 1 ? 'are' : 'is'} typing…`, typing: true };
    }
    if (info.kind === 'group') {
      const online = this.members.of(this.id).items.filter(({ user_id: id }) => ['online', 'away', 'busy'].includes(this.presence.get(id)?.status)).length;
      return { text: `${info.member_count} member${info.member_count === 1 ? '' : 's'}${online > 0 ? `, ${online} online` : ''}`, typing: false };
    }
    const username = this.users.get(info.peer_user_id)?.username;
    return { text: presenceText(presence) || (username ? `@${username}` : ''), typing: false };
  }

  /** What the group's admins want everybody to see, and the newest pinned message. */
  showStrips(info) {
    const { announcement = '' } = info;
    this.announcement.hidden = !announcement;
    if (this.announcement.dataset.text !== announcement) {
      this.announcement.dataset.text = announcement;
      this.announcement.replaceChildren(el('b', {}, 'Announcement'), el('span', { dir: 'auto' }, announcement));
    }
    const pins = this.pins.of(this.id);
    const newest = pins[0];
    this.pinned.hidden = !newest;
    const key = JSON.stringify([pins.length, newest?.seq, newest?.text]);
    if (!newest || this.pinned.dataset.shows === key) return;
    this.pinned.dataset.shows = key;
    this.pinned.replaceChildren(
      el('button', { type: 'button', class: 'strip-text', onclick: () => this.actions.jumpTo(this.id, newest.seq) }, el('b', {}, 'Pinned'), el('span', { dir: 'auto' }, summary(newest))),
      pins.length > 1 ? el('button', { type: 'button', class: 'link', onclick: () => this.actions.showPins(this.id) }, `All ${pins.length}`) : '');
  }

  toggleDetails() {
    if (this.panel.element.hidden) this.panel.show(this.id);
    else this.panel.hide();
  }

  /** Closes what lies over the messages; false: nothing did. */
  escape() {
    if (this.composer.cancel()) return true;
    if (this.panel.element.hidden) return false;
    this.panel.hide();
    this.composer.focus();
    return true;
  }
}
