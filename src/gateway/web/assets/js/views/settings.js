// The page of settings: oneself, how the page looks and tells, who may do what, one's devices, the account's end.

import { agoOf } from '../format.js';
import { askToNotify, canNotify } from '../notifier.js';
import { preferences, setPreference } from '../preferences.js';
import { confirm, openDialog } from './dialog.js';
import { el, field, iconButton, reconcile, select, toast } from './dom.js';
import { toggle } from './panel.js';

const AUDIENCES = [['everyone', 'Everyone'], ['contacts', 'My contacts'], ['nobody', 'Nobody']];
const THEMES = [['system', 'As the device has it'], ['light', 'Light'], ['dark', 'Dark']];
const KEYS = [
  ['Ctrl K', 'search'], ['Ctrl Shift F', 'search in the conversation'], ['Alt ↑ ↓', 'the conversation above, below'], ['↑ in an empty field', 'edit the last message'],
  ['Enter, Shift Enter', 'send, new line'], ['@', 'mention a member'], ['↑ ↓, Enter', 'walk messages, open the menu'], ['Escape', 'close what is open'],
];

export class SettingsPage {
  constructor(parts, actions) {
    Object.assign(this, parts, { actions });
    this.devices = el('ul', { class: 'members' });
    this.body = el('div', { class: 'page-body' });
    this.element = el('main', { class: 'page', 'aria-label': 'Settings', hidden: true },
      el('header', { class: 'bar' }, iconButton('back', 'Back to the conversations', () => actions.back(), { class: 'icon-button back' }), el('h2', {}, 'Settings')),
      this.body);
  }

  show() {
    this.element.hidden = false;
    this.body.replaceChildren(this.profile(), this.look(), this.privacySection(), this.deviceSection(), this.password(), this.keys(), this.end());
  }

  hide() {
    this.element.hidden = true;
    this.body.replaceChildren();
  }

  render() {}

  /** A section with a form of its own: `save()` is asked for by its button, and its refusal shown beneath. */
  form(title, children, label, save) {
    const error = el('p', { class: 'form-error', role: 'alert' });
    const button = el('button', { type: 'submit', class: 'primary' }, label);
    const onsubmit = async (event) => {
      event.preventDefault();
      error.textContent = '';
      button.disabled = true;
      try {
        await save(event.target);
      } catch (cause) {
        error.textContent = cause.message;
      } finally {
        button.disabled = false;
      }
    };
    return el('section', {}, el('h3', {}, title), el('form', { onsubmit }, children, error, el('div', { class: 'acts' }, button)));
  }

  profile() {
    const name = el('input', { maxLength: 64, autocomplete: 'name', required: true });
    const bio = el('textarea', { rows: 2, maxLength: 500 });
    const status = el('input', { maxLength: 140, value: this.presence.get(this.store.userId)?.text ?? '' });
    const before = {};
    const fill = (me) => Object.assign(before, { display_name: (name.value = me.display_name || me.username), bio: (bio.value = me.bio ?? '') });
    fill(this.users.get(this.store.userId) ?? { username: '' });
    this.api.me().then((me) => {
      // What was typed meanwhile stays.
      if (name.value === before.display_name && bio.value === before.bio) fill(me);
    }).catch(() => {});
    return this.form('You', [
      field('Name shown to others', name), field('About you', bio), field('Status text', status),
    ], 'Save', async () => {
      this.users.put(await this.api.changeMe({ display_name: name.value.trim(), bio: bio.value.trim() }));
      await this.actions.setPresence({ text: status.value.trim() });
      toast('Your profile was saved.');
    });
  }

  look() {
    const { theme, notifications } = preferences();
    const refused = canNotify() && Notification.permission === 'denied';
    const hint = !canNotify() ? 'This browser allows none here.' : refused ? 'They are forbidden in the browser’s settings for this page.' : '';
    const wish = async (wanted) => {
      setPreference('notifications', wanted && (await askToNotify()));
      if (wanted && !preferences().notifications) toast('The browser does not allow notifications here.', { isError: true });
      if (!this.element.hidden) this.show();
    };
    return el('section', {}, el('h3', {}, 'This browser'),
      field('Colours', select(THEMES, theme, { onchange: ({ target }) => setPreference('theme', target.value) })),
      toggle('Desktop notifications', notifications && !refused, wish, 'notifications', hint));
  }

