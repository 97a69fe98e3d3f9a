import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { agoOf, presenceText, systemText, untilOf } from '../../src/gateway/web/assets/js/format.js';
import { message } from './support.mjs';

const users = { name: (id) => ({ 1: 'Ann', 2: 'Bob' })[id] ?? `User ${id}` };
const system = (text, mentions) => systemText(message(1, { kind: 'system', sender_id: 1, text, mentions }), users);

describe('a change of a group', () => {
  it('is told with the names of those it is about', () => {
    assert.equal(system('joined the group', [1]), 'Ann joined the group');
    assert.equal(system('created the group Garden', [2]), 'Ann created the group Garden with Bob');
    assert.equal(system('added 2 members to the group', [2, 3]), 'Ann added Bob, User 3 to the group');
    assert.equal(system('removed a member from the group', [2]), 'Ann removed Bob from the group');
    assert.equal(system('handed the group over', [2]), 'Ann handed the group over: Bob');
  });

  it('names a few of many', () => {
    const ids = Array.from({ length: 50 }, (_, at) => at + 10);
    assert.match(system('added 50 members to the group', ids), /User 14 and 45 more to the group$/);
  });

  it('is not led astray by a name that looks like a pattern', () => {
    const odd = { name: (id) => (id === 1 ? 'Ann' : '$&$1') };
    assert.equal(systemText(message(1, { kind: 'system', sender_id: 1, text: 'removed a member', mentions: [2] }), odd), 'Ann removed $&$1');
  });
});

describe('how somebody is', () => {
  const now = new Date(2026, 4, 5, 15, 0).getTime();

  it('says what is known, and nothing else', () => {
    assert.equal(presenceText(undefined, now), '');
    assert.equal(presenceText({ status: 'busy', text: 'in a meeting', last_seen_ms: now }, now), 'busy · in a meeting');
    assert.equal(presenceText({ status: 'offline', text: '', last_seen_ms: 0 }, now), 'offline');
    assert.equal(presenceText({ status: 'offline', text: '', last_seen_ms: now - 60_000 }, now), 'last seen 1 minute ago');
  });

  it('counts minutes, then says the day', () => {
    assert.deepEqual([0, 59_000, 120_000].map((ms) => agoOf(now - ms, now)), ['just now', 'just now', '2 minutes ago']);
    assert.match(agoOf(now - 3 * 3_600_000, now), /^today at /);
    assert.match(agoOf(now - 20 * 3_600_000, now), /^Yesterday, /);
  });

  it('knows for ever from until', () => {
    assert.equal(untilOf(Number.MAX_SAFE_INTEGER, now), 'until it is taken back');
    assert.match(untilOf(now + 60_000, now), /^until \d/);
  });
});
