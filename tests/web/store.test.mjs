import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { tickOf } from '../../src/gateway/web/assets/js/conversation.js';
import { PENDING_LIMIT, Store } from '../../src/gateway/web/assets/js/store.js';
import { ME, PEER, conversation, message, messages, storeWith, texts } from './support.mjs';

const sent = (seq, clientId, fields = {}) => ({ conversation_id: 7, seq, client_id: clientId, created_at_ms: 5_000, duplicate: false, ...fields });

describe('live messages', () => {
  it('count as unread once, however often they come', () => {
    const store = storeWith();
    assert.equal(store.applyMessage(message(1)), 'added');
    assert.equal(store.applyMessage(message(1)), 'duplicate');
    assert.equal(store.get(7).info.unread, 1);
    assert.equal(store.totalUnread(), 1);
    assert.deepEqual(texts(store), ['text 1']);
  });

  it('are shown in seq order once a gap is filled', () => {
    const store = storeWith();
    for (const seq of [1, 4, 3]) store.applyMessage(message(seq));
    assert.deepEqual(store.cursors(), [{ conversation_id: 7, seq: 1 }]);
    assert.equal(store.deliverable(7), 1, 'nothing in a gap is confirmed');
    store.applyHistory(7, { afterSeq: 1 }, { messages: [message(2)] });
    assert.deepEqual(texts(store), ['text 1', 'text 2', 'text 3', 'text 4']);
    assert.deepEqual(store.cursors(), []);
    assert.equal(store.deliverable(7), 4);
    assert.equal(store.get(7).info.unread, 4);
  });

  it('of an unknown conversation ask for it', () => {
    assert.equal(new Store(ME).applyMessage(message(1)), 'unknown');
  });

  it('that jump in a conversation never opened mark its state as stale', () => {
    const store = storeWith({ last_seq: 10, delivered_seq: 2, unread: 8 });
    store.applyMessage(message(15));
    assert.equal(store.get(7).stale, true);
    assert.equal(store.get(7).log.loaded, false);
    store.applyConversation(conversation({ last_seq: 15, delivered_seq: 2, unread: 13 }));
    assert.deepEqual([store.get(7).stale, store.get(7).info.unread], [false, 13]);
  });

  it('of oneself, from another device, count as read', () => {
    const store = storeWith();
    store.applyMessage(message(1));
    store.applyMessage(message(2, { sender_id: ME, client_id: 'other-device' }));
    assert.deepEqual([store.get(7).info.unread, store.get(7).info.read_seq], [0, 2]);
    assert.equal(store.readable(7), 1, 'the server is still told when the user sees it');
  });

  it('about another message change it, and the list keeps its place', () => {
    const store = storeWith();
    store.applyMessage(message(1));
    store.applyMessage(message(2, { kind: 'edit', target_seq: 1, text: 'better' }));
    assert.deepEqual(texts(store)[0], 'better');
    store.applyMessage(message(3, { kind: 'recall', target_seq: 1, text: '' }));
    assert.equal(store.get(7).log.get(1).recalled, true);
    store.applyMessage(message(4, { kind: 'hologram', text: '' }));
    assert.equal(store.get(7).info.last_seq, 4);
  });
});

describe('conversations', () => {
  it('are listed newest first', () => {
    const store = storeWith({ updated_at_ms: 50 });
    store.applyConversation(conversation({ conversation_id: 8, updated_at_ms: 60 }));
    assert.deepEqual(store.list().map(({ info }) => info.conversation_id), [8, 7]);
    store.applyMessage(message(1));
    assert.deepEqual(store.list().map(({ info }) => info.conversation_id), [7, 8]);
  });

  it('do not go back to what an older answer says', () => {
    const store = storeWith({ updated_at_ms: 100, name: 'new' });
    for (const seq of [1, 2]) store.applyMessage(message(seq));
    store.markRead(7, 2);
    store.applyConversation(conversation({ updated_at_ms: 90, name: 'old', last_seq: 1, read_seq: 0, unread: 1, last_message: message(1) }));
    const { info } = store.get(7);
    assert.deepEqual([info.name, info.last_seq, info.read_seq, info.unread, info.last_message.seq], ['new', 2, 2, 0, 2]);
  });

  it('that were left disappear, and their listeners hear of it', () => {
    const store = storeWith();
    const heard = [];
    store.subscribe((id) => heard.push([id, store.get(id) !== undefined]));
    store.applyConversation(conversation({ removed: true }));
    assert.deepEqual(heard, [[7, false]]);
    assert.equal(store.applyConversation(conversation({ removed: true })), null);
  });

  it('joined anew begin at the new first_seq', () => {
    const store = storeWith({ kind: 'group' });
    store.applyMessage(message(1));
    store.applyConversation(conversation({ kind: 'group', first_seq: 50, last_seq: 50, updated_at_ms: 200 }));
    assert.deepEqual(store.cursors(), [{ conversation_id: 7, seq: 49 }]);
  });

  it('bring a short undelivered backlog with the sync, and leave a long one until it is opened', () => {
    const store = storeWith({ last_seq: 12, delivered_seq: 10 });
    store.applyConversation(conversation({ conversation_id: 8, last_seq: 5_000, delivered_seq: 10 }));
    store.applyConversation(conversation({ conversation_id: 9, last_seq: 60, first_seq: 58, delivered_seq: 0 }));
    store.adoptBacklogs(10, 200);
    assert.deepEqual(store.cursors().sort((a, b) => a.conversation_id - b.conversation_id), [
      { conversation_id: 7, seq: 10 },
      { conversation_id: 9, seq: 57 },
    ]);
  });
});

