import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { BACKOFF_MAX_MS, BACKOFF_MIN_MS, Connection, REQUEST_TIMEOUT_MS, backoffMs } from '../../src/gateway/web/assets/js/connection.js';
import { FakeClock, fakeSockets, settle } from './support.mjs';

function connect() {
  const clock = new FakeClock();
  const { Socket, sockets } = fakeSockets();
  const heard = { events: [], states: [], signedOut: [], welcomes: 0, downs: 0 };
  const connection = new Connection({
    url: 'ws://here/ws',
    addressUrl: (address) => `ws://${address}/ws`,
    token: 'secret',
    callbacks: {
      onWelcome: () => (heard.welcomes += 1),
      onEvent: (name, body) => heard.events.push([name, body]),
      onDown: () => (heard.downs += 1),
      onState: ({ phase }) => heard.states.push(phase),
      onSignedOut: (text) => heard.signedOut.push(text),
    },
    Socket,
    clock,
    random: () => 0.5,
  });
  connection.start();
  return { connection, clock, sockets, heard };
}

describe('a connection', () => {
  it('says hello, then passes answers to their askers and events on', async () => {
    const { connection, sockets: [socket], heard } = connect();
    await socket.welcome();
    assert.deepEqual(socket.sent[0].hello, { token: 'secret' });
    assert.deepEqual([connection.state.phase, connection.state.node, heard.welcomes], ['online', 'n1', 1]);
    const first = assert.rejects(connection.request('read', { seq: 1 }), { code: 'not_found', retryable: false });
    const second = connection.request('history', { before_seq: 9 });
    await socket.answer('history', { history_page: { messages: [], more: true } });
    await socket.answer('read', { error: { code: 'not_found', message: 'no', retry_after_ms: 0, field: '' } });
    assert.equal((await second).more, true);
    await first;
    socket.say({ typing: { user_id: 2 } });
    socket.onmessage({ data: 'not json' });
    socket.onmessage({ data: 'null' });
    socket.say({ reply_to: 999, ok: {} });
    assert.deepEqual(heard.events, [['typing', { user_id: 2 }]]);
  });

  it('fails what is unanswered when it is lost, and returns after growing pauses', async () => {
    const { connection, clock, sockets, heard } = connect();
    await sockets[0].welcome();
    const request = connection.request('send', {});
    sockets[0].end();
    await assert.rejects(request, { code: 'disconnected', retryable: true });
    assert.deepEqual([connection.state.phase, heard.downs], ['waiting', 1]);
    for (let attempt = 0; attempt < 5; attempt += 1) {
      await clock.advance(backoffMs(attempt, () => 0.5) - 1);
      assert.equal(sockets.length, attempt + 1);
      await clock.advance(1);
      assert.equal(sockets.length, attempt + 2);
      sockets.at(-1).end();
    }
    await assert.rejects(connection.request('send', {}), { code: 'disconnected' });
    connection.retryNow();
    assert.equal(sockets.length, 7);
  });

  it('pauses between bounds, with chance', () => {
    assert.equal(backoffMs(0, () => 0), BACKOFF_MIN_MS / 2);
    assert.equal(backoffMs(60, () => 1), BACKOFF_MAX_MS);
    assert.notEqual(backoffMs(5, () => 0.1), backoffMs(5, () => 0.9));
  });

  it('gives a request up after its time', async () => {
    const { connection, clock, sockets: [socket] } = connect();
    await socket.welcome();
    const request = assert.rejects(connection.request('send', {}), { code: 'deadline_exceeded', retryable: true });
    await clock.advance(REQUEST_TIMEOUT_MS);
    await request;
    assert.equal(connection.state.phase, 'online');
  });

  it('pings at the server’s interval, and leaves when nothing is heard for 2.5 of them', async () => {
    const { connection, clock, sockets: [socket] } = connect();
    await socket.welcome({ heartbeat_ms: 10_000 });
    await clock.advance(10_000);
    await socket.answer('ping', { pong: {} });
    await clock.advance(20_000);
    assert.equal(connection.state.phase, 'online');
    await clock.advance(10_000);
    assert.equal(connection.state.phase, 'waiting');
    assert.equal(socket.closed, true);
    assert.equal(socket.sent.filter((frame) => frame.ping).length, 3);
  });

  it('does not take its own sleep for the server’s silence', async () => {
    const { connection, clock, sockets: [socket] } = connect();
    await socket.welcome({ heartbeat_ms: 10_000 });
    clock.ms += 3_600_000;
    await clock.advance(0);
    assert.equal(connection.state.phase, 'online');
    assert.ok(socket.asked('ping'));
  });

  it('ends for good when its token is refused', async () => {
    const { connection, clock, sockets, heard } = connect();
    sockets[0].open();
    await settle();
    await sockets[0].answer('hello', { error: { code: 'unauthenticated', message: 'sign in again' } });
    await clock.advance(120_000);
    assert.deepEqual([connection.state.phase, heard.signedOut, sockets.length], ['stopped', ['sign in again'], 1]);
  });

  it('waits as long as a busy server asks', async () => {
    const { clock, sockets } = connect();
    sockets[0].open();
    await settle();
    await sockets[0].answer('hello', { error: { code: 'unavailable', message: 'later', retry_after_ms: 20_000 } });
    await clock.advance(19_999);
    assert.equal(sockets.length, 1);
    await clock.advance(1);
    assert.equal(sockets.length, 2);
  });

  it('gives a silent server up at hello', async () => {
    const { connection, clock, sockets } = connect();
    sockets[0].open();
    await clock.advance(10_000);
    assert.deepEqual([connection.state.phase, sockets[0].closed], ['waiting', true]);
  });

  it('does not fight a second window for the device', async () => {
    const { connection, clock, sockets: all } = connect();
    await all[0].welcome();
    all[0].end(4409);
    await clock.advance(600_000);
    assert.deepEqual([connection.state.phase, all.length], ['replaced', 1]);
    connection.start();
    assert.equal(all.length, 2);
  });

  it('after go_away waits for what is in flight, then moves to the address named', async () => {
    const { connection, clock, sockets } = connect();
    await sockets[0].welcome();
    const inFlight = connection.request('send', { text: 'last' });
    sockets[0].say({ go_away: { reason: 'drain', retry_after_ms: 1_000, address: '127.0.0.1:8082' } });
    assert.equal(connection.online, false);
    await assert.rejects(connection.request('send', {}), { code: 'disconnected' });
    assert.equal(sockets[0].closed, false);
    await sockets[0].answer('send', { sent: { seq: 4 } });
    assert.equal((await inFlight).seq, 4);
    assert.equal(sockets[0].closed, true);
    await clock.advance(999);
    assert.equal(sockets.length, 1);
    await clock.advance(500);
    assert.equal(sockets[1].url, 'ws://127.0.0.1:8082/ws');
  });

  it('tries its origin and the address of go_away in turn', async () => {
    const { clock, sockets } = connect();
    await sockets[0].welcome();
    sockets[0].say({ go_away: { reason: 'drain', retry_after_ms: 0, address: 'other:1' } });
    for (const expected of ['ws://other:1/ws', 'ws://here/ws', 'ws://other:1/ws']) {
      await clock.advance(2_000);
      assert.equal(sockets.at(-1).url, expected);
      sockets.at(-1).end();
    }
  });

  it('says at which address it is when that is not its origin', async () => {
    const { connection, clock, sockets } = connect();
    await sockets[0].welcome();
    assert.equal(connection.state.address, '');
    sockets[0].say({ go_away: { reason: 'drain', retry_after_ms: 0, address: 'other:1' } });
    await clock.advance(2_000);
    await sockets[1].welcome();
    assert.deepEqual([connection.state.phase, connection.state.address], ['online', 'other:1']);
  });

  it('refuses by itself what the server would close it for', async () => {
    const { connection, sockets: [socket] } = connect();
    await socket.welcome({ max_frame_bytes: 200 });
    await assert.rejects(connection.request('send', { text: 'ü'.repeat(120) }), { code: 'invalid_argument', retryable: false });
    assert.equal(socket.asked('send'), undefined);
  });
});
