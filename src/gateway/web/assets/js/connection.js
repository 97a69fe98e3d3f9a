// One WebSocket to a node, kept up: hello, request and reply by number, heartbeat, reconnect with exponential
// back-off and jitter, go_away. It knows frames, not what they mean. The clock, the dice and the socket's class are
// handed in, so that tests/web can drive it without a network.

/** No answer for this long: the request counts as unanswered. */
export const REQUEST_TIMEOUT_MS = 10_000;
/** Dialling and hello together may take this long. */
export const HELLO_TIMEOUT_MS = 10_000;
/** First and longest pause between attempts; each doubles the one before. */
export const BACKOFF_MIN_MS = 500;
export const BACKOFF_MAX_MS = 30_000;
/** The most requests without an answer on one connection. */
export const IN_FLIGHT_LIMIT = 256;
/** After go_away, sends in flight have this long to be answered on the old connection. */
const GO_AWAY_GRACE_MS = 2_000;
/** A connection that lived this long was a good one: the back-off starts anew. */
const STABLE_MS = 5_000;

const CLOSE_NOT_SIGNED_IN = 4401;
const CLOSE_REPLACED = 4409;

/** Why a request has no answer to show: the server's `error`, or one of our own with the same codes. */
export class RequestError extends Error {
  constructor({ code, message, retry_after_ms: retryAfterMs = 0, field = '' }) {
    super(message);
    this.code = code;
    this.retryAfterMs = retryAfterMs;
    this.field = field;
  }

  /** Whether the same request may be repeated: with a send's client_id that makes no second message. */
  get retryable() {
    return ['unavailable', 'deadline_exceeded', 'internal', 'resource_exhausted', 'disconnected'].includes(this.code);
  }
}

/** The pause before attempt `attempt` (0, 1, …): half fixed, half chance, so that clients don't return in step. */
export function backoffMs(attempt, random = Math.random) {
  const full = Math.min(BACKOFF_MAX_MS, BACKOFF_MIN_MS * 2 ** Math.min(attempt, 16));
  return Math.round(full / 2 + (random() * full) / 2);
}

const browserClock = {
  now: () => Date.now(),
  setTimeout: (call, ms) => setTimeout(call, ms),
  clearTimeout: (timer) => clearTimeout(timer),
};

export class Connection {
  /**
   * `url`: of the own origin's socket. `addressUrl(address)`: of another node's. Callbacks: `onWelcome(welcome)`,
   * `onEvent(name, body)`, `onDown()`, `onState(state)`, `onSignedOut(message)`.
   * A state's `phase` is `connecting`, `online` (with `node`, and `address` where that isn't the own origin), `waiting`
   * (with `retryAtMs`), `replaced` or `stopped`.
   */
  constructor({ url, addressUrl, token, callbacks, Socket = globalThis.WebSocket, clock = browserClock, random = Math.random }) {
    Object.assign(this, { url, addressUrl, token, callbacks, Socket, clock, random });
    this.state = { phase: 'stopped', node: '', address: '', retryAtMs: 0 };
    this.socket = null;
    this.inFlight = new Map();
    this.lastId = 0;
    this.attempt = 0;
    this.refusals = 0;
    this.minimumPauseMs = 0;
    /** Where the last go_away sent us. It and the own origin are tried in turn while neither answers. */
    this.alternative = '';
    this.useAlternative = false;
    this.welcome = null;
    this.leaving = false;
  }

  get online() {
    return this.state.phase === 'online' && !this.leaving;
  }

  start() {
    if (this.state.phase === 'stopped' || this.state.phase === 'replaced') this.dial();
  }

  stop() {
    this.setState('stopped');
    this.clock.clearTimeout(this.retryTimer);
    this.drop();
  }

  /** Ends a pause at once: the network or the user is back. */
  retryNow() {
    if (this.state.phase === 'waiting') this.dial();
  }

  /** Sends a request and resolves with its answer's body; rejects with a RequestError. */
  request(name, body, timeoutMs = REQUEST_TIMEOUT_MS) {
    if (!this.online) return Promise.reject(disconnected());
    return this.ask(name, body, timeoutMs);
  }

  // ---- One connection's life ----

  dial() {
    this.clock.clearTimeout(this.retryTimer);
    this.setState('connecting');
    const url = this.useAlternative ? this.addressUrl(this.alternative) : this.url;
    let socket;
    try {
      socket = new this.Socket(url);
    } catch {
      this.turn();
      this.pause();
      return;
    }
    this.socket = socket;
    this.leaving = false;
    this.helloTimer = this.clock.setTimeout(() => this.lost(socket, 0), HELLO_TIMEOUT_MS);
    socket.onopen = () => this.greet(socket);
    socket.onmessage = ({ data }) => this.heard(socket, data);
    socket.onclose = ({ code }) => this.lost(socket, code);
    socket.onerror = () => {}; // A close always follows.
  }

  async greet(socket) {
    try {
      const welcome = await this.ask('hello', { token: this.token }, HELLO_TIMEOUT_MS);
      if (socket !== this.socket) return;
      this.clock.clearTimeout(this.helloTimer);
      this.welcome = welcome;
      this.refusals = 0;
      this.welcomedAtMs = this.clock.now();
      this.setState('online', { node: welcome.node, address: this.useAlternative ? this.alternative : '' });
      this.beat(socket, Math.max(welcome.heartbeat_ms || 30_000, 1_000));
      this.callbacks.onWelcome(welcome);
    } catch (error) {
      if (socket !== this.socket) return;
      if (error.code === 'unauthenticated' || error.code === 'permission_denied') {
        this.stop();
        this.callbacks.onSignedOut(error.message);
      } else {
        this.minimumPauseMs = error.retryAfterMs ?? 0;
        this.lost(socket, 0);
      }
    }
  }

