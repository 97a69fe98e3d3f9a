// The scenes of tests/web/chromium.mjs, in their order: each goes on where the one before left Ann and Bob. A scene
// returns why it was skipped where the server lacks what it is about.

import assert from 'node:assert/strict';

const PASSWORD = 'correct horse';
const COMPOSER = '.composer textarea';
/** More than three pages of history. */
const ROWS = 160;

/** What the scenes share. */
export class Stage {
  constructor({ cluster, browser, urls, shots }) {
    Object.assign(this, { cluster, browser, urls, shots });
  }

  async person(name, node) {
    const page = await this.browser.person(name);
    await page.size(1280, 800);
    await page.colours('light');
    await page.open(this.urls[node]);
    return page;
  }

  async shot(page, name) {
    if (this.shots) await page.screenshot(`${this.shots}/${name}.png`);
  }

  /** Whether the server has a call: any answer but that there is none. */
  async knows(method, path) {
    const token = await this.ann.run(() => JSON.parse(localStorage.getItem('rookery.session')).token);
    const answer = await fetch(`http://${this.cluster.address('west')}/api/v1${path}`, { method, headers: { Authorization: `Bearer ${token}` } });
    const text = await answer.text();
    return answer.status !== 405 && !text.includes('here; the API is under');
  }

  checkErrors() {
    for (const page of this.browser.pages.values()) assert.deepEqual(page.errors, [], `${page.name}'s page had errors`);
  }
}

const say = async (page, text) => {
  await page.fill(COMPOSER, text);
  await page.press('Enter');
};

/** The texts of the timeline, in order, those waiting included. */
const texts = (page) => page.run(() => [...document.querySelectorAll('.messages .bubble .text')].map((one) => one.textContent));

/**
 * Opens a conversation. The list may be put in another order between the look for a row and the press on it, as under
 * anybody's pointer: then once more.
 */
async function goes(page, name) {
  const isOpen = (words) => document.querySelector('.room h2')?.textContent.includes(words) ?? false;
  for (let tries = 1; ; tries += 1) {
    await page.click('.conversation-name', name);
    try {
      return await page.seeWithin(tries * 3_000, `${name} open`, isOpen, name);
    } catch (error) {
      if (tries === 4) throw error;
      console.log(`chromium:   another row was under the pointer than ${name}'s`);
    }
  }
}

async function menuOf(page, text, item) {
  // One that the server has: what is still on its way has no menu.
  await page.choose('.messages .row[data-seq] .bubble', text, item, 'right');
}

async function signUp(page, username, name, node) {
  await page.click('button', 'Create an account');
  await page.fill('input[name=username]', username);
  await page.fill('input[name=display_name]', name);
  await page.fill('input[name=password]', PASSWORD);
  await page.press('Enter');
  await page.element('.status', `connected to ${node}`);
  await page.element('.me', name);
}

async function two_people_sign_up(stage) {
  stage.ann = await stage.person('ann', 'west');
  await stage.shot(stage.ann, '01-sign-in');
  stage.bob = await stage.person('bob', 'east');
  for (const [page, username, name, node] of [[stage.ann, 'ann', 'Ann Arbor', 'west'], [stage.bob, 'bob', 'Bob Stone', 'east']]) {
    await signUp(page, username, name, node);
  }
}

async function a_direct_conversation_with_unread_ticks_and_typing(stage) {
  const { ann, bob } = stage;
  await ann.press('k', { ctrl: true });
  await ann.write('bob');
  await ann.element('.found .result', 'Bob Stone');
  await ann.press('ArrowDown');
  await ann.press('Enter');
  await ann.element('.room h2', 'Bob Stone');
  await ann.element('.room .subtitle', 'online');
  await say(ann, 'Hello Bob, see https://example.org/a?b=c.');
  await ann.element('.bubble a', 'https://example.org/a?b=c');
  await bob.element('.conversation .badge', '1 unread');
  await bob.see('the title count it', () => document.title === '(1) Rookery');
  await goes(bob, 'Ann Arbor');
  await bob.element('.bubble', 'Hello Bob');
  await bob.gone('.conversation .badge', 'unread');
  await ann.element('.ticks', 'read');
  await bob.fill(COMPOSER, 'Hi');
  await ann.element('.subtitle', 'typing');
  await ann.element('.conversation-preview', 'typing');
  await bob.write(' Ann!');
  await bob.press('Enter');
  await ann.element('.bubble', 'Hi Ann!');
  await ann.gone('.subtitle', 'typing');
  await stage.shot(ann, '02-direct');
}

