// A headless Chromium, driven over the pipe of its DevTools protocol: nothing to install beside the browser. A page's
// waits poll for what must show, with a deadline; nothing sleeps and hopes.

import { spawn } from 'node:child_process';
import { access, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

/** What must show, shows within this, on a loaded machine too. */
export const DEADLINE_MS = 120_000;
/** An answer of the browser itself. */
const COMMAND_MS = 180_000;
const POLL_MS = 50;
/** A menu that has not opened by then was not asked for; the wait grows with each try. */
const MENU_MS = 5_000;
const MENU_TRIES = 5;
/** A step that took longer is printed, so that a story that stalls says where. */
const SLOW_STEP_MS = 4_000;

const CANDIDATES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const FLAGS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage', '--disable-background-timer-throttling',
  '--disable-backgrounding-occluded-windows', '--disable-renderer-backgrounding', '--remote-debugging-pipe',
];

/** Where a Chromium is; undefined: there is none. */
export async function findChromium() {
  for (const path of [process.env.CHROMIUM, ...CANDIDATES].filter(Boolean)) {
    if (await access(path).then(() => true, () => false)) return path;
  }
  return undefined;
}

export class Browser {
  static async launch(path) {
    const browser = new Browser();
    browser.profile = await mkdtemp(join(tmpdir(), 'rookery-chromium-'));
    // A group of its own, so that all of its processes can be ended together.
    browser.process = spawn(path, [...FLAGS, `--user-data-dir=${browser.profile}`, 'about:blank'], { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'], detached: true });
    // However this process ends, the browser ends with it.
    browser.kill = () => {
      try {
        process.kill(-browser.process.pid, 'SIGKILL');
      } catch {
        // It has ended by itself.
      }
    };
    process.once('exit', browser.kill);
    browser.ended = new Promise((resolve) => browser.process.once('exit', resolve));
    const [, , , to, from] = browser.process.stdio;
    browser.to = to;
    to.on('error', () => {});
    browser.waiting = new Map();
    browser.pages = new Map();
    browser.lastId = 0;
    let rest = '';
    from.setEncoding('utf8');
    from.on('data', (text) => {
      const parts = (rest + text).split('\0');
      rest = parts.pop();
      for (const part of parts) browser.heard(JSON.parse(part));
    });
    await browser.command('Browser.getVersion');
    return browser;
  }

  command(method, params = {}, sessionId = undefined) {
    const id = (this.lastId += 1);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.waiting.delete(id);
        reject(new Error(`the browser did not answer ${method}`));
      }, COMMAND_MS);
      this.waiting.set(id, { resolve, reject, timer, method });
      this.to.write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    });
  }

  heard({ id, result, error, method, params, sessionId }) {
    if (id === undefined) return this.pages.get(sessionId)?.heard(method, params);
    const waiting = this.waiting.get(id);
    this.waiting.delete(id);
    if (!waiting) return undefined;
    clearTimeout(waiting.timer);
    return error ? waiting.reject(new Error(`${waiting.method}: ${error.message}`)) : waiting.resolve(result);
  }

  /** A page with cookies and storage of its own, as another person's browser has. */
  async person(name) {
    const { browserContextId } = await this.command('Target.createBrowserContext');
    const { targetId } = await this.command('Target.createTarget', { url: 'about:blank', browserContextId });
    const { sessionId } = await this.command('Target.attachToTarget', { targetId, flatten: true });
    const page = new Page(this, sessionId, name);
    this.pages.set(sessionId, page);
    await Promise.all(['Page.enable', 'Runtime.enable', 'Log.enable'].map((method) => page.command(method)));
    await page.command('Emulation.setFocusEmulationEnabled', { enabled: true });
    return page;
  }

  async close() {
    this.kill();
    await this.ended;
    process.removeListener('exit', this.kill);
    for (const { timer } of this.waiting.values()) clearTimeout(timer);
    await rm(this.profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  }
}

export class Page {
  constructor(browser, sessionId, name) {
    Object.assign(this, { browser, sessionId, name });
    /** What went wrong in the page itself. */
    this.errors = [];
  }

