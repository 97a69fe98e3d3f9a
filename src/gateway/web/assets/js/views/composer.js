// Where a message is written: an answer, an edit, mentions by @, the draft of each conversation.

import { summary } from '../format.js';
import { may, whyNotWrite } from '../rights.js';
import { el, iconButton } from './dom.js';
import { icon } from './icons.js';
import { sendLater } from './later.js';
import { MentionList } from './mentions.js';
import { openMenu } from './menu.js';

/** How long messages stay, in seconds, and how the menu says it. */
const LIFETIMES = [
  [0, 'Stays'], [60, 'Vanishes after a minute'], [3_600, 'Vanishes after an hour'], [86_400, 'Vanishes after a day'], [604_800, 'Vanishes after a week'],
];

export class Composer {
  /**
   * `actions`: `send(id, text, {replyToSeq, mentions})` (false: not taken), `edit(id, seq, text)`, `editLast(id)`.
   * `drafts`, `typing`, `members`: see their files.
   */
  constructor({ store, users, drafts, typing, members, actions }) {
    Object.assign(this, { store, users, drafts, typing, members, actions });
    this.id = 0;
    /** The message that is answered or edited: `{kind, message}`. */
    this.about = null;
    /** Who was picked by @, by user name in lower case. */
    this.picked = new Map();
    /** How long what is written in each conversation stays, in seconds. */
    this.lifetimes = new Map();
    this.text = el('textarea', {
      rows: 1, placeholder: 'Write a message', 'aria-label': 'Message', enterKeyHint: 'send', dir: 'auto',
      oninput: () => this.changed(), onkeydown: (event) => this.keyDown(event), onblur: () => this.mentions.hide(),
    });
    this.mentions = new MentionList({ input: this.text, candidates: (words) => this.candidates(words), pick: (user) => this.pick(user) });
    this.banner = el('div', { class: 'banner', hidden: true });
    this.sendButton = el('button', { type: 'submit', class: 'primary send', 'aria-label': 'Send', title: 'Send (Enter)' }, icon('send'));
    this.clock = iconButton('clock', 'When it is sent, and when it vanishes', ({ currentTarget }) => this.timeMenu(currentTarget), { 'aria-haspopup': 'menu' });
    this.form = el('form', { class: 'composer', onsubmit: (event) => this.submit(event) }, this.text, this.clock, this.sendButton);
    this.refusal = el('p', { class: 'refusal', hidden: true, role: 'status' });
    this.element = el('footer', { class: 'writing' }, this.mentions.element, this.banner, this.form, this.refusal);
  }

  show(id) {
    this.leave();
    this.id = id;
    this.about = null;
    this.picked.clear();
    this.dirty = false;
    this.takeDraft();
    this.render();
  }

  /** The conversation is left: what was begun stays as its draft. */
  leave() {
    this.mentions.hide();
    if (!this.id) return;
    this.keepDraft();
    this.typing.rest();
  }

  focus() {
    // On a touch screen the focus would raise the keyboard over the messages.
    if (this.id && !matchMedia('(pointer: coarse)').matches) this.text.focus();
  }

  render() {
    const info = this.store.get(this.id)?.info;
    if (!info) return;
    const why = whyNotWrite(info);
    this.form.hidden = why !== '';
    this.refusal.hidden = why === '';
    this.refusal.textContent = why;
    const lifetime = this.lifetimes.get(this.id) ?? 0;
    this.clock.classList.toggle('on', lifetime > 0);
    this.text.placeholder = lifetime ? `It vanishes ${LIFETIMES.find(([seconds]) => seconds === lifetime)[1].replace('Vanishes ', '')}` : 'Write a message';
    // Another device has written on, or sent it: that is shown here unless this one has words of its own.
    if (!this.drafts.isUnsaved(this.id) && this.about?.kind !== 'edit') this.takeDraft();
    this.showBanner();
  }

  // ---- Drafts ----

  takeDraft() {
    const draft = this.drafts.get(this.id);
    const replied = draft.reply_to_seq ? this.store.find(this.id, draft.reply_to_seq) : undefined;
    if ((this.about?.message.seq ?? 0) !== (replied?.seq ?? 0)) this.about = replied ? { kind: 'reply', message: replied } : null;
    if (this.text.value === draft.text) return;
    this.text.value = draft.text;
    this.dirty = false;
    this.fit();
  }

  keepDraft() {
    if (this.about?.kind === 'edit' || !this.dirty) return;
    this.drafts.set(this.id, this.text.value, this.about?.message.seq ?? 0);
  }

  // ---- Answering and editing ----

  reply(message) {
    if (this.about?.kind === 'edit') this.text.value = '';
    this.about = { kind: 'reply', message };
    this.dirty = true;
    this.keepDraft();
    this.showBanner();
    this.text.focus();
  }

  edit(message) {
    this.keepDraft();
    this.about = { kind: 'edit', message };
    this.text.value = message.text;
    this.dirty = true;
    this.showBanner();
    this.fit();
    this.text.focus();
    this.text.setSelectionRange(message.text.length, message.text.length);
  }