async function what_people_write_is_never_markup(stage) {
  const { ann, bob } = stage;
  const nasty = '<img src=x onerror="document.title=1"><b>bold</b> javascript:alert(1)';
  await say(ann, nasty);
  await bob.element('.bubble', nasty);
  for (const page of [ann, bob]) assert.equal(await page.run(() => document.querySelectorAll('.app img, .messages .text b, a[href^="javascript"]').length), 0);
}

async function a_reply_leads_to_what_it_answers(stage) {
  const { ann, bob } = stage;
  await menuOf(ann, 'Hi Ann!', 'Reply');
  await ann.element('.banner', 'Replying to Bob Stone');
  await ann.write('This answers you');
  await stage.shot(ann, '03-reply');
  await ann.press('Enter');
  await bob.element('.quote', 'Hi Ann!');
  await bob.click('.quote', 'Hi Ann!');
  await bob.see('the message that was answered', () => document.activeElement?.classList.contains('row') && document.activeElement.textContent.includes('Hi Ann!'));
}

async function an_edit_a_reaction_and_a_recall(stage) {
  const { ann, bob } = stage;
  if (!(await stage.knows('PATCH', '/conversations/1/messages/1'))) return 'this server does not change messages';
  await say(ann, 'Tea at fore?');
  await bob.element('.bubble', 'Tea at fore?');
  await ann.press('ArrowUp');
  await ann.element('.banner', 'Editing');
  await ann.fill(COMPOSER, 'Tea at four?');
  await ann.press('Enter');
  for (const page of [ann, bob]) {
    await page.element('.bubble', 'Tea at four?');
    await page.element('.row:has(.edited)', 'Tea at four?');
    await page.gone('.bubble', 'Tea at fore?');
  }
  await bob.click('.row[data-seq] .bubble', 'Tea at four?', 'right');
  await bob.element('.menu', 'Reply');
  await stage.shot(bob, '04-menu');
  await bob.click('.menu .emoji', '👍');
  for (const page of [ann, bob]) await page.element('.row .chip', '👍 1');
  await ann.click('.row .chip', '👍');
  for (const page of [ann, bob]) await page.element('.row .chip', '👍 2');
  await bob.click('.row .chip', '👍');
  for (const page of [ann, bob]) await page.element('.row .chip', '👍 1');
  await say(ann, 'I should not have said that');
  await bob.element('.bubble', 'I should not have said that');
  await menuOf(ann, 'I should not have said that', 'Take back');
  await ann.click('dialog button', 'Take back');
  for (const page of [ann, bob]) {
    await page.element('.bubble .faint', 'Message taken back');
    await page.gone('.bubble', 'I should not have said that');
  }
  // What the server keeps is what is shown: a fresh page has it from the history alone.
  await bob.reload();
  await bob.element('.row:has(.edited)', 'Tea at four?');
  await bob.element('.row .chip', '👍 1');
  await bob.element('.bubble .faint', 'Message taken back');
  return undefined;
}

