import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { MessageLog } from '../../src/gateway/web/assets/js/log.js';
import { message, messages } from './support.mjs';

describe('a log', () => {
  it('knows the range of its first page, and extends it backwards to the start', () => {
    const log = new MessageLog();
    log.coverBefore(messages(51, 100), Number.MAX_SAFE_INTEGER, true);
    assert.deepEqual([log.low, log.high, log.atStart], [51, 100, false]);
    log.coverBefore(messages(1, 50), 51, false);
    assert.deepEqual([log.low, log.high, log.atStart], [1, 100, true]);
    assert.equal(log.list().length, 100);
  });

  it('holds what comes after a jump, and closes the gap when it is filled', () => {
    const log = new MessageLog();
    log.coverBefore(messages(1, 3), Number.MAX_SAFE_INTEGER, false);
    assert.equal(log.put(message(6)), true);
    assert.deepEqual([log.high, log.hasGap(3)], [3, true]);
    log.coverAfter(messages(4, 5), 3);
    assert.deepEqual([log.high, log.hasGap(6)], [6, false]);
  });

  it('drops what it has, also inside of a gap', () => {
    const log = new MessageLog();
    log.beginAfter(0);
    assert.deepEqual([1, 1, 3, 3, 2, 2].map((seq) => log.put(message(seq))), [true, false, true, false, true, false]);
    assert.deepEqual(log.seqs(), [1, 2, 3]);
  });

  it('takes seqs that the server skips in a page for no gap', () => {
    const log = new MessageLog();
    log.beginAfter(4);
    log.put(message(9));
    log.coverAfter([message(5), message(7), message(8)], 4);
    assert.deepEqual([log.high, log.hasGap(9)], [9, false]);
  });

  it('ignores a stale page about what it does not yet reach', () => {
    const log = new MessageLog();
    log.beginAfter(2);
    log.coverAfter(messages(11, 12), 10);
    assert.deepEqual([log.high, log.hasGap(12)], [2, true]);
  });

  it('remembers a gap that was given up', () => {
    const log = new MessageLog();
    log.beginAfter(2);
    log.put(message(6));
    log.giveUpGap(6);
    assert.deepEqual([log.high, log.hasGap(6), [...log.holes]], [6, false, [2]]);
  });

  it('drops its oldest messages and can load them again', () => {
    const log = new MessageLog();
    log.coverBefore(messages(1, 20), Number.MAX_SAFE_INTEGER, false);
    log.trim(5);
    assert.deepEqual([log.low, log.high, log.atStart, log.seqs().length], [16, 20, false, 5]);
    assert.equal(log.put(message(3)), false);
    log.coverBefore(messages(1, 15), 16, false);
    assert.equal(log.list().length, 20);
  });

  it('gives way to a newer page that it does not touch, and keeps what is newer than an older one', () => {
    const log = new MessageLog();
    log.beginAfter(100);
    log.coverBefore(messages(251, 300), Number.MAX_SAFE_INTEGER, true);
    assert.deepEqual([log.low, log.high, log.has(150), log.has(260)], [251, 300, false, true]);
    log.coverBefore(messages(60, 130), 131, false);
    assert.deepEqual([log.low, log.high, log.has(150), log.get(60), log.atStart], [251, 300, false, undefined, false]);
    // 249 and 250 were never written, as the page that ends before 251 shows.
    log.coverBefore(messages(200, 248), 251, true);
    assert.deepEqual([log.low, log.high, log.list().length], [200, 300, 99]);
    log.coverBefore(messages(210, 220), 221, true);
    log.coverBefore(messages(290, 301), Number.MAX_SAFE_INTEGER, true);
    assert.deepEqual([log.low, log.high], [200, 301]);
  });

  it('is empty and complete for a conversation without messages', () => {
    const log = new MessageLog();
    log.coverBefore([], Number.MAX_SAFE_INTEGER, false);
    assert.deepEqual([log.loaded, log.hasGap(0), log.atStart], [true, false, true]);
    log.put(message(1));
    assert.equal(log.high, 1);
  });
});
