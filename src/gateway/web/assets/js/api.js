// The REST calls of the client: JSON over the same origin, errors as RequestError.

import { RequestError } from './connection.js';

const BASE = '/api/v1';
/** A call without an answer is given up after this. */
const CALL_TIMEOUT_MS = 20_000;
/** A read refused with 429 or 503 is repeated so often. */
const READ_RETRIES = 2;
const RETRY_PAUSE_MS = 500;
const RETRY_PAUSE_LIMIT_MS = 5_000;

export class Api {
  constructor({ token = '', onUnauthenticated = () => {} } = {}) {
    this.token = token;
    this.onUnauthenticated = onUnauthenticated;
  }

  signUp(username, password, displayName) {
    return this.call('POST', '/users', { username, password, display_name: displayName });
  }

  signIn(username, password, deviceName) {
    return this.call('POST', '/sessions', { username, password, device_name: deviceName });
  }

  signOut() {
    return this.call('DELETE', '/sessions/current');
  }

  me() {
    return this.call('GET', '/users/me');
  }

  user(userId) {
    return this.call('GET', `/users/${userId}`);
  }

  async findUsers(query, limit = 10) {
    const page = await this.call('GET', `/users?${new URLSearchParams({ query, limit })}`);
    return page.items ?? [];
  }

  conversation(id) {
    return this.call('GET', `/conversations/${id}`);
  }

  createDirect(userId) {
    return this.call('POST', '/conversations', { kind: 'direct', user_id: userId });
  }

  createGroup(group) {
    return this.call('POST', '/conversations', { kind: 'group', ...group });
  }

  /** One page of members: `{items, next_cursor}`. */
  members(id, cursor = '') {
    const query = new URLSearchParams({ limit: 100 });
    if (cursor) query.set('cursor', cursor);
    return this.call('GET', `/conversations/${id}/members?${query}`);
  }

  addMember(id, userId) {
    return this.call('POST', `/conversations/${id}/members`, { user_ids: [userId] });
  }

  join(id) {
    return this.call('POST', `/conversations/${id}/join`, {});
  }

  leave(id) {
    return this.call('POST', `/conversations/${id}/leave`, {});
  }

  /** Makes a call; resolves with the body, or null for an answer without one. */
  async call(method, path, body, retries = method === 'GET' ? READ_RETRIES : 0) {
    try {
      return await this.once(method, path, body);
    } catch (error) {
      const busy = error.code === 'resource_exhausted' || error.code === 'unavailable';
      if (!busy || retries === 0) throw error;
      const pauseMs = Math.min(Math.max(error.retryAfterMs, RETRY_PAUSE_MS), RETRY_PAUSE_LIMIT_MS);
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
      return this.call(method, path, body, retries - 1);
    }
  }

  async once(method, path, body) {
    const token = this.token;
    const headers = {};
    if (token) headers.Authorization = `Bearer ${token}`;
    if (body !== undefined) headers['Content-Type'] = 'application/json';
    let response;
    let text;
    try {
      response = await fetch(BASE + path, {
        method,
        headers,
        body: body === undefined ? undefined : JSON.stringify(body),
        signal: AbortSignal.timeout(CALL_TIMEOUT_MS),
        cache: 'no-store',
        credentials: 'omit',
      });
      text = await response.text();
    } catch {
      throw new RequestError({ code: 'unavailable', message: 'The server can’t be reached.' });
    }
    const answer = parse(text);
    if (response.ok) return answer;
    const error = answer?.error ?? { code: codeOf(response.status), message: `The server answered ${response.status}.` };
    if (error.code === 'unauthenticated' && token && token === this.token) this.onUnauthenticated(error.message);
    throw new RequestError(error);
  }
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** For an answer that bears no error of the protocol, such as a proxy's. */
function codeOf(status) {
  const codes = { 400: 'invalid_argument', 401: 'unauthenticated', 403: 'permission_denied', 404: 'not_found', 429: 'resource_exhausted' };
  return codes[status] ?? (status >= 502 ? 'unavailable' : 'internal');
}