async function a_room_with_mentions(stage) {
  const { ann, bob } = stage;
  await ann.click('.sidebar button', 'New chat, group');
  await ann.click('.menu-item', 'New group');
  await ann.fill('dialog input', 'Gardeners');
  await ann.fill('dialog .picker input', 'bob');
  await ann.press('Enter');
  await ann.element('.chips li', 'Bob Stone');
  await ann.click('dialog button', 'Create group');
  await ann.element('.room h2', 'Gardeners');
  await goes(bob, 'Gardeners');
  await ann.element('.room .subtitle', '2 members, 2 online');
  await ann.fill(COMPOSER, 'Who waters, @b');
  await ann.element('.mentions li', 'Bob Stone');
  await ann.press('Enter');
  await ann.write('or me?');
  await ann.press('Enter');
  await bob.element('.bubble .own-mention', '@bob');
  await ann.element('.ticks', 'read');
  await stage.shot(bob, '05-room');
}

async function a_press_and_its_release_are_one_click(stage) {
  const { ann, bob } = stage;
  await goes(bob, 'Ann Arbor');
  await ann.run(() => {
    // What the socket brings is noted before it is drawn.
    window.rookeryHeard = '';
    const data = Object.getOwnPropertyDescriptor(MessageEvent.prototype, 'data').get;
    Object.defineProperty(MessageEvent.prototype, 'data', {
      configurable: true,
      get() {
        const text = data.call(this);
        window.rookeryHeard += text;
        return text;
      },
    });
  });
  const { x, y } = await ann.pressOn('.conversation-name', 'Bob Stone');
  await say(bob, 'This is drawn while the button is down');
  await ann.see('that it came', () => window.rookeryHeard.includes('while the button is down'));
  await ann.run(() => new Promise((resolve) => setTimeout(resolve, 200)));
  await ann.release(x, y);
  await ann.element('.room h2', 'Bob Stone');
  await ann.element('.bubble', 'This is drawn while the button is down');
  // With Ctrl and the left button, macOS asks for the menu by the press and sends no click; the release must not close it.
  await ann.run(() => {
    document.querySelector('.scroller').addEventListener('pointerdown', ({ target, clientX, clientY }) =>
      target.dispatchEvent(new MouseEvent('contextmenu', { bubbles: true, cancelable: true, clientX, clientY })), { once: true });
    document.addEventListener('click', (event) => event.stopPropagation(), { once: true, capture: true });
  });
  await ann.click('.messages .row[data-seq] .bubble', 'while the button is down');
  assert.equal(await ann.run(() => document.querySelectorAll('.menu:popover-open').length), 1, 'the menu stays');
  await ann.press('Escape');
  await ann.gone('.menu');
  await ann.element('.room h2', 'Bob Stone');
  for (const page of [ann, bob]) await goes(page, 'Gardeners');
}

async function roles_and_rules_of_a_room(stage) {
  const { ann, bob } = stage;
  if (!(await stage.knows('PATCH', '/conversations/1'))) return 'this server does not change groups';
  await ann.click('.room button', 'Details');
  await ann.element('.panel h3', '2 members');
  await stage.shot(ann, '06-room-page');
  await ann.click('.panel label', 'Only admins write');
  await bob.element('.refusal', 'Only the owner and admins write here');
  await ann.choose('.panel .members button', 'More about Bob Stone', 'Make an admin');
  await ann.element('.panel .role', 'admin');
  await bob.element(COMPOSER);
  await say(bob, 'An admin may write');
  await ann.element('.bubble', 'An admin may write');
  await ann.click('.panel label', 'Only admins write');
  await ann.click('.panel button', 'Edit name and texts');
  await ann.fill('dialog label:nth-of-type(3) textarea', 'Bring your own can');
  await ann.click('dialog button', 'Save');
  for (const page of [ann, bob]) await page.element('.strip', 'Bring your own can');
  await ann.click('.panel button', 'Make a code');
  const code = await ann.see('the code', () => document.querySelector('.panel code')?.textContent);
  await stage.shot(ann, '07-room-managed');
  await ann.press('Escape');
  stage.code = code;
  return undefined;
}

