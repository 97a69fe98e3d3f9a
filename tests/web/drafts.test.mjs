import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Drafts, SAVE_PAUSE_MS } from '../../src/gateway/web/assets/js/drafts.js';
import { FakeClock, conversation, settle, storeWith } from './support.mjs';

function drafts() {
  const clock = new FakeClock();
  const store = storeWith();
  const asked = [];
  const api = {
    failing: false,
    saveDraft: async (id, draft) => {
      asked.push(draft);
      if (api.failing) throw new Error('no');
    },
    discardDraft: async () => asked.push('discarded'),
  };
  return { clock, store, asked, api, all: new Drafts({ api, store, clock }) };
}
const fromServer = (store, draft, updatedAtMs) => store.applyConversation(conversation({ updated_at_ms: updatedAtMs, ...(draft ? { draft } : {}) }));

describe('drafts', () => {
  it('are saved once the user pauses, and only what has changed', async () => {
    const { all, clock, asked } = drafts();
    for (const text of ['h', 'ha', 'hal']) all.set(7, text);
    await clock.advance(SAVE_PAUSE_MS);
    assert.deepEqual(asked, [{ text: 'hal', reply_to_seq: 0 }]);
    all.set(7, 'hal');
    await clock.advance(SAVE_PAUSE_MS);
    assert.equal(asked.length, 1);
    assert.equal(all.get(7).text, 'hal');
  });

  it('of another device are taken, but never over words that are not saved yet', async () => {
    const { all, store, clock } = drafts();
    fromServer(store, { text: 'theirs', reply_to_seq: 3, updated_at_ms: 200 }, 200);
    assert.deepEqual([all.get(7).text, all.get(7).reply_to_seq], ['theirs', 3]);
    all.set(7, 'mine');
    fromServer(store, { text: 'theirs again', reply_to_seq: 0, updated_at_ms: 300 }, 300);
    assert.equal(all.get(7).text, 'mine');
    await clock.advance(SAVE_PAUSE_MS);
    assert.equal(all.get(7).text, 'mine');
    fromServer(store, { text: 'newest', reply_to_seq: 0, updated_at_ms: 400 }, 400);
    assert.equal(all.get(7).text, 'newest');
  });

  it('that another device has sent are gone here too', async () => {
    const { all, store, clock } = drafts();
    all.set(7, 'mine');
    await clock.advance(SAVE_PAUSE_MS);
    fromServer(store, { text: 'mine', reply_to_seq: 0, updated_at_ms: 200 }, 200);
    assert.equal(all.get(7).text, 'mine');
    fromServer(store, null, 300);
    assert.equal(all.get(7).text, '');
  });

  it('that were sent do not come back with an echo of before', async () => {
    const { all, store, asked } = drafts();
    fromServer(store, { text: 'mine', reply_to_seq: 0, updated_at_ms: 200 }, 200);
    all.clear(7);
    assert.equal(all.get(7).text, '');
    await settle();
    fromServer(store, { text: 'mine', reply_to_seq: 0, updated_at_ms: 200 }, 250);
    assert.deepEqual([all.get(7).text, asked], ['', ['discarded']]);
  });

  it('written on while they are saved keep what was added', async () => {
    const { all, clock, api } = drafts();
    let answer;
    api.saveDraft = () => new Promise((resolve) => (answer = resolve));
    all.set(7, 'mine');
    await clock.advance(SAVE_PAUSE_MS);
    all.set(7, 'mine and more');
    answer();
    await settle();
    assert.deepEqual([all.get(7).text, all.isUnsaved(7)], ['mine and more', true]);
  });

  it('that could not be saved stay here', async () => {
    const { all, clock, api, asked } = drafts();
    api.failing = true;
    all.set(7, 'mine');
    await clock.advance(SAVE_PAUSE_MS);
    assert.deepEqual([all.get(7).text, all.isUnsaved(7)], ['mine', true]);
    api.failing = false;
    all.set(7, 'mine too');
    await clock.advance(SAVE_PAUSE_MS);
    assert.deepEqual([asked.length, all.isUnsaved(7)], [2, false]);
  });
});