describe('the list', () => {
  it('puts pinned ones first, the archived elsewhere, and hidden ones nowhere until they are written in', () => {
    const store = storeWith({ updated_at_ms: 90 });
    const add = (id, fields) => store.applyConversation(conversation({ conversation_id: id, updated_at_ms: id * 10, unread: 1, last_seq: 1, ...fields }));
    add(8, {});
    add(4, { pinned: true });
    add(5, { archived: true });
    add(6, { hidden: true, delivered_seq: 1 });
    add(3, { muted_until_ms: 2_000 });
    const ids = (shelf) => store.shelf(shelf).map(({ info }) => info.conversation_id);
    assert.deepEqual([ids(), ids({ archived: true })], [[4, 7, 8, 3], [5]]);
    assert.equal(store.totalUnread(1_000), 2, 'the archived, hidden and muted do not count');
    store.applyMessage(message(2, { conversation_id: 6 }));
    assert.deepEqual(ids(), [4, 6, 7, 8, 3]);
  });

  it('keeps its place and its preview when somebody reacts or edits', () => {
    const store = storeWith();
    store.applyMessage(message(1));
    store.applyMessage(message(2, { kind: 'reaction', target_seq: 1, emoji: '👍', text: '' }));
    store.applyMessage(message(3, { kind: 'edit', target_seq: 1, text: 'better' }));
    const { info } = store.get(7);
    assert.deepEqual([info.last_message.seq, info.last_message.text, info.last_seq, info.unread], [1, 'better', 3, 1]);
    assert.deepEqual(store.get(7).log.get(1).reactions, [{ emoji: '👍', user_ids: [PEER], count: 1 }]);
  });
});

describe('a place in the past', () => {
  const inPast = () => {
    const store = storeWith({ last_seq: 500, delivered_seq: 500 });
    store.applyHistory(7, { beforeSeq: 501 }, { messages: messages(451, 500), more: true });
    store.showExcerpt(7, 121, { messages: messages(71, 120), more: true });
    return store;
  };
  const shown = (store) => store.shown(7).list().map(({ seq }) => seq);

  it('is shown apart from the newest messages, which go on', () => {
    const store = inPast();
    store.applyMessage(message(501));
    assert.deepEqual([shown(store)[0], shown(store).at(-1)], [71, 120]);
    assert.deepEqual([store.get(7).log.high, store.cursors(), store.get(7).info.unread], [501, [], 1]);
    store.leaveExcerpt(7);
    assert.equal(shown(store).at(-1), 501);
  });

  it('grows both ways, and becomes one with the newest when they meet', () => {
    const store = inPast();
    store.growExcerpt(7, { beforeSeq: 71 }, { messages: messages(21, 70), more: true });
    assert.equal(shown(store)[0], 21);
    for (let from = 121; from <= 421; from += 50) store.growExcerpt(7, { afterSeq: from - 1 }, { messages: messages(from, from + 49), more: true });
    assert.equal(store.get(7).excerpt, null);
    assert.deepEqual(shown(store), messages(21, 500).map(({ seq }) => seq));
    assert.equal(store.get(7).log.atStart, false);
  });

  it('takes edits of what it shows', () => {
    const store = inPast();
    store.applyMessage(message(501, { kind: 'edit', target_seq: 100, text: 'better' }));
    assert.equal(store.shown(7).get(100).text, 'better');
  });

  it('hides what the user wants to see no more', () => {
    const store = inPast();
    store.hideMessage(7, 100);
    assert.equal(store.shown(7).get(100).marks.hidden, true);
  });
});

describe('what is to vanish', () => {
  it('does so when its time has come, and not before', () => {
    const store = storeWith();
    store.applyMessage(message(1, { marks: { expires_at_ms: 5_000 } }));
    store.applyMessage(message(2));
    store.expire(7, 4_999);
    assert.deepEqual(texts(store), ['text 1', 'text 2']);
    store.expire(7, 5_000);
    assert.deepEqual([texts(store), store.get(7).log.get(1).recalled], [['', 'text 2'], true]);
  });

  it('is known of one’s own sends', () => {
    const store = storeWith();
    store.addPending(7, { client_id: 'a', text: 'a', created_at_ms: 1, expires_in_seconds: 2 });
    store.applySent(7, sent(1, 'a'));
    assert.equal(store.get(7).log.get(1).marks.expires_at_ms, 7_000);
  });
});