  command(method, params) {
    return this.timed(method, () => this.browser.command(method, params, this.sessionId));
  }

  /** Does a step, and prints it if it was slow, whether it came to its end or not. */
  async timed(what, step) {
    const from = Date.now();
    try {
      return await step();
    } finally {
      const tookMs = Date.now() - from;
      if (tookMs > SLOW_STEP_MS) console.log(`chromium:   slow: ${this.name}: ${what} (${tookMs} ms)`);
    }
  }

  heard(method, params) {
    if (method === 'Runtime.exceptionThrown') this.errors.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
    // A node that is killed leaves refused requests behind; what counts are the page's own faults.
    if (method === 'Log.entryAdded' && params.entry.level === 'error' && params.entry.source !== 'network') this.errors.push(params.entry.text);
  }

  async open(url) {
    await this.command('Page.navigate', { url });
    await this.see('the page', () => document.readyState === 'complete' && document.querySelector('#app > *') !== null);
  }

  /** Resolves when the page is a fresh one. */
  async reload() {
    await this.run(() => (window.rookeryBefore = true));
    await this.command('Page.reload');
    await this.see('the fresh page', () => !window.rookeryBefore && document.readyState === 'complete' && document.querySelector('#app > *') !== null);
  }

  /** Runs a function in the page with plain values as its arguments; resolves with what it returns. */
  async run(work, ...values) {
    const expression = `(${work})(...${JSON.stringify(values)})`;
    const { result, exceptionDetails } = await this.command('Runtime.evaluate', { expression, awaitPromise: true, returnByValue: true, userGesture: true });
    if (exceptionDetails) throw new Error(`${this.name}: ${exceptionDetails.exception?.description ?? exceptionDetails.text}`);
    return result.value;
  }

  /** Waits until a function in the page returns something true, and resolves with it. */
  see(what, work, ...values) {
    return this.timed(`sees ${what}`, () => this.seeWithin(DEADLINE_MS, what, work, ...values));
  }

