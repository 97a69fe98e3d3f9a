// Contacts, members, what is worth a notification, and the table of rights.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { Contacts } from '../../src/gateway/web/assets/js/contacts.js';
import { Members } from '../../src/gateway/web/assets/js/members.js';
import { isWorthTelling } from '../../src/gateway/web/assets/js/notifier.js';
import { Pins } from '../../src/gateway/web/assets/js/pins.js';
import { ACTS, may, outranks, whyNotWrite } from '../../src/gateway/web/assets/js/rights.js';
import { tickOf } from '../../src/gateway/web/assets/js/conversation.js';
import { ME, PEER, conversation, message, storeWith } from './support.mjs';

const users = { put: () => {}, name: (id) => `User ${id}` };

describe('contacts', () => {
  const list = (items, next = '') => ({ items, next_cursor: next });

  it('are read page by page, with whom the user has blocked', async () => {
    const pages = { '': list([{ user_id: 2, state: 'friend' }], 'more'), more: list([{ user_id: 3, state: 'invited', message: 'hi' }]) };
    const all = new Contacts({ api: { contacts: async (cursor) => pages[cursor], blocks: async () => list([{ user_id: 4 }]) }, users, onChange: () => {} });
    await all.load();
    assert.deepEqual([2, 3, 4, 5].map((id) => all.state(id)), ['friend', 'invited', 'blocked', 'none']);
    assert.deepEqual(all.friends(), [2]);
  });

  it('stay as they are when they cannot be read', async () => {
    const all = new Contacts({ api: { contacts: async () => Promise.reject(new Error('no')), blocks: async () => list([]) }, users, onChange: () => {} });
    all.apply({ user_id: 2, state: 'friend' });
    await all.load();
    assert.equal(all.state(2), 'friend');
  });

  it('follow their events', () => {
    const all = new Contacts({ api: {}, users, onChange: () => {} });
    for (const [state, seen] of [['invited', 'invited'], ['friend', 'friend'], ['blocked', 'blocked'], ['removed', 'none']]) {
      all.apply({ user_id: 2, state });
      assert.equal(all.state(2), seen);
    }
  });
});

describe('members', () => {
  const member = (id, fields = {}) => ({ user_id: id, username: `u${id}`, role: 'member', delivered_seq: 0, read_seq: 0, ...fields });

  function group(fields, pages) {
    const store = storeWith({ kind: 'group', member_count: 3, ...fields });
    const asked = [];
    const api = {
      members: async (id, cursor) => {
        asked.push(cursor);
        return pages[cursor];
      },
    };
    return { store, asked, all: new Members({ api, users, store, onChange: () => {} }) };
  }

  it('of a small group are read whole, and only when the group has changed', async () => {
    const { all, store, asked } = group({}, { '': { items: [member(1), member(2)], next_cursor: 'x' }, x: { items: [member(3)], next_cursor: '' } });
    await all.review(7);
    assert.equal(all.review(7), undefined);
    assert.deepEqual([asked, all.of(7).items.length, all.get(7, 3).username], [['', 'x'], 3, 'u3']);
    store.applyConversation(conversation({ kind: 'group', member_count: 2, updated_at_ms: 200 }));
    await all.review(7);
    assert.equal(asked.length, 4);
  });

  it('of a large group are read a page at a time', async () => {
    const { all, asked } = group({ member_count: 5_000 }, { '': { items: [member(1)], next_cursor: 'x' }, x: { items: [member(2)], next_cursor: 'y' } });
    await all.review(7);
    assert.deepEqual(asked, ['']);
    await all.more(7);
    assert.deepEqual([asked, all.of(7).items.length, all.of(7).cursor], [['', 'x'], 2, 'y']);
  });

  it('tell how far each has come, and receipts move that on', async () => {
    const { all, store } = group({}, { '': { items: [member(ME), member(PEER, { read_seq: 1, delivered_seq: 1 }), member(3)], next_cursor: '' } });
    for (const seq of [1, 2]) store.applyMessage(message(seq, { sender_id: ME }));
    await all.review(7);
    const ticks = () => [1, 2].map((seq) => Object.values(tickOf(store.get(7), store.get(7).log.get(seq))));
    assert.deepEqual(ticks(), [['delivered', 1], ['sent', 0]]);
    store.applyReceipt({ conversation_id: 7, user_id: 3, delivered_seq: 2, read_seq: 1 });
    assert.deepEqual(ticks(), [['read', 2], ['delivered', 0]]);
    store.applyReceipt({ conversation_id: 7, user_id: 3, delivered_seq: 1, read_seq: 0 });
    assert.deepEqual(ticks(), [['read', 2], ['delivered', 0]]);
  });
});