  heard(socket, data) {
    if (socket !== this.socket) return;
    this.heardAtMs = this.clock.now();
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      return; // Not for this version of the protocol.
    }
    const { reply_to: replyTo = 0, ...bodies } = frame ?? {};
    const name = Object.keys(bodies)[0];
    if (replyTo) {
      const waiting = this.inFlight.get(replyTo);
      this.inFlight.delete(replyTo);
      if (!waiting) return;
      this.clock.clearTimeout(waiting.timer);
      if (name === 'error') waiting.reject(new RequestError(bodies.error));
      else waiting.resolve(bodies[name] ?? {});
      if (this.leaving && this.inFlight.size === 0) this.moveOn(socket);
    } else if (name === 'go_away') {
      this.goAway(socket, bodies.go_away);
    } else if (name) {
      this.callbacks.onEvent(name, bodies[name]);
    }
  }

  /** The connection is of no more use: everything unanswered fails, and a new one is tried after a pause. */
  lost(socket, code) {
    if (socket !== this.socket) return;
    const wasOnline = this.state.phase === 'online';
    this.drop();
    if (wasOnline && this.clock.now() - this.welcomedAtMs >= STABLE_MS) this.attempt = 0;
    if (wasOnline) this.callbacks.onDown();
    else this.turn();
    if (code === CLOSE_NOT_SIGNED_IN) this.refusals += 1;
    if (this.refusals >= 2) {
      this.setState('stopped');
      this.callbacks.onSignedOut('This device has been signed out.');
    } else if (code === CLOSE_REPLACED) {
      // To come back by itself would only throw the other one out again, for ever.
      this.setState('replaced');
    } else {
      this.pause();
    }
  }

  /** An attempt came to nothing: the other address is next, where there is one. */
  turn() {
    this.useAlternative = this.alternative !== '' && !this.useAlternative;
  }

  pause() {
    const pauseMs = Math.max(backoffMs(this.attempt, this.random), this.minimumPauseMs);
    this.attempt += 1;
    this.minimumPauseMs = 0;
    this.setState('waiting', { retryAtMs: this.clock.now() + pauseMs });
    this.retryTimer = this.clock.setTimeout(() => this.dial(), pauseMs);
  }

  /** Forgets the socket and fails what it had not answered. */
  drop() {
    const socket = this.socket;
    this.socket = null;
    this.leaving = false;
    for (const timer of [this.helloTimer, this.beatTimer, this.moveTimer]) this.clock.clearTimeout(timer);
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close(1000);
    }
    const waiting = [...this.inFlight.values()];
    this.inFlight.clear();
    for (const { reject, timer } of waiting) {
      this.clock.clearTimeout(timer);
      reject(disconnected());
    }
  }

  /** The node is leaving: nothing new goes to it, what is in flight may still be answered, then we move. */
  goAway(socket, { retry_after_ms: retryAfterMs = 0, address = '' }) {
    this.leaving = true;
    this.alternative = address;
    this.useAlternative = address !== '';
    this.attempt = 0;
    // All clients of the node are told at once; chance spreads their return.
    this.minimumPauseMs = retryAfterMs + Math.round(this.random() * BACKOFF_MIN_MS);
    if (this.inFlight.size === 0) this.moveOn(socket);
    else this.moveTimer = this.clock.setTimeout(() => this.moveOn(socket), GO_AWAY_GRACE_MS);
  }

  moveOn(socket) {
    this.lost(socket, 1001);
  }

  // ---- Frames ----

  ask(name, body, timeoutMs) {
    if (this.inFlight.size >= IN_FLIGHT_LIMIT) {
      return Promise.reject(
        new RequestError({ code: 'resource_exhausted', message: 'Too much is waiting for an answer.', retry_after_ms: 1000 }),
      );
    }
    const id = (this.lastId += 1);
    const frame = JSON.stringify({ id, [name]: body });
    const limit = this.welcome?.max_frame_bytes ?? 0;
    if (limit > 0 && new TextEncoder().encode(frame).length > limit) {
      // The server would close the connection, and a repeat would close the next one.
      return Promise.reject(new RequestError({ code: 'invalid_argument', message: 'This is too long to send.' }));
    }
    return new Promise((resolve, reject) => {
      const timer = this.clock.setTimeout(() => {
        this.inFlight.delete(id);
        reject(new RequestError({ code: 'deadline_exceeded', message: 'The server did not answer in time.' }));
      }, timeoutMs);
      this.inFlight.set(id, { resolve, reject, timer });
      this.socket.send(frame);
    });
  }

  /** Pings at the server's interval and gives the connection up when nothing was heard for 2.5 intervals. */
  beat(socket, intervalMs) {
    const dueMs = this.clock.now() + intervalMs;
    this.beatTimer = this.clock.setTimeout(() => {
      if (socket !== this.socket) return;
      const now = this.clock.now();
      // A browser that slept, or slows a hidden tab's timers, runs this late: then the silence may be its own.
      const sleptMs = now - dueMs;
      if (sleptMs < intervalMs && now - this.heardAtMs > 2.5 * intervalMs) {
        this.lost(socket, 4408);
        return;
      }
      this.ask('ping', {}, 2 * intervalMs).catch(() => {}); // Silence is judged above.
      this.beat(socket, intervalMs);
    }, intervalMs);
  }

  setState(phase, { node = '', address = '', retryAtMs = 0 } = {}) {
    this.state = { phase, node, address, retryAtMs };
    this.callbacks.onState(this.state);
  }
}

function disconnected() {
  return new RequestError({ code: 'disconnected', message: 'There is no connection to the server.' });
}