  async seeWithin(deadlineMs, what, work, ...values) {
    const until = Date.now() + deadlineMs;
    let trouble = '';
    while (Date.now() < until) {
      try {
        const seen = await this.run(work, ...values);
        if (seen) return seen;
      } catch (error) {
        trouble = error.message; // The page may be on its way.
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
    const shown = await this.run(() => document.body.innerText.slice(0, 1500)).catch(() => '');
    throw new Error(`${this.name} does not see ${what} within ${deadlineMs} ms. ${trouble}\n--- The page shows:\n${shown}`);
  }

  /** Waits for an element that is shown, by selector and part of its text or name. */
  element(selector, text = '') {
    return this.see(`${selector} “${text}”`, (css, words) => {
      const shown = [...document.querySelectorAll(css)].filter((one) => one.checkVisibility());
      return shown.some((one) => `${one.textContent} ${one.getAttribute('aria-label') ?? ''}`.includes(words));
    }, selector, text);
  }

  gone(selector, text = '') {
    return this.see(`no ${selector} “${text}”`, (css, words) =>
      ![...document.querySelectorAll(css)].some((one) => one.checkVisibility() && `${one.textContent} ${one.getAttribute('aria-label') ?? ''}`.includes(words)), selector, text);
  }

  /** Clicks the first such element, where it is on the screen once it stands still, as a mouse does. */
  async click(selector, text = '', button = 'left') {
    const { x, y } = await this.pressOn(selector, text, button);
    await this.release(x, y, button);
    return { x, y };
  }

  /** The first half of a click; resolves with where it is. */
  async pressOn(selector, text = '', button = 'left') {
    await this.element(selector, text);
    const { x, y } = await this.see(`where ${selector} “${text}” is`, (css, words) => {
      const one = [...document.querySelectorAll(css)].find((each) => each.checkVisibility() && `${each.textContent} ${each.getAttribute('aria-label') ?? ''}`.includes(words));
      if (!one) return null;
      one.scrollIntoView({ block: 'nearest' });
      const box = one.getBoundingClientRect();
      const place = `${box.x} ${box.y} ${box.width}`;
      const still = one.rookeryPlace === place;
      one.rookeryPlace = place;
      return still && box.width > 0 ? { x: box.x + box.width / 2, y: box.y + box.height / 2 } : null;
    }, selector, text);
    await this.command('Input.dispatchMouseEvent', { type: 'mouseMoved', x, y });
    await this.command('Input.dispatchMouseEvent', { type: 'mousePressed', x, y, button, clickCount: 1 });
    return { x, y };
  }

  release(x, y, button = 'left') {
    return this.command('Input.dispatchMouseEvent', { type: 'mouseReleased', x, y, button, clickCount: 1 });
  }

  /** Clicks a button for its menu and chooses from it. One that moved away under the pointer is clicked again, and that is told. */
  async choose(selector, text, item, button = 'left') {
    for (let tries = 1; ; tries += 1) {
      await this.run(watchMenus);
      const { x, y } = await this.click(selector, text, button);
      try {
        await this.seeWithin(MENU_MS * tries, 'the menu', () => document.querySelector('.menu .menu-item') !== null);
        break;
      } catch (error) {
        const story = await this.run(tellMenus, x, y);
        console.log(`chromium:   ${this.name}: no menu of ${selector} “${text}” at try ${tries}: ${story}`);
        if (tries === MENU_TRIES) throw error;
      }
    }
    await this.click('.menu .menu-item', item);
  }

  /** Puts the focus on a field and writes over what it holds. */
  async fill(selector, text) {
    await this.element(selector);
    await this.run((css) => {
      const field = [...document.querySelectorAll(css)].find((one) => one.checkVisibility());
      field.focus();
      field.select?.();
    }, selector);
    await this.write(text);
  }

  write(text) {
    return this.command('Input.insertText', { text });
  }

  /** Presses a key, such as `Enter`, `ArrowUp` or, with `{ctrl: true}`, `k`. */
  async press(key, { ctrl = false, alt = false, shift = false } = {}) {
    const codes = { Enter: 13, Escape: 27, ArrowUp: 38, ArrowDown: 40, Tab: 9, Backspace: 8 };
    const windowsVirtualKeyCode = codes[key] ?? key.toUpperCase().charCodeAt(0);
    const modifiers = (alt ? 1 : 0) + (ctrl ? 2 : 0) + (shift ? 8 : 0);
    const text = key === 'Enter' ? '\r' : undefined;
    await this.command('Input.dispatchKeyEvent', { type: text ? 'keyDown' : 'rawKeyDown', key, code: key.length === 1 ? `Key${key.toUpperCase()}` : key, windowsVirtualKeyCode, modifiers, text });
    await this.command('Input.dispatchKeyEvent', { type: 'keyUp', key, windowsVirtualKeyCode, modifiers });
  }

  size(width, height) {
    return this.command('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: 1, mobile: width < 700 });
  }

  colours(scheme) {
    return this.command('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: scheme }, { name: 'prefers-reduced-motion', value: 'reduce' }] });
  }

  async screenshot(path) {
    const { data } = await this.command('Page.captureScreenshot', { format: 'png' });
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, Buffer.from(data, 'base64'));
  }
}

/** In the page: notes what the pointer does and which menus come and go, from now on. */
function watchMenus() {
  window.rookeryNotes = [];
  if (window.rookeryWatched) return;
  window.rookeryWatched = true;
  const note = (event) => {
    const target = event.target.className || event.target.nodeName;
    window.rookeryNotes.push(`${Math.round(event.timeStamp)} ${event.type}${event.newState ? ` ${event.newState}` : ''} on ${target}`);
  };
  for (const type of ['pointerdown', 'pointerup', 'contextmenu', 'click', 'beforetoggle', 'toggle']) document.addEventListener(type, note, { capture: true });
}

/** In the page: what was noted, and what lies under the pointer. */
function tellMenus(x, y) {
  const under = document.elementFromPoint(x, y);
  return `${Math.round(x)},${Math.round(y)} is over ${under?.className || under?.nodeName}; ${window.rookeryNotes.join('; ') || 'nothing happened'}`;
}
