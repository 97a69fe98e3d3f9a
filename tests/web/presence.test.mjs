import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { RequestError } from '../../src/gateway/web/assets/js/connection.js';
import { Presence, TYPING_MS, Typing, WATCH_MAX } from '../../src/gateway/web/assets/js/presence.js';
import { FakeClock, ME, PEER, settle } from './support.mjs';

function connection() {
  const asked = [];
  return {
    asked,
    online: true,
    request: async (name, body) => {
      asked.push([name, body]);
      return { users: (body.user_ids ?? []).map((id) => ({ user_id: id, status: 'online', text: '', last_seen_ms: 0 })) };
    },
  };
}

describe('presence', () => {
  function presence(wanted) {
    const clock = new FakeClock();
    const link = connection();
    const heard = { changes: 0 };
    const all = new Presence({ connection: link, wanted, clock, onChange: () => (heard.changes += 1) });
    return { all, clock, link, heard };
  }

  it('watches whom it is told to, once for many wishes, and not again for the same', async () => {
    let ids = [3, 2, 2, 0];
    const { all, clock, link } = presence(() => ids);
    all.review();
    all.review();
    await clock.advance(1_000);
    assert.deepEqual(link.asked, [['watch_presence', { user_ids: [2, 3] }]]);
    assert.equal(all.get(2).status, 'online');
    all.review();
    await clock.advance(1_000);
    assert.equal(link.asked.length, 1);
    ids = [2];
    all.review();
    await clock.advance(1_000);
    assert.deepEqual(link.asked[1], ['watch_presence', { user_ids: [2] }]);
  });

  it('watches anew on a new connection, and knows nobody while there is none', async () => {
    const { all, clock, link } = presence(() => [2]);
    all.review();
    await clock.advance(1_000);
    link.online = false;
    all.onDown();
    assert.equal(all.get(2), undefined);
    link.online = true;
    all.onWelcome();
    await clock.advance(1_000);
    assert.equal(link.asked.length, 2);
    assert.equal(all.get(2).status, 'online');
  });

  it('asks again after a pause when it could not watch', async () => {
    const { all, clock, link } = presence(() => [2]);
    const { request } = link;
    const refused = [];
    link.request = async (name) => {
      refused.push(name);
      throw new RequestError({ code: 'unavailable', message: 'later', retry_after_ms: 700 });
    };
    all.review();
    await clock.advance(20_000);
    assert.ok(refused.length >= 3 && refused.length <= 10, `asked ${refused.length} times`);
    link.request = request;
    await clock.advance(31_000);
    assert.deepEqual([link.asked.length, all.get(2)?.status], [1, 'online']);
    link.request = async () => {
      throw new RequestError({ code: 'invalid_argument', message: 'no' });
    };
    all.onWelcome();
    await clock.advance(120_000);
    assert.equal(clock.timers.size, 0, 'what was refused for good is not repeated');
  });

  it('keeps to the protocol’s bound', async () => {
    const { all, clock, link } = presence(() => Array.from({ length: WATCH_MAX + 50 }, (_, at) => at + 1));
    all.review();
    await clock.advance(1_000);
    assert.equal(link.asked[0][1].user_ids.length, WATCH_MAX);
  });
});

describe('typing', () => {
  function typing() {
    const clock = new FakeClock();
    const link = connection();
    const all = new Typing({ connection: link, userId: ME, onChange: () => {}, clock });
    const said = () => link.asked.map(([, { conversation_id: id, active }]) => [id, active]);
    return { all, clock, said };
  }

  it('of others ends by itself, by their word, and with their connection', async () => {
    const { all, clock } = typing();
    const active = { conversation_id: 7, user_id: PEER, active: true };
    all.apply(active);
    await clock.advance(TYPING_MS - 1);
    all.apply(active);
    await clock.advance(TYPING_MS - 1);
    assert.deepEqual(all.in(7), [PEER], 'said again, it lasts longer');
    await clock.advance(1);
    assert.deepEqual(all.in(7), []);
    all.apply(active);
    all.apply({ ...active, active: false });
    assert.deepEqual(all.in(7), []);
    all.apply({ ...active, user_id: ME });
    assert.deepEqual(all.in(7), [], 'one’s own other devices are no news');
    all.apply(active);
    all.onDown();
    assert.deepEqual(all.in(7), []);
  });

  it('of one’s own is said now and then, and its end once', async () => {
    const { all, clock, said } = typing();
    for (let keys = 0; keys < 10; keys += 1) {
      all.touched(7, true);
      await clock.advance(500);
    }
    assert.deepEqual(said(), [[7, true], [7, true]]);
    await clock.advance(60_000);
    assert.deepEqual(said().slice(2), [[7, false]]);
    await settle();
  });

  it('ends where the user goes on elsewhere or empties the field, and quietly with the message', () => {
    const { all, said } = typing();
    all.touched(7, true);
    all.touched(8, true);
    all.touched(8, false);
    assert.deepEqual(said(), [[7, true], [7, false], [8, true], [8, false]]);
    all.touched(8, true);
    all.rest({ quietly: true });
    all.rest();
    assert.deepEqual(said().slice(4), [[8, true]]);
  });
});