async function guests_come_by_code_by_request_and_go(stage) {
  const { ann, bob } = stage;
  if (!stage.code) return 'this server has no invitations';
  const carol = await stage.person('carol', 'west');
  await signUp(carol, 'carol', 'Carol Reed', 'west');
  await carol.run((code) => (location.hash = `#join-${code}`), stage.code);
  await carol.click('dialog button', 'Join');
  await carol.element('.room h2', 'Gardeners');
  await say(carol, 'I came by the code');
  await ann.element('.bubble', 'I came by the code');
  const menuOfCarol = (item) => ann.choose('.panel .members button', 'More about Carol Reed', item);
  await ann.click('.room button', 'Details');
  await menuOfCarol('Silence');
  await ann.click('dialog button', 'Silence');
  await carol.element('.refusal', 'You are silenced');
  await ann.element('.panel .members', 'silenced until');
  await menuOfCarol('Let write again');
  await carol.element(COMPOSER);
  await ann.gone('.panel .members', 'silenced until');
  await menuOfCarol('Remove');
  await ann.click('dialog button', 'Remove');
  await carol.element('.nothing');
  // By request, which an admin sees and accepts.
  await ann.run(() => {
    const policy = document.querySelector('[data-focus=policy]');
    policy.value = 'approval';
    policy.dispatchEvent(new Event('change'));
  });
  await bob.element('.row.line', 'lets in those who ask');
  const id = await ann.run(() => location.hash.slice(2));
  await carol.click('.sidebar button', 'New chat, group');
  await carol.click('.menu-item', 'Join a group');
  await carol.fill('dialog input', id);
  await carol.press('Tab');
  await carol.write('It is me again');
  await carol.press('Enter');
  await carol.element('.toast', 'request was sent');
  await ann.element('[data-section=requests]', 'It is me again');
  await stage.shot(ann, '07-requests');
  await ann.click('[data-section=requests] button', 'Accept');
  await goes(carol, 'Gardeners');
  await menuOfCarol('Ban');
  await ann.click('dialog button', 'Ban');
  await ann.element('[data-section=bans]', 'Carol Reed');
  await carol.element('.nothing');
  await ann.press('Escape');
  return undefined;
}

async function presence_and_drafts_on_several_devices(stage) {
  const { ann, bob } = stage;
  await bob.click('.me');
  await bob.click('.menu-item', 'Busy');
  await goes(ann, 'Bob Stone');
  await ann.element('.room .subtitle', 'busy');
  await ann.fill(COMPOSER, 'Half a thought');
  const second = await stage.person('ann2', 'east');
  await second.fill('input[name=username]', 'ann');
  await second.fill('input[name=password]', PASSWORD);
  await second.press('Enter');
  await second.element('.conversation .draft', 'Draft');
  await goes(second, 'Bob Stone');
  await second.see('the draft in the field', (css) => document.querySelector(css).value === 'Half a thought', COMPOSER);
  await second.press('Enter');
  await ann.element('.bubble', 'Half a thought');
  await ann.see('the draft gone', (css) => document.querySelector(css).value === '', COMPOSER);
  // Read on one device, read on the other.
  await goes(ann, 'Gardeners');
  await say(bob, 'Are you there?');
  await goes(bob, 'Ann Arbor');
  await say(bob, 'Only the second one sees this');
  await second.element('.bubble', 'Only the second one sees this');
  await ann.see('nothing unread', () => document.querySelectorAll('.conversation .badge').length === 0);
  stage.second = second;
}

async function a_device_is_signed_out_from_another(stage) {
  const { ann } = stage;
  await ann.click('.sidebar button', 'Settings');
  await ann.element('.page li', 'this one');
  await stage.shot(ann, '08-settings');
  await ann.click('.page li:not(:has(.hint:empty)) button', 'Sign out');
  await ann.click('dialog button', 'Sign out');
  await stage.second.element('.signin');
  await ann.press('Escape');
  await ann.element('.nothing');
}