describe('the pins of a conversation', () => {
  it('are those that were asked for last, whichever answer comes first', async () => {
    const answers = [];
    const pins = new Pins({ api: { pins: () => new Promise((resolve) => answers.push(resolve)) }, onChange: () => {} });
    const before = pins.load(7);
    const after = pins.load(7);
    answers[1]({ items: [message(3)] });
    await after;
    answers[0]({ items: [] });
    await before;
    assert.equal(pins.has(7, 3), true);
  });
});

describe('a message is worth telling', () => {
  const tells = (info, fields = {}) => isWorthTelling(conversation(info), message(1, fields), ME, 1_000);

  it('unless its conversation is muted, or it is no message to anybody', () => {
    assert.equal(tells({}), true);
    assert.equal(tells({ muted_until_ms: 1_001 }), false);
    assert.equal(tells({ muted_until_ms: 999 }), true);
    assert.equal(tells({ notifications: 'none' }, { mentions: [ME] }), false);
    for (const fields of [{ sender_id: ME }, { kind: 'system' }, { kind: 'reaction' }, { kind: 'edit' }]) assert.equal(tells({}, fields), false);
  });

  it('to one who wants mentions only, when it names the user or everybody', () => {
    const info = { notifications: 'mentions' };
    assert.deepEqual([tells(info), tells(info, { mentions: [PEER] }), tells(info, { mentions: [ME] }), tells(info, { mentions: [0] })], [false, false, true, true]);
  });
});

describe('rights', () => {
  it('are the server’s', async () => {
    const source = await readFile(new URL('../../src/domain/permissions.rs', import.meta.url), 'utf8');
    const table = Object.fromEntries([...source.matchAll(/\(Act::(\w+), MemberRole::(\w+)\)/g)].map(([, act, role]) => [act, role.toLowerCase()]));
    assert.ok(Object.keys(table).length > 10, 'the table was found');
    for (const [act, { name, lowest }] of Object.entries(ACTS)) assert.equal(lowest, table[name], act);
  });

  it('grow with the role, and in a direct conversation both are equal', () => {
    const by = (role, act) => may({ kind: 'group', role }, act);
    assert.deepEqual(['member', 'admin', 'owner'].map((role) => [by(role, 'write'), by(role, 'changeRoom'), by(role, 'dissolve')]), [
      [true, false, false], [true, true, false], [true, true, true],
    ]);
    assert.deepEqual([may({ kind: 'direct', role: 'member' }, 'pin'), may({ kind: 'direct', role: 'member' }, 'addMembers')], [true, false]);
    assert.deepEqual([outranks('admin', 'member'), outranks('admin', 'admin'), outranks('owner', 'admin')], [true, false, true]);
  });

  it('say why one cannot write', () => {
    const why = (fields) => whyNotWrite({ kind: 'group', role: 'member', ...fields }, 1_000);
    assert.equal(why({}), '');
    for (const fields of [{ read_only: true }, { silence_all: true }, { silenced_until_ms: 1_001 }]) {
      assert.notEqual(why(fields), '');
      assert.equal(whyNotWrite({ kind: 'group', role: 'admin', ...fields }, 1_000), '');
    }
    assert.equal(why({ silenced_until_ms: 999 }), '');
  });
});
