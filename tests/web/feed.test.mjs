// The feed, the outbox, the store and the connection together, against a server that the test plays.

import assert from 'node:assert/strict';
import { afterEach, describe, it } from 'node:test';
import { Connection } from '../../src/gateway/web/assets/js/connection.js';
import { Feed } from '../../src/gateway/web/assets/js/feed.js';
import { KEPT_MESSAGES } from '../../src/gateway/web/assets/js/log.js';
import { Outbox, SEND_ATTEMPTS } from '../../src/gateway/web/assets/js/outbox.js';
import { Store } from '../../src/gateway/web/assets/js/store.js';
import { FakeClock, ME, conversation, fakeSockets, message, messages, settle, texts, until } from './support.mjs';

let running;
afterEach(() => running?.connection.stop());

function client() {
  const clock = new FakeClock();
  const { Socket, sockets } = fakeSockets();
  const store = new Store(ME);
  const api = {
    conversation: async (id) => store.get(id).info,
  };
  let feed;
  const connection = new Connection({
    url: 'ws://here/ws', addressUrl: (address) => address, token: 'secret', Socket, clock, random: () => 0,
    callbacks: {
      onWelcome: () => feed.onWelcome(),
      onEvent: (name, body) => feed.onEvent(name, body),
      onDown: () => feed.onDown(),
      onState: () => {},
      onSignedOut: () => {},
    },
  });
  const outbox = new Outbox({ store, connection, clock, random: () => 0 });
  const wait = (ms) => new Promise((resolve) => clock.setTimeout(resolve, ms));
  feed = new Feed({ store, connection, api, outbox, wait, random: () => 0 });
  connection.start();
  running = { clock, sockets, store, connection, outbox, feed };
  return running;
}

const page = (fields) => ({ sync_page: { conversations: [], messages: [], more: false, next_page: '', sync_token: '', ...fields } });
const history = (list, more = false) => ({ history_page: { messages: list, more } });
const sends = (socket) => socket.sent.filter((frame) => frame.send).map((frame) => frame.send.client_id);

/** Signs in and answers the first sync with `conversations`. */
async function ready(client, conversations) {
  const socket = client.sockets.at(-1);
  await socket.welcome();
  await socket.answer('sync', page({ conversations, sync_token: 't1' }));
  return socket;
}

describe('sync', () => {
  it('pages through the list, then through the messages until there are no more', async () => {
    const all = client();
    const [socket] = all.sockets;
    await socket.welcome();
    assert.deepEqual(socket.asked('sync').sync, { cursors: [], since: '', page: '', limit: 500 });
    await socket.answer('sync', page({ conversations: [conversation({ last_seq: 3 })], next_page: 'p2', sync_token: 't1' }));
    assert.equal(socket.asked('sync').sync.page, 'p2');
    await socket.answer('sync', page({ conversations: [conversation({ conversation_id: 8 })] }));
    assert.deepEqual(socket.asked('sync').sync.cursors, [{ conversation_id: 7, seq: 0 }]);
    assert.equal(socket.asked('sync').sync.since, 't1');
    await socket.answer('sync', page({ messages: messages(1, 2), more: true }));
    assert.deepEqual(socket.asked('sync').sync.cursors, [{ conversation_id: 7, seq: 2 }]);
    await socket.answer('sync', page({ messages: [message(3)] }));
    assert.equal(all.feed.synced, true);
    assert.deepEqual(texts(all.store), ['text 1', 'text 2', 'text 3']);
  });

  it('after a reconnect names the token, then the conversations that are behind', async () => {
    const all = client();
    const first = await ready(all, [conversation(), conversation({ conversation_id: 8 })]);
    first.say({ message: message(1) });
    first.end();
    await all.clock.advance(1_000);
    const second = all.sockets.at(-1);
    await second.welcome();
    assert.equal(second.asked('sync').sync.since, 't1');
    await second.answer('sync', page({ conversations: [conversation({ last_seq: 2, updated_at_ms: 200 })], sync_token: 't2' }));
    assert.deepEqual(second.asked('sync').sync.cursors, [{ conversation_id: 7, seq: 1 }]);
    await second.answer('sync', page({ messages: [message(2)] }));
    assert.deepEqual(texts(all.store), ['text 1', 'text 2']);
  });

  it('drops what was hidden elsewhere while it was away, however many pages that takes', async () => {
    const all = client();
    const first = await ready(all, [conversation()]);
    for (const seq of [1, 2, 3]) first.say({ message: message(seq) });
    assert.equal(all.store.totalUnread(), 3);
    first.end();
    await all.clock.advance(1_000);
    const second = all.sockets.at(-1);
    await second.welcome();
    const hidden = (...seqs) => [{ conversation_id: 7, seqs }];
    await second.answer('sync', page({ sync_token: 't2', hidden: hidden(1), hidden_more: true }));
    assert.equal(second.asked('sync').sync.since, 't2');
    await second.answer('sync', page({ sync_token: 't3', hidden: hidden(3, 99) }));
    const shown = all.store.get(7).log.list().filter((held) => !held.marks?.hidden);
    assert.deepEqual([shown.map(({ seq }) => seq), all.store.totalUnread()], [[2], 1]);
  });

  it('starts anew from the whole list when the token is refused', async () => {
    const all = client();
    all.store.syncToken = 'ancient';
    const [socket] = all.sockets;
    await socket.welcome();
    await socket.answer('sync', { error: { code: 'invalid_argument', message: 'too old', retry_after_ms: 0 } });
    await all.clock.advance(1_000);
    assert.equal(socket.asked('sync').sync.since, '');
  });
});