async function contacts_find_each_other(stage) {
  const { ann, bob } = stage;
  await ann.click('.sidebar button', 'Contacts');
  await ann.click('.page button', 'Add a contact');
  await ann.fill('dialog .field input', 'We met at tea');
  await ann.fill('dialog .picker input', 'bob');
  await ann.press('Enter');
  await ann.element('.page h3', 'no answer yet');
  await bob.click('.sidebar button', 'Contacts, 1 requests');
  await bob.element('.page li', 'We met at tea');
  await bob.click('.page li button', 'Accept');
  await ann.element('.page li', 'Bob Stone');
  await ann.element('.page button', 'Message');
  await stage.shot(bob, '09-contacts');
  for (const page of [ann, bob]) await goes(page, page === ann ? 'Bob Stone' : 'Ann Arbor');
}

async function search_finds_what_was_said(stage) {
  const { ann } = stage;
  await ann.press('k', { ctrl: true });
  await ann.write('answers');
  if (!(await stage.knows('GET', '/search?query=a'))) {
    await ann.element('.pane .empty', 'can’t search messages yet');
    await ann.press('Escape');
    return 'this server does not search';
  }
  await ann.element('.found .result', 'This answers you');
  await stage.shot(ann, '10-search-found');
  await ann.click('.found .result', 'This answers you');
  await ann.see('the message found', () => document.activeElement?.textContent.includes('This answers you'));
  await ann.press('k', { ctrl: true });
  await ann.press('Escape');
  return undefined;
}

async function pins_copies_and_what_only_oneself_sees(stage) {
  const { ann, bob } = stage;
  if (!(await stage.knows('GET', '/conversations/1/pins'))) return 'this server does not pin, hide or forward';
  for (const page of [ann, bob]) await goes(page, page === ann ? 'Bob Stone' : 'Ann Arbor');
  await menuOf(ann, 'This answers you', 'Pin');
  for (const page of [ann, bob]) await page.element('.strip', 'This answers you');
  await menuOf(ann, 'This answers you', 'Forward');
  await ann.click('dialog .result', 'Gardeners');
  await goes(bob, 'Gardeners');
  await bob.element('.row:has(.forwarded)', 'This answers you');
  await goes(bob, 'Ann Arbor');
  await menuOf(bob, 'Half a thought', 'Delete for me');
  await bob.gone('.bubble', 'Half a thought');
  await bob.reload();
  await bob.element('.bubble', 'This answers you');
  await bob.gone('.bubble', 'Half a thought');
  await ann.element('.bubble', 'Half a thought');
  await menuOf(ann, 'This answers you', 'Unpin');
  for (const page of [ann, bob]) await page.gone('.strip', 'This answers you');
  await goes(ann, 'Gardeners');
  await menuOf(ann, 'Who waters', 'Who has read it');
  await ann.element('dialog .readers-list', 'Bob Stone');
  await stage.shot(ann, '09-readers');
  await ann.press('Escape');
  await ann.click('.conversation-name', 'Bob Stone', 'right');
  await ann.click('.menu-item', 'Mark as unread');
  await ann.element('.conversation .badge', 'marked as unread');
  await goes(ann, 'Bob Stone');
  await ann.gone('.conversation .badge');
  await ann.fill(COMPOSER, 'Tomorrow’s words');
  await ann.click('.composer button', 'When it is sent');
  await stage.shot(ann, '09-time');
  await ann.click('.menu-item', 'Send later');
  await ann.click('dialog button', 'Schedule');
  await ann.see('the field empty', (css) => document.querySelector(css).value === '', COMPOSER);
  await ann.click('.composer button', 'When it is sent');
  await ann.click('.menu-item', 'Scheduled messages');
  await ann.element('dialog li', 'Tomorrow’s words');
  await ann.click('dialog li button', 'Take it back');
  await ann.element('dialog', 'Nothing waits');
  await ann.press('Escape');
  return undefined;
}