  /** Ends answering or editing; false: there was neither. */
  cancel() {
    if (!this.about) return false;
    const wasEdit = this.about.kind === 'edit';
    this.about = null;
    this.dirty = !wasEdit;
    if (wasEdit) {
      this.text.value = '';
      this.takeDraft();
    } else this.keepDraft();
    this.showBanner();
    this.fit();
    this.text.focus();
    return true;
  }

  showBanner() {
    this.banner.hidden = !this.about;
    this.sendButton.title = this.about?.kind === 'edit' ? 'Save (Enter)' : 'Send (Enter)';
    if (!this.about) return this.banner.replaceChildren();
    const { kind, message } = this.about;
    const who = message.sender_id === this.store.userId ? 'yourself' : this.users.name(message.sender_id);
    return this.banner.replaceChildren(
      icon(kind),
      el('p', { dir: 'auto' }, el('b', {}, kind === 'edit' ? 'Editing' : `Replying to ${who}`), ' ', el('span', {}, summary(message).slice(0, 160))),
      iconButton('close', kind === 'edit' ? 'Stop editing' : 'Don’t reply', () => this.cancel()));
  }

  // ---- Time ----

  timeMenu(anchor) {
    const { id } = this;
    const chosen = this.lifetimes.get(id) ?? 0;
    openMenu(anchor, [
      this.text.value.trim() && this.about?.kind !== 'edit' ? { label: 'Send later…', icon: 'clock', run: () => sendLater((atMs) => this.schedule(atMs)) } : null,
      { label: 'Scheduled messages', icon: 'send', run: () => this.actions.showScheduled(id) },
      ...LIFETIMES.map(([seconds, label]) => ({
        label, checked: chosen === seconds,
        run: () => {
          this.lifetimes.set(id, seconds);
          this.render();
        },
      })),
    ], { label: 'Time' });
  }

  async schedule(atMs) {
    const { id } = this;
    const text = this.text.value.trim();
    await this.actions.schedule(id, text, atMs, this.fields(text));
    if (id === this.id) this.finish();
  }

  /** What goes with a text. */
  fields(text) {
    return { replyToSeq: this.about?.message.seq ?? 0, mentions: this.mentioned(text), expiresInSeconds: this.lifetimes.get(this.id) ?? 0 };
  }

  // ---- Mentions ----

  candidates(words) {
    const info = this.store.get(this.id)?.info;
    if (info?.kind !== 'group') return [];
    const all = may(info, 'mentionAll') && 'all'.startsWith(words) ? [{ user_id: 0, username: 'all', display_name: 'Everyone here' }] : [];
    const members = this.members.of(this.id).items.filter(({ user_id: id }) => id !== this.store.userId).map(({ user_id: id }) => this.users.get(id)).filter(Boolean);
    const matches = members.filter((user) => user.username.toLowerCase().startsWith(words) || (user.display_name ?? '').toLowerCase().includes(words));
    return [...all, ...matches];
  }

  pick(user) {
    this.picked.set(user.username.toLowerCase(), user.user_id);
    this.changed();
  }

  /** Who is named in a text: those picked whose names still stand, and members written out. */
  mentioned(text) {
    const ids = new Set();
    for (const [, found] of text.matchAll(/@([\p{L}\p{N}_.-]+)/gu)) {
      const name = found.toLowerCase().replace(/[.-]+$/, '');
      const member = this.candidates(name).find((user) => user.username.toLowerCase() === name);
      const id = this.picked.get(name) ?? member?.user_id;
      if (id !== undefined) ids.add(id);
    }
    return [...ids];
  }

  // ---- Keys ----

  changed() {
    this.fit();
    this.dirty = true;
    if (this.about?.kind !== 'edit') this.typing.touched(this.id, this.text.value.trim() !== '');
    this.keepDraft();
    this.mentions.review();
  }

  keyDown(event) {
    if (event.isComposing || this.mentions.keyDown(event)) return;
    if (event.key === 'Enter' && !event.shiftKey) this.submit(event);
    else if (event.key === 'Escape' && this.cancel()) event.stopPropagation();
    else if (event.key === 'ArrowUp' && this.text.value === '' && !event.altKey && !event.shiftKey) {
      event.preventDefault();
      this.actions.editLast(this.id);
    }
  }

  submit(event) {
    event.preventDefault();
    const text = this.text.value.trim();
    const { id, about } = this;
    if (!text || !id) return;
    if (about?.kind === 'edit') {
      this.cancel();
      if (text !== about.message.text) this.actions.edit(id, about.message.seq, text);
      return;
    }
    if (this.actions.send(id, text, this.fields(text))) this.finish();
  }

  /** What was written is on its way: the field is empty again. */
  finish() {
    this.about = null;
    this.picked.clear();
    this.text.value = '';
    this.dirty = false;
    this.drafts.clear(this.id);
    this.typing.rest({ quietly: true });
    this.showBanner();
    this.fit();
    this.text.focus();
  }

  /** The field grows with its text, up to what the style sheet allows. */
  fit() {
    this.text.style.height = 'auto';
    this.text.style.height = `${this.text.scrollHeight + 2}px`;
  }
}