describe('live', () => {
  it('a gap is repaired by history, and only then confirmed', async () => {
    const all = client();
    const socket = await ready(all, [conversation()]);
    socket.say({ message: message(1) });
    socket.say({ message: message(4) });
    await all.clock.advance(120);
    assert.equal(socket.asked('delivered').delivered.seq, 1);
    await socket.answer('delivered', { ok: {} });
    await all.clock.advance(100);
    assert.deepEqual(socket.asked('history').history, { conversation_id: 7, after_seq: 1, limit: 200 });
    await socket.answer('history', history(messages(2, 4)));
    await all.clock.advance(150);
    assert.deepEqual(texts(all.store), ['text 1', 'text 2', 'text 3', 'text 4']);
    assert.equal(socket.asked('delivered').delivered.seq, 4);
  });

  it('a gap that the server cannot fill is given up after some tries', async () => {
    const all = client();
    const socket = await ready(all, [conversation()]);
    socket.say({ message: message(1) });
    socket.say({ message: message(4) });
    for (let tries = 1; tries <= 6; tries += 1) {
      await until(all.clock, () => socket.sent.filter((frame) => frame.history).length === tries);
      await socket.answer('history', history([]));
    }
    await all.clock.advance(1_000);
    assert.deepEqual(texts(all.store), ['text 1', 'text 4']);
    assert.deepEqual([...all.store.get(7).log.holes], [1]);
  });

  it('a message of an unknown conversation fetches it and what came before', async () => {
    const all = client();
    const socket = await ready(all, []);
    socket.say({ message: message(2, { conversation_id: 9 }) });
    await settle();
    assert.equal(socket.asked('sync').sync.since, 't1');
    await socket.answer('sync', page({ conversations: [conversation({ conversation_id: 9, last_seq: 2, unread: 2 })], sync_token: 't2' }));
    await all.clock.advance(500);
    assert.deepEqual(socket.asked('history').history, { conversation_id: 9, before_seq: 201, limit: 200 });
    await socket.answer('history', history(messages(1, 2, { conversation_id: 9 })));
    assert.deepEqual([texts(all.store, 9), all.store.get(9).info.unread], [['text 1', 'text 2'], 2]);
  });

  it('an unknown conversation is asked for until it is there, however long that fails', async () => {
    const all = client();
    const socket = await ready(all, []);
    socket.say({ message: message(1, { conversation_id: 9 }) });
    const asked = () => socket.sent.filter((frame) => frame.sync).length;
    for (let tries = 2; tries < 12; tries += 1) {
      await until(all.clock, () => asked() === tries);
      await socket.answer('sync', { error: { code: 'unavailable', message: 'later', retry_after_ms: 100 } });
      if (socket.asked('ping')) await socket.answer('ping', { pong: {} });
    }
    await until(all.clock, () => asked() === 12);
    await socket.answer('sync', page({ conversations: [conversation({ conversation_id: 9, last_seq: 1, unread: 1 })], sync_token: 't2' }));
    assert.deepEqual([all.store.get(9)?.info.unread, all.store.syncToken], [1, 't2']);
  });

  it('a conversation that the list lacks is not asked for without end', async () => {
    const all = client();
    const socket = await ready(all, []);
    socket.say({ message: message(1, { conversation_id: 9 }) });
    const asked = () => socket.sent.filter((frame) => frame.sync).length;
    for (let tries = 2; tries <= 6; tries += 1) {
      await until(all.clock, () => asked() === tries);
      await socket.answer('sync', page({ sync_token: 't2' }));
    }
    await all.clock.advance(60_000);
    assert.equal(asked(), 6);
  });

  it('read is told only of the open conversation, and only while the tab is seen', async () => {
    const all = client();
    const socket = await ready(all, [conversation()]);
    socket.say({ message: message(1) });
    all.feed.open(7);
    await all.clock.advance(200);
    assert.equal(socket.asked('read'), undefined);
    all.feed.setVisible(true);
    await all.clock.advance(200);
    assert.deepEqual(socket.asked('read').read, { conversation_id: 7, seq: 1 });
    assert.equal(all.store.totalUnread(), 0);
  });

  it('a cursor that was refused for now is told again without another message', async () => {
    const all = client();
    const socket = await ready(all, [conversation()]);
    socket.say({ message: message(1) });
    const asked = () => socket.sent.filter((frame) => frame.delivered).length;
    for (let tries = 1; tries <= 3; tries += 1) {
      await until(all.clock, () => asked() === tries);
      await socket.answer('delivered', { error: { code: 'unavailable', message: 'later', retry_after_ms: 100 } });
    }
    await until(all.clock, () => asked() === 4);
    await socket.answer('delivered', { ok: {} });
    await all.clock.advance(20_000);
    assert.deepEqual([asked(), all.store.get(7).acked.delivered], [4, 1]);
    socket.say({ message: message(2) });
    await until(all.clock, () => asked() === 5);
    await socket.answer('delivered', { error: { code: 'invalid_argument', message: 'no', retry_after_ms: 0 } });
    await all.clock.advance(20_000);
    assert.equal(asked(), 5);
  });

  it('opening loads the newest page, scrolling the one before', async () => {
    const all = client();
    const socket = await ready(all, [conversation({ last_seq: 900, delivered_seq: 100, unread: 800 })]);
    all.feed.open(7);
    await settle();
    assert.equal(socket.asked('history').history.before_seq, Number.MAX_SAFE_INTEGER);
    await socket.answer('history', history(messages(851, 900), true));
    const older = all.feed.loadOlder(7);
    assert.equal(all.feed.loadOlder(7), older, 'a second wish while one is under way is the same one');
    assert.equal(socket.asked('history').history.before_seq, 851);
    await socket.answer('history', history(messages(801, 850), true));
    assert.equal(await older, true);
    assert.equal(texts(all.store).length, 100);
  });

  it('what the user sees is read at once, and the past that it looks at keeps the new from being read', async () => {
    const all = client();
    const socket = await ready(all, [conversation({ last_seq: 900, delivered_seq: 900, read_seq: 900 })]);
    all.feed.setVisible(true);
    all.feed.open(7);
    await settle();
    await socket.answer('history', history(messages(851, 900), true));
    socket.say({ message: message(901) });
    assert.equal(all.store.get(7).info.unread, 0);
    await all.clock.advance(200);
    const revealed = all.feed.reveal(7, 100);
    assert.deepEqual(socket.asked('history').history, { conversation_id: 7, before_seq: 121, limit: 50 });
    await socket.answer('history', history(messages(71, 120), true));
    assert.equal(await revealed, true);
    socket.say({ message: message(902) });
    await all.clock.advance(500);
    assert.deepEqual([all.store.get(7).info.unread, socket.asked('read')?.read.seq, socket.asked('delivered').delivered.seq], [1, 901, 902]);
    const newer = all.feed.loadNewer(7);
    assert.equal(socket.asked('history').history.after_seq, 120);
    await socket.answer('history', history(messages(121, 170), true));
    await newer;
    assert.deepEqual([all.store.shown(7).low, all.store.shown(7).high], [71, 170]);
    all.store.leaveExcerpt(7);
    all.feed.tend(7);
    await all.clock.advance(500);
    assert.deepEqual([all.store.get(7).info.unread, socket.asked('read').read.seq], [0, 902]);
  });

  it('a page that was on its way when a sync began the log leaves no hole in it', async () => {
    const all = client();
    const first = await ready(all, [conversation({ last_seq: 100, delivered_seq: 100, read_seq: 100 })]);
    first.end();
    await all.clock.advance(1_000);
    const second = all.sockets.at(-1);
    await second.welcome();
    all.feed.setVisible(true);
    all.feed.open(7);
    await settle();
    const backlog = { last_seq: 300, delivered_seq: 100, read_seq: 100, unread: 200, updated_at_ms: 200 };
    await second.answer('sync', page({ conversations: [conversation(backlog)], sync_token: 't2' }));
    assert.deepEqual(second.asked('sync').sync.cursors, [{ conversation_id: 7, seq: 100 }]);
    assert.equal(second.asked('history').history.before_seq, Number.MAX_SAFE_INTEGER);
    await second.answer('history', history(messages(251, 300), true));
    await second.answer('sync', page({ messages: messages(101, 300) }));
    await all.clock.advance(500);
    assert.equal(all.store.get(7).log.list().filter(({ seq }) => seq > 100).length, 200, 'every message is shown');
    assert.equal(second.asked('delivered').delivered.seq, 300);
  });

  it('a page of one place in the past does not become part of another', async () => {
    const all = client();
    const socket = await ready(all, [conversation({ last_seq: 9_000, delivered_seq: 9_000, read_seq: 9_000 })]);
    all.feed.open(7);
    await settle();
    await socket.answer('history', history(messages(8_951, 9_000), true));
    const there = all.feed.reveal(7, 4_989);
    await socket.answer('history', history(messages(4_960, 5_009), true));
    await there;
    const older = all.feed.loadOlder(7);
    const olderId = socket.asked('history').id;
    const newer = all.feed.loadNewer(7);
    const newerId = socket.asked('history').id;
    const quote = all.feed.reveal(7, 100);
    await socket.answer('history', history(messages(71, 120), true));
    await quote;
    socket.say({ reply_to: olderId, ...history(messages(4_910, 4_959), true) });
    socket.say({ reply_to: newerId, ...history(messages(5_010, 5_059), true) });
    await Promise.all([older, newer]);
    const shown = all.store.shown(7);
    assert.deepEqual([shown.low, shown.high, shown.list().length], [71, 120, 50]);
  });

  it('of two jumps the last one asked for counts, whichever is answered first', async () => {
    const all = client();
    const socket = await ready(all, [conversation({ last_seq: 9_000, delivered_seq: 9_000, read_seq: 9_000 })]);
    all.feed.open(7);
    await settle();
    await socket.answer('history', history(messages(8_951, 9_000), true));
    const slow = all.feed.reveal(7, 5_000);
    const slowId = socket.asked('history').id;
    const last = all.feed.reveal(7, 100);
    await socket.answer('history', history(messages(71, 120), true));
    socket.say({ reply_to: slowId, ...history(messages(4_971, 5_020), true) });
    assert.deepEqual([await slow, await last, all.store.shown(7).low], [undefined, true, 71]);
  });

  it('a conversation that is never opened keeps a bounded number of messages', async () => {
    const all = client();
    const socket = await ready(all, [conversation()]);
    for (let seq = 1; seq <= 3 * KEPT_MESSAGES; seq += 1) socket.say({ message: message(seq) });
    await all.clock.advance(500);
    const { log } = all.store.get(7);
    assert.ok(log.bySeq.size <= 2 * KEPT_MESSAGES, `${log.bySeq.size} are kept`);
    assert.deepEqual([log.high, log.list().at(-1).seq, log.hasGap(3 * KEPT_MESSAGES)], [3 * KEPT_MESSAGES, 3 * KEPT_MESSAGES, false]);
    assert.deepEqual([all.store.get(7).info.unread, socket.asked('delivered').delivered.seq], [3 * KEPT_MESSAGES, 3 * KEPT_MESSAGES]);
  });

  it('a log that is far behind after a reconnect begins anew from the newest page', async () => {
    const all = client();
    const first = await ready(all, [conversation(), conversation({ conversation_id: 8 })]);
    for (const id of [7, 8]) first.say({ message: message(1, { conversation_id: id }) });
    all.feed.open(7);
    first.end();
    await all.clock.advance(1_000);
    const second = all.sockets.at(-1);
    await second.welcome();
    const far = (id) => conversation({ conversation_id: id, last_seq: 9_000, delivered_seq: 1, unread: 8_999, updated_at_ms: 200 });
    await second.answer('sync', page({ conversations: [far(7), far(8)], sync_token: 't2' }));
    assert.equal(second.sent.filter((frame) => frame.sync).length, 1, 'no message is synced');
    assert.deepEqual(second.sent.filter((frame) => frame.history).map(({ history: { conversation_id: id, before_seq: before } }) => [id, before]), [[7, Number.MAX_SAFE_INTEGER]]);
    await second.answer('history', history(messages(8_951, 9_000), true));
    assert.deepEqual([all.store.get(7).log.low, texts(all.store).length, all.store.get(8).log.loaded, all.store.get(8).info.unread], [8_951, 50, false, 8_999]);
  });

  it('what can be seen already is not asked for', async () => {
    const all = client();
    const socket = await ready(all, [conversation()]);
    for (const seq of [1, 2]) socket.say({ message: message(seq) });
    assert.equal(await all.feed.reveal(7, 1), true);
    assert.equal(socket.asked('history'), undefined);
  });

  it('what a message answers is brought once, and follows its edits', async () => {
    const all = client();
    const socket = await ready(all, [conversation({ last_seq: 900, delivered_seq: 900 })]);
    all.feed.wantQuoted(7, 3);
    all.feed.wantQuoted(7, 3);
    all.feed.wantQuoted(7, 4);
    await settle();
    const asked = () => socket.sent.filter((frame) => frame.history).map((frame) => frame.history.before_seq);
    assert.deepEqual(asked(), [4]);
    await socket.answer('history', history([message(3)]));
    assert.deepEqual(asked(), [4, 5]);
    await socket.answer('history', history([message(2)]));
    all.feed.wantQuoted(7, 4);
    assert.deepEqual([asked().length, all.store.find(7, 3).text, all.store.find(7, 4)], [2, 'text 3', undefined]);
    socket.say({ message: message(901, { kind: 'edit', target_seq: 3, text: 'better' }) });
    assert.equal(all.store.find(7, 3).text, 'better');
  });

  it('messages of others are told as they are written, but not those that a sync brings', async () => {
    const all = client();
    const socket = await ready(all, [conversation()]);
    const told = [];
    all.feed.onLive = ({ conversation_id: id, seq }) => told.push([id, seq]);
    socket.say({ message: message(1) });
    socket.say({ message: message(1) });
    socket.say({ message: message(2, { sender_id: ME }) });
    socket.say({ message: message(1, { conversation_id: 9 }) });
    await settle();
    await socket.answer('sync', page({ conversations: [conversation({ conversation_id: 9, last_seq: 1, unread: 1 })] }));
    await all.clock.advance(500);
    assert.deepEqual(told, [[7, 1], [9, 1]]);
    await all.feed.onMessage(message(3));
    assert.equal(told.length, 2);
  });

  it('events of kinds unknown or unused change nothing', async () => {
    const all = client();
    const socket = await ready(all, [conversation()]);
    for (const name of ['contact', 'typing', 'presence', 'notice', 'something_new']) socket.say({ [name]: { user_id: 2 } });
    assert.deepEqual(texts(all.store), []);
  });
});