async function a_long_past_is_paged_and_jumped_to(stage) {
  const { ann, bob } = stage;
  await goes(ann, 'Gardeners');
  // Many messages in short: over REST, one after the other as a bot would.
  for (let from = 1; from < ROWS; from += 20) {
    await ann.run(async (first) => {
      const { token } = JSON.parse(localStorage.getItem('rookery.session'));
      const id = location.hash.slice(2);
      for (let at = first; at < first + 20; at += 1) {
        await fetch(`/api/v1/conversations/${id}/messages`, { method: 'POST', headers: { Authorization: `Bearer ${token}` }, body: JSON.stringify({ client_id: `bot-${at}`, text: `row ${at}` }) });
      }
    }, from);
  }
  await goes(bob, 'Gardeners');
  await bob.element('.bubble', `row ${ROWS}`);
  await menuOf(bob, `row ${ROWS}`, 'Reply');
  await bob.write('Answer to the last row');
  await bob.press('Enter');
  // A fresh page has the newest messages only; scrolling brings the ones before.
  await ann.reload();
  await ann.element('.bubble', 'Answer to the last row');
  assert.ok((await texts(ann)).length < ROWS, 'not everything is loaded at once');
  await ann.run(() => {
    const scroller = document.querySelector('.scroller');
    new MutationObserver(() => (scroller.scrollTop = 0)).observe(scroller, { childList: true, subtree: true });
    scroller.scrollTop = 0;
  });
  await ann.element('.bubble', 'row 2');
  await ann.see('the beginning', () => document.querySelector('.timeline-start').textContent.includes('beginning'));
  const rows = (await texts(ann)).filter((text) => text.startsWith('row '));
  assert.deepEqual(rows, Array.from({ length: ROWS }, (_, at) => `row ${at + 1}`), 'every row once, in order');
  // A reply to something old, on a page that has only the newest.
  await ann.run(() => document.querySelector('.row[data-seq="2"] .bubble').scrollIntoView());
  await menuOf(ann, 'Who waters', 'Reply');
  await ann.write('Still open');
  await ann.press('Enter');
  await bob.reload();
  await bob.element('.quote', 'Who waters');
  await bob.click('.quote', 'Who waters');
  await bob.see('the old message', () => document.activeElement?.textContent.includes('Who waters'));
  await bob.gone('.bubble', `row ${ROWS}`);
  await stage.shot(bob, '10-in-the-past');
  await say(ann, 'And something new meanwhile');
  await bob.element('.jump .badge', '1');
  await bob.click('.jump');
  await bob.element('.bubble', 'And something new meanwhile');
  await bob.gone('.conversation .badge');
  for (const page of [ann, bob]) await goes(page, page === ann ? 'Bob Stone' : 'Ann Arbor');
}

async function a_crash_of_a_node_loses_and_doubles_nothing(stage) {
  const { ann, bob } = stage;
  await stage.cluster.kill('east');
  await bob.element('.status', 'not connected');
  await ann.element('.status', 'connected to west');
  const wanted = [];
  for (let at = 1; at <= 5; at += 1) {
    wanted.push(`while you were away ${at}`);
    await say(ann, wanted.at(-1));
  }
  await say(bob, 'written without a connection');
  await bob.element('.row:has([aria-label="waiting to be sent"])', 'written without a connection');
  await stage.shot(bob, '11-disconnected');
  await ann.see('all five stored', () => document.querySelectorAll('.ticks.queued, .ticks.sending').length === 0);
  await stage.cluster.raise('east');
  await bob.element('.status', 'connected to east');
  for (const page of [ann, bob]) await page.element('.row .bubble', 'written without a connection');
  await bob.element('.row .bubble', wanted.at(-1));
  await bob.see('nothing waiting', () => document.querySelectorAll('.ticks.queued, .ticks.sending, .row.failed, .row.gap').length === 0);
  await ann.element('.row .bubble', 'written without a connection');
  for (const page of [ann, bob]) {
    const expected = [...wanted, 'written without a connection'];
    assert.deepEqual((await texts(page)).filter((text) => expected.includes(text)), expected, `${page.name} sees each once, in order`);
  }
  await stage.shot(bob, '12-back');
}