describe('cursors and ticks', () => {
  it('are confirmed once', () => {
    const store = storeWith();
    for (const seq of [1, 2]) store.applyMessage(message(seq));
    assert.deepEqual([store.deliverable(7), store.readable(7)], [2, 2]);
    store.markRead(7, 2);
    assert.equal(store.get(7).info.unread, 0);
    store.markAcked(7, 'delivered', 2);
    store.markAcked(7, 'read', 2);
    assert.deepEqual([store.deliverable(7), store.readable(7)], [0, 0]);
  });

  it('of an own device elsewhere clear the unread count', () => {
    const store = storeWith();
    for (const seq of [1, 2, 3]) store.applyMessage(message(seq));
    store.applyReceipt({ conversation_id: 7, user_id: ME, delivered_seq: 3, read_seq: 2 });
    assert.equal(store.get(7).info.unread, 1);
    assert.equal(store.deliverable(7), 0);
  });

  it('of the peer move the ticks forward only', () => {
    const store = storeWith();
    for (const own of messages(1, 3, { sender_id: ME })) store.applyMessage(own);
    const ticks = () => store.get(7).log.list().map((own) => tickOf(store.get(7), own).tick);
    store.applyReceipt({ conversation_id: 7, user_id: PEER, delivered_seq: 2, read_seq: 1 });
    assert.deepEqual(ticks(), ['read', 'delivered', 'sent']);
    store.applyReceipt({ conversation_id: 7, user_id: PEER, delivered_seq: 1, read_seq: 0 });
    assert.deepEqual(ticks(), ['read', 'delivered', 'sent']);
    store.applyReceipt({ conversation_id: 99, user_id: PEER, delivered_seq: 1, read_seq: 0 });
  });
});

describe('optimistic sends', () => {
  const send = (store, clientId, text = clientId) => store.addPending(7, { client_id: clientId, text, created_at_ms: 4_000 });

  it('go one at a time and in order', () => {
    const store = storeWith();
    send(store, 'a');
    send(store, 'b');
    assert.equal(store.nextToSend(7).client_id, 'a');
    store.setPending(7, 'a', { state: 'sending' });
    assert.equal(store.nextToSend(7), undefined);
    store.applySent(7, sent(1, 'a'));
    assert.deepEqual(texts(store), ['a']);
    assert.equal(store.nextToSend(7).client_id, 'b');
  });

  it('are queued again when the connection goes, before what came later', () => {
    const store = storeWith();
    send(store, 'a');
    send(store, 'b');
    store.setPending(7, 'a', { state: 'sending' });
    store.requeueAll();
    assert.equal(store.nextToSend(7).client_id, 'a');
  });

  it('become the message that a sync brings, whose answer then changes nothing', () => {
    const store = storeWith();
    send(store, 'a');
    store.applyMessage(message(1, { sender_id: ME, client_id: 'a', text: 'a' }));
    assert.equal(store.get(7).pending.length, 0);
    store.applySent(7, sent(1, 'a', { duplicate: true }));
    assert.deepEqual(texts(store), ['a']);
  });

  it('that a failure stopped let the next ones pass, and can be retried or discarded', () => {
    const store = storeWith();
    for (const name of ['a', 'b']) send(store, name);
    store.setPending(7, 'a', { state: 'failed', error: 'no' });
    assert.equal(store.nextToSend(7).client_id, 'b');
    store.setPending(7, 'a', { state: 'queued', error: '' });
    assert.equal(store.nextToSend(7).client_id, 'a');
    store.discardPending(7, 'a');
    assert.equal(store.nextToSend(7).client_id, 'b');
  });

  it('are bounded', () => {
    const store = storeWith();
    for (let at = 0; at < PENDING_LIMIT; at += 1) assert.equal(send(store, `c${at}`), true);
    assert.equal(send(store, 'one too many'), false);
  });

  it('outlive a reload under their client_ids', () => {
    const store = storeWith();
    for (const name of ['a', 'b']) send(store, name);
    store.setPending(7, 'a', { state: 'sending' });
    store.setPending(7, 'b', { state: 'failed', error: 'no' });
    const later = storeWith();
    later.importPending(JSON.parse(JSON.stringify(store.exportPending())));
    assert.deepEqual(later.get(7).pending.map(({ client_id: id, state }) => [id, state]), [['a', 'queued'], ['b', 'failed']]);
    assert.deepEqual(new Store(ME).importPending(store.exportPending()), [false, false]);
  });
});