  privacySection() {
    const section = el('section', {}, el('h3', {}, 'Privacy'), el('p', { class: 'hint' }, 'Loading…'));
    const draw = (privacy) => {
      const choice = (label, key) => field(label, select(AUDIENCES, privacy[key], {
        onchange: async ({ target }) => {
          try {
            draw(await this.api.changePrivacy({ [key]: target.value }));
          } catch (error) {
            toast(error.message, { isError: true });
            draw(privacy);
          }
        },
      }));
      section.replaceChildren(el('h3', {}, 'Privacy'), choice('Who may write to me', 'who_may_write'), choice('Who may add me to groups', 'who_may_add'), choice('Who sees when I was last here', 'who_sees_last_seen'));
    };
    this.api.privacy().then(draw).catch((error) => section.replaceChildren(el('h3', {}, 'Privacy'), el('p', { class: 'form-error' }, error.message)));
    return section;
  }

  deviceSection() {
    this.loadDevices();
    const others = () => confirm({
      title: 'Sign out everywhere else?', label: 'Sign the others out',
      act: async () => {
        await this.api.signOutOthers();
        await this.loadDevices();
      },
    });
    return el('section', {}, el('h3', {}, 'Your devices'), this.devices,
      el('div', { class: 'acts' }, el('button', { type: 'button', onclick: others }, 'Sign out everywhere else')));
  }

  async loadDevices() {
    try {
      const { items = [] } = await this.api.devices();
      reconcile(this.devices, 'li', items.map((device) => this.device(device)));
    } catch (error) {
      toast(error.message, { isError: true });
    }
  }

  device(device) {
    const { device_id: id, current } = device;
    const name = device.device_name || 'A device without a name';
    const note = [device.platform, current ? 'this one' : `last here ${agoOf(device.last_seen_ms)}`].filter(Boolean).join(' · ');
    const leave = () => confirm({
      title: `Sign ${name} out?`, label: 'Sign out',
      act: async () => {
        await this.api.signOutDevice(id);
        await this.loadDevices();
      },
    });
    return {
      key: id,
      signature: JSON.stringify([name, note]),
      fill: (row) => row.replaceChildren(
        el('span', { class: 'member-name' }, name, el('span', { class: 'hint' }, note)),
        current ? '' : el('button', { type: 'button', onclick: leave }, 'Sign out')),
    };
  }

  password() {
    const input = (autocomplete) => el('input', { type: 'password', required: true, maxLength: 256, autocomplete });
    const [old, wanted, again] = [input('current-password'), input('new-password'), input('new-password')];
    return this.form('Password', [
      field('Password now', old), field('New password', wanted, 'At least 6 characters. Your other devices are signed out.'), field('The new one again', again),
    ], 'Change the password', async (form) => {
      if (wanted.value !== again.value) throw new Error('The new passwords differ.');
      await this.api.changePassword(old.value, wanted.value);
      form.reset();
      this.loadDevices();
      toast('Your password was changed.');
    });
  }

  keys() {
    return el('section', {}, el('h3', {}, 'Keys'), el('dl', { class: 'keys' }, KEYS.map(([key, what]) => [el('dt', {}, el('kbd', {}, key)), el('dd', {}, what)])));
  }

  end() {
    const download = async () => {
      try {
        const text = await this.api.export();
        const link = el('a', { href: URL.createObjectURL(new Blob([text], { type: 'application/x-ndjson' })), download: 'rookery-export.jsonl' });
        link.click();
        URL.revokeObjectURL(link.href);
      } catch (error) {
        toast(error.message, { isError: true });
      }
    };
    const deactivate = () => confirm({
      title: 'Deactivate your account?', text: 'You are signed out everywhere and can’t come back by yourself. What you wrote stays.', label: 'Deactivate',
      act: async () => {
        await this.api.deactivate();
        this.actions.ended('Your account is deactivated.');
      },
    });
    return el('section', {}, el('h3', {}, 'Your account'), el('div', { class: 'acts' },
      el('button', { type: 'button', onclick: download }, 'Download your data'),
      el('button', { type: 'button', class: 'danger', onclick: deactivate }, 'Deactivate'),
      el('button', { type: 'button', class: 'danger', onclick: () => this.erase() }, 'Erase'),
      el('button', { type: 'button', onclick: () => this.actions.signOut() }, 'Sign out')));
  }

  erase() {
    const password = el('input', { type: 'password', required: true, maxLength: 256, autocomplete: 'current-password' });
    openDialog({
      title: 'Erase your account?',
      body: [el('p', {}, 'Your profile, contacts and memberships go for good; this can’t be undone.'), field('Password', password)],
      submitLabel: 'Erase for ever',
      danger: true,
      submit: async () => {
        await this.api.erase(password.value);
        this.actions.ended('Your account was erased.');
      },
    });
  }
}