async function the_dark_is_chosen_and_kept(stage) {
  const { ann } = stage;
  const ground = () => ann.run(() => getComputedStyle(document.body).backgroundColor);
  const light = await ground();
  await ann.click('.sidebar button', 'Settings');
  await ann.element('.page h3', 'This browser');
  await ann.run(() => {
    const choice = [...document.querySelectorAll('.page select')].find((one) => one.querySelector('[value=dark]'));
    choice.value = 'dark';
    choice.dispatchEvent(new Event('change'));
  });
  const dark = await ground();
  assert.notEqual(dark, light);
  await ann.reload();
  await ann.element('.status', 'connected');
  assert.equal(await ground(), dark, 'the choice is kept');
  await goes(ann, 'Gardeners');
  await ann.element('.bubble', 'something new meanwhile');
  await ann.click('.room button', 'Details');
  await stage.shot(ann, '13-dark');
  await ann.press('Escape');
  await goes(ann, 'Bob Stone');
  await ann.element('.bubble', 'This answers you');
  await stage.shot(ann, '14-dark-direct');
}

async function one_column_on_a_small_screen(stage) {
  const { bob } = stage;
  await bob.size(390, 844);
  await bob.element('.room h2', 'Ann Arbor');
  await bob.gone('.conversations');
  await stage.shot(bob, '15-phone-chat');
  await bob.click('.room button', 'Details');
  await bob.element('.panel', 'Block');
  await stage.shot(bob, '16-phone-details');
  await bob.click('.panel button', 'Close the details');
  await bob.click('.room .back');
  await bob.element('.conversation', 'Gardeners');
  await stage.shot(bob, '17-phone-list');
  await bob.colours('dark');
  await goes(bob, 'Gardeners');
  await bob.element('.bubble', 'something new meanwhile');
  await stage.shot(bob, '18-phone-dark');
  for (const width of [320, 390]) {
    await bob.size(width, 700);
    const wide = await bob.run(() => document.scrollingElement.scrollWidth > innerWidth);
    assert.equal(wide, false, `nothing is wider than a screen of ${width}`);
  }
}

async function keys_reach_everything_and_everything_has_a_name(stage) {
  const { ann, bob } = stage;
  const first = await ann.run(() => document.querySelector('.room h2').textContent);
  await ann.press('ArrowDown', { alt: true });
  await ann.press('ArrowUp', { alt: true });
  await ann.press('ArrowDown', { alt: true });
  await ann.see('another conversation', (name) => document.querySelector('.room h2').textContent !== name, first);
  await ann.press('Escape');
  await ann.see('the focus in the list', () => document.activeElement.classList.contains('conversation'));
  await ann.press('ArrowUp');
  await ann.press('Enter');
  await ann.element('.room h2', first);
  for (const page of [ann, bob]) {
    const nameless = await page.run(() => [...document.querySelectorAll('button, input, textarea, select')]
      .filter((one) => !(one.getAttribute('aria-label') || one.labels?.length || one.textContent.trim() || one.title)).map((one) => one.outerHTML));
    assert.deepEqual(nameless, [], `${page.name}: controls without a name`);
  }
  await stage.shot(ann, '19-end');
}

export const SCENES = [
  two_people_sign_up,
  a_direct_conversation_with_unread_ticks_and_typing,
  what_people_write_is_never_markup,
  a_reply_leads_to_what_it_answers,
  an_edit_a_reaction_and_a_recall,
  a_room_with_mentions,
  a_press_and_its_release_are_one_click,
  roles_and_rules_of_a_room,
  guests_come_by_code_by_request_and_go,
  presence_and_drafts_on_several_devices,
  a_device_is_signed_out_from_another,
  contacts_find_each_other,
  search_finds_what_was_said,
  pins_copies_and_what_only_oneself_sees,
  a_long_past_is_paged_and_jumped_to,
  a_crash_of_a_node_loses_and_doubles_nothing,
  the_dark_is_chosen_and_kept,
  one_column_on_a_small_screen,
  keys_reach_everything_and_everything_has_a_name,
];