describe('the outbox', () => {
  const sent = (seq, id, duplicate = false) => ({ sent: { conversation_id: 7, seq, client_id: id, created_at_ms: 9, duplicate } });

  it('repeats what was not answered after a reconnect, in order and under the same client_ids', async () => {
    const all = client();
    const first = await ready(all, [conversation()]);
    for (const id of ['a', 'b', 'c']) all.outbox.enqueue(7, id, id, 1);
    assert.deepEqual(sends(first), ['a']);
    first.end();
    await all.clock.advance(1_000);
    const second = await ready(all, []);
    for (const [at, id] of ['a', 'b', 'c'].entries()) await second.answer('send', sent(at + 1, id, at === 0));
    assert.deepEqual(sends(second), ['a', 'b', 'c']);
    assert.deepEqual(texts(all.store), ['a', 'b', 'c']);
    assert.deepEqual(all.store.get(7).pending, []);
  });

  it('does not repeat what the sync shows as stored', async () => {
    const all = client();
    const first = await ready(all, [conversation()]);
    all.outbox.enqueue(7, 'a', 'a', 1);
    first.end();
    await all.clock.advance(1_000);
    const second = all.sockets.at(-1);
    await second.welcome();
    await second.answer('sync', page({ conversations: [conversation({ last_seq: 1, updated_at_ms: 200 })], sync_token: 't2' }));
    await second.answer('sync', page({ messages: [message(1, { sender_id: ME, client_id: 'a', text: 'a' })] }));
    assert.deepEqual(sends(second), []);
    assert.deepEqual(texts(all.store), ['a']);
  });

  it('waits as told after a refusal that may be repeated, and keeps the order', async () => {
    const all = client();
    const socket = await ready(all, [conversation()]);
    for (const id of ['a', 'b']) all.outbox.enqueue(7, id, id, 1);
    await socket.answer('send', { error: { code: 'unavailable', message: 'later', retry_after_ms: 2_000 } });
    await all.clock.advance(1_999);
    assert.deepEqual(sends(socket), ['a']);
    await all.clock.advance(1);
    assert.deepEqual(sends(socket), ['a', 'a']);
    await socket.answer('send', sent(1, 'a'));
    assert.deepEqual(sends(socket), ['a', 'a', 'b']);
  });

  it('marks a send as failed for good after an error that stored nothing, and goes on', async () => {
    const all = client();
    const socket = await ready(all, [conversation()]);
    for (const id of ['a', 'b']) all.outbox.enqueue(7, id, id, 1);
    await socket.answer('send', { error: { code: 'permission_denied', message: 'silenced', retry_after_ms: 0 } });
    assert.deepEqual(sends(socket), ['a', 'b']);
    await socket.answer('send', sent(1, 'b'));
    assert.deepEqual([all.store.pending(7, 'a').state, all.store.pending(7, 'a').error], ['failed', 'silenced']);
    all.outbox.retry(7, 'a');
    await socket.answer('send', sent(2, 'a'));
    assert.deepEqual(texts(all.store), ['b', 'a']);
  });

  it('stops after a bounded number of refusals', async () => {
    const all = client();
    const socket = await ready(all, [conversation()]);
    all.outbox.enqueue(7, 'a', 'a', 1);
    for (let tries = 0; tries < SEND_ATTEMPTS; tries += 1) {
      await socket.answer('send', { error: { code: 'unavailable', message: 'later', retry_after_ms: 0 } });
      await all.clock.advance(16_000);
      if (socket.asked('ping')) await socket.answer('ping', { pong: {} });
    }
    assert.deepEqual([sends(socket).length, all.store.pending(7, 'a').state], [SEND_ATTEMPTS, 'failed']);
  });
});
