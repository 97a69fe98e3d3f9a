// Edits, recalls and reactions: what they make of their target, and that they are asked for until they are answered.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { CHANGE_ATTEMPTS, Changes } from '../../src/gateway/web/assets/js/changes.js';
import { RequestError } from '../../src/gateway/web/assets/js/connection.js';
import { changed, countOf } from '../../src/gateway/web/assets/js/targets.js';
import { ME, PEER, message, storeWith } from './support.mjs';

const reaction = (emoji, fields = {}) => ({ kind: 'reaction', emoji, sender_id: PEER, recalled: false, ...fields });
const held = (target) => target.reactions.map(({ emoji, user_ids: ids }) => [emoji, ids]);

describe('a message', () => {
  it('takes the text of an edit and says when', () => {
    const after = changed(message(1), { kind: 'edit', text: 'better', created_at_ms: 77 });
    assert.deepEqual([after.text, after.edited_at_ms], ['better', 77]);
  });

  it('is empty once recalled, and stays so', () => {
    const gone = changed(message(1, { reactions: [{ emoji: '👍', user_ids: [PEER] }] }), { kind: 'recall' });
    assert.deepEqual([gone.text, gone.recalled, gone.reactions], ['', true, []]);
    assert.equal(changed(gone, { kind: 'edit', text: 'back', created_at_ms: 1 }), gone);
    assert.equal(changed(gone, reaction('👍')), gone);
  });

  it('counts each user once for an emoji, in the order in which the emoji came', () => {
    let target = message(1);
    for (const change of [reaction('👍'), reaction('🎉'), reaction('👍', { sender_id: ME }), reaction('👍')]) target = changed(target, change);
    assert.deepEqual(held(target), [['👍', [ME, PEER]], ['🎉', [PEER]]]);
    assert.deepEqual(target.reactions.map(countOf), [2, 1]);
  });

  it('loses a reaction that is taken off, and the emoji with its last one', () => {
    let target = message(1, { reactions: [{ emoji: '👍', user_ids: [ME, PEER], count: 2 }] });
    target = changed(target, reaction('👍', { recalled: true }));
    assert.deepEqual([held(target), target.reactions.map(countOf)], [[['👍', [ME]]], [1]]);
    target = changed(target, reaction('👍', { recalled: true }));
    assert.deepEqual(held(target), [['👍', [ME]]], 'taken off twice is taken off once');
    assert.deepEqual(changed(target, reaction('👍', { sender_id: ME, recalled: true })).reactions, []);
  });

  it('counts more than it names', () => {
    const target = message(1, { reactions: [{ emoji: '👍', user_ids: [PEER], count: 500 }] });
    assert.deepEqual(changed(target, reaction('👍', { sender_id: ME })).reactions.map(countOf), [501]);
    assert.deepEqual(changed(target, reaction('👍', { sender_id: 99, recalled: true })).reactions.map(countOf), [499]);
  });
});

describe('changes', () => {
  /** Answers the requests one after the other; a function throws. */
  function changes(...answers) {
    const store = storeWith();
    store.applyMessage(message(1, { sender_id: ME }));
    const asked = [];
    const connection = {
      request: async (name, body) => {
        asked.push([name, body]);
        const answer = answers.length > 1 ? answers.shift() : answers[0];
        if (answer instanceof Error) throw answer;
        return answer;
      },
    };
    let ids = 0;
    const wait = async () => {};
    return { store, asked, changes: new Changes({ store, connection, newId: () => `id${(ids += 1)}`, wait, random: () => 0 }) };
  }
  const lost = new RequestError({ code: 'disconnected', message: 'gone' });

  it('that got no answer are asked for again under the same client_id, and then seen here too', async () => {
    const { store, asked, changes: all } = changes(lost, lost, { seq: 2, created_at_ms: 9 });
    await all.edit(7, 1, 'better');
    assert.deepEqual(asked.map(([name, body]) => [name, body.client_id, body.target_seq, body.text]), Array(3).fill(['edit', 'id1', 1, 'better']));
    assert.deepEqual([store.get(7).log.get(1).text, store.get(7).info.last_seq, store.get(7).info.unread], ['better', 2, 0]);
  });

  it('that are refused change nothing', async () => {
    const { store, asked, changes: all } = changes(new RequestError({ code: 'failed_precondition', message: 'too late' }));
    await assert.rejects(all.recall(7, 1), { message: 'too late' });
    assert.deepEqual([asked.length, store.get(7).log.get(1).recalled], [1, false]);
  });

  it('are given up after some tries', async () => {
    const { asked, changes: all } = changes(lost);
    await assert.rejects(all.react(7, 1, '👍', false), { code: 'disconnected' });
    assert.equal(asked.length, CHANGE_ATTEMPTS);
  });

  it('put a reaction on and take it off', async () => {
    const { store, changes: all } = changes({ seq: 2, created_at_ms: 9 }, { seq: 3, created_at_ms: 9 });
    await all.react(7, 1, '👍', false);
    assert.deepEqual(held(store.get(7).log.get(1)), [['👍', [ME]]]);
    await all.react(7, 1, '👍', true);
    assert.deepEqual(held(store.get(7).log.get(1)), []);
  });
});
