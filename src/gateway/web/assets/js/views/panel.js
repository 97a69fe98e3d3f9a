// What the pages beside a conversation share: a frame that comes and goes, sections that are drawn anew only where they
// have changed, and what each member sets for itself.

import { untilOf } from '../format.js';
import { el, field, iconButton, reconcile, select } from './dom.js';

const HOUR_MS = 3_600_000;
/** Muting for ever, as the largest number the protocol allows. */
export const FOREVER_MS = Number.MAX_SAFE_INTEGER;

export class Panel {
  /** `onToggle(shown)` as it comes and goes. */
  constructor(label, parts, actions, onToggle) {
    Object.assign(this, parts, { actions, onToggle });
    this.id = 0;
    this.error = el('p', { class: 'form-error', role: 'alert' });
    this.body = el('div', { class: 'sections' });
    this.element = el(
      'aside', { class: 'panel', hidden: true, 'aria-label': label },
      el('header', { class: 'bar' }, el('h2', {}, label), iconButton('close', 'Close the details', () => this.hide())),
      this.error, this.body,
    );
  }

  show(id) {
    this.id = id;
    this.element.hidden = false;
    this.error.textContent = '';
    this.onToggle(true);
    this.opened();
    this.render();
    this.element.querySelector('button').focus({ preventScroll: true });
  }

  hide() {
    if (this.element.hidden) return;
    this.element.hidden = true;
    this.id = 0;
    this.onToggle(false);
  }

  /** What a panel asks for when it opens. */
  opened() {}

  render() {
    const info = this.id ? this.store.get(this.id)?.info : undefined;
    if (info) renderSections(this.body, this.sections(info));
  }

  /** Does what a control asks for; a refusal is shown at the top. */
  async act(work) {
    this.error.textContent = '';
    try {
      await work();
    } catch (error) {
      this.error.textContent = error.message;
      this.error.scrollIntoView({ block: 'nearest' });
      this.redraw();
    }
  }

  /** Draws every section again, so that controls show what holds rather than what was asked for. */
  redraw() {
    this.body.replaceChildren();
    this.body.rookeryRows = undefined;
    this.render();
  }

  /** The section of what the user alone sets: mute, notifications, pin, archive. */
  ownSection(info) {
    const id = info.conversation_id;
    const set = (change) => this.act(() => this.actions.prefer(id, change));
    const nowMs = Date.now();
    const muted = (info.muted_until_ms ?? 0) > nowMs;
    const hours = (count) => () => Date.now() + count * HOUR_MS;
    const terms = { off: () => 0, hour: hours(1), morning: hours(8), week: hours(24 * 7), ever: () => FOREVER_MS };
    const choices = [['off', 'Not muted'], ['hour', 'For an hour'], ['morning', 'For 8 hours'], ['week', 'For a week'], ['ever', 'Until I undo it']];
    if (muted) choices.unshift(['now', `Muted ${untilOf(info.muted_until_ms, nowMs)}`]);
    return {
      key: 'own',
      signature: JSON.stringify([info.muted_until_ms, info.pinned, info.archived, info.notifications]),
      fill: (section) => section.replaceChildren(
        el('h3', {}, 'For you'),
        field('Mute', select(choices, muted ? 'now' : 'off', {
          'data-focus': 'mute', onchange: ({ target }) => target.value !== 'now' && set({ muted_until_ms: terms[target.value]() }),
        })),
        field('Notify me of', select([['all', 'every message'], ['mentions', 'mentions only'], ['none', 'nothing']], info.notifications ?? 'all', {
          'data-focus': 'notify', onchange: ({ target }) => set({ notifications: target.value }),
        })),
        toggle('Pinned to the top', info.pinned, (pinned) => set({ pinned }), 'pinned'),
        toggle('Archived', info.archived, (archived) => set({ archived }), 'archived')),
    };
  }
}

/** A checkbox with its label; `set(value)` is called as it is switched. */
export function toggle(label, value, set, focus, hint = '') {
  return el('label', { class: 'toggle' },
    el('input', { type: 'checkbox', checked: Boolean(value), 'data-focus': focus, onchange: ({ target }) => set(target.checked) }),
    el('span', {}, label, hint ? el('span', { class: 'hint' }, hint) : null));
}

/** Like reconcile, but the focus stays on the control of the same name (`data-focus`) in a section drawn anew. */
export function renderSections(parent, sections) {
  reconcile(parent, 'section', sections.filter(Boolean).map(({ key, signature, fill }) => ({
    key,
    signature,
    fill: (section) => {
      const { activeElement } = document;
      const focus = section.contains(activeElement) ? activeElement.dataset.focus : undefined;
      section.dataset.section = key;
      fill(section);
      if (focus) section.querySelector(`[data-focus="${CSS.escape(focus)}"]`)?.focus({ preventScroll: true });
    },
  })));
}
