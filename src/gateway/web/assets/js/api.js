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
    /** Whether the last call reached a server at all. */
    this.reachable = true;
  }

  // ---- Accounts ----

  signUp(username, password, displayName) {
    return this.call('POST', '/users', { username, password, display_name: displayName });
  }

  signIn(username, password, deviceName) {
    return this.call('POST', '/sessions', { username, password, device_name: deviceName, platform: 'web' });
  }

  signOut() {
    return this.call('DELETE', '/sessions/current');
  }

  devices() {
    return this.call('GET', '/sessions');
  }

  signOutDevice(deviceId) {
    return this.call('DELETE', `/sessions/${deviceId}`);
  }

  signOutOthers() {
    return this.call('DELETE', '/sessions');
  }

  me() {
    return this.call('GET', '/users/me');
  }

  changeMe(change) {
    return this.call('PATCH', '/users/me', change);
  }

  changePassword(oldPassword, newPassword) {
    return this.call('PUT', '/users/me/password', { old_password: oldPassword, new_password: newPassword });
  }

  deactivate() {
    return this.call('DELETE', '/users/me');
  }

  erase(password) {
    return this.call('POST', '/users/me/erase', { password });
  }

  privacy() {
    return this.call('GET', '/users/me/privacy');
  }

  changePrivacy(change) {
    return this.call('PATCH', '/users/me/privacy', change);
  }

  /** The user's own data, as one text of JSON lines. */
  export() {
    return this.call('GET', '/users/me/export', undefined, { asText: true });
  }

  user(userId) {
    return this.call('GET', `/users/${userId}`);
  }

  async findUsers(query, limit = 10) {
    const page = await this.call('GET', `/users?${new URLSearchParams({ query, limit })}`);
    return page.items ?? [];
  }

  // ---- Contacts and blocks ----

  contacts(cursor = '') {
    return this.call('GET', `/contacts?${paged(200, cursor)}`);
  }

  requestContact(userId, message) {
    return this.call('POST', '/contacts', { user_id: userId, message });
  }

  acceptContact(userId) {
    return this.call('POST', `/contacts/${userId}/accept`, {});
  }

  declineContact(userId) {
    return this.call('POST', `/contacts/${userId}/decline`, {});
  }

  removeContact(userId) {
    return this.call('DELETE', `/contacts/${userId}`);
  }

  blocks(cursor = '') {
    return this.call('GET', `/blocks?${paged(200, cursor)}`);
  }

  block(userId) {
    return this.call('PUT', `/blocks/${userId}`, {});
  }

  unblock(userId) {
    return this.call('DELETE', `/blocks/${userId}`);
  }

  // ---- Conversations ----

  conversation(id) {
    return this.call('GET', `/conversations/${id}`);
  }

  createDirect(userId) {
    return this.call('POST', '/conversations', { kind: 'direct', user_id: userId });
  }

  createGroup(group) {
    return this.call('POST', '/conversations', { kind: 'group', ...group });
  }

  changeGroup(id, change) {
    return this.call('PATCH', `/conversations/${id}`, change);
  }

  dissolve(id) {
    return this.call('DELETE', `/conversations/${id}`);
  }

  prefer(id, change) {
    return this.call('PUT', `/conversations/${id}/preferences`, change);
  }

  saveDraft(id, draft) {
    return this.call('PUT', `/conversations/${id}/draft`, draft);
  }

  discardDraft(id) {
    return this.call('DELETE', `/conversations/${id}/draft`);
  }

  /** One page of members: `{items, next_cursor}`. */
  members(id, cursor = '') {
    return this.call('GET', `/conversations/${id}/members?${paged(100, cursor)}`);
  }

  addMember(id, userId) {
    return this.call('POST', `/conversations/${id}/members`, { user_ids: [userId] });
  }

  /** `change`: `role` or `silenced_until_ms`. */
  changeMember(id, userId, change) {
    return this.call('PATCH', `/conversations/${id}/members/${userId}`, change);
  }

  removeMember(id, userId) {
    return this.call('DELETE', `/conversations/${id}/members/${userId}`);
  }

  join(id, message = '') {
    return this.call('POST', `/conversations/${id}/join`, message ? { message } : {});
  }

  leave(id) {
    return this.call('POST', `/conversations/${id}/leave`, {});
  }

  requests(id) {
    return this.call('GET', `/conversations/${id}/requests`);
  }

  /** `answer`: `accept` or `decline`. */
  answerRequest(id, userId, answer) {
    return this.call('POST', `/conversations/${id}/requests/${userId}/${answer}`, {});
  }

  invites(id) {
    return this.call('GET', `/conversations/${id}/invites`);
  }

  invite(id, terms) {
    return this.call('POST', `/conversations/${id}/invites`, terms);
  }

  revokeInvite(id, code) {
    return this.call('DELETE', `/conversations/${id}/invites/${encodeURIComponent(code)}`);
  }

  useInvite(code) {
    return this.call('POST', `/invites/${encodeURIComponent(code)}`, {});
  }

  bans(id) {
    return this.call('GET', `/conversations/${id}/bans`);
  }

  ban(id, userId) {
    return this.call('PUT', `/conversations/${id}/bans/${userId}`, {});
  }

  unban(id, userId) {
    return this.call('DELETE', `/conversations/${id}/bans/${userId}`);
  }

  // ---- Messages ----

  search({ query, conversationId = 0, cursor = '' }) {
    const terms = paged(30, cursor);
    terms.set('query', query);
    if (conversationId) terms.set('conversation_id', conversationId);
    return this.call('GET', `/search?${terms}`);
  }

  hideMessage(id, seq) {
    return this.call('POST', `/conversations/${id}/messages/hide`, { seqs: [seq] });
  }

  scheduled() {
    return this.call('GET', '/scheduled?limit=200');
  }

  cancelScheduled(id) {
    return this.call('DELETE', `/scheduled/${id}`);
  }

  pins(id) {
    return this.call('GET', `/conversations/${id}/pins`);
  }

  pin(id, seq) {
    return this.call('PUT', `/conversations/${id}/pins/${seq}`, {});
  }

  unpin(id, seq) {
    return this.call('DELETE', `/conversations/${id}/pins/${seq}`);
  }

  readers(id, seq) {
    return this.call('GET', `/conversations/${id}/messages/${seq}/readers`);
  }

  forward(toId, fromId, seqs, clientId) {
    return this.call('POST', `/conversations/${toId}/messages/forward`, { from_conversation_id: fromId, seqs, client_id: clientId });
  }

  // ---- Any call ----

  /** Makes a call; resolves with the body, or null for an answer without one. */
  async call(method, path, body, { retries = method === 'GET' ? READ_RETRIES : 0, asText = false } = {}) {
    try {
      return await this.once(method, path, body, asText);
    } catch (error) {
      const busy = error.code === 'resource_exhausted' || error.code === 'unavailable';
      if (!busy || retries === 0) throw error;
      const pauseMs = Math.min(Math.max(error.retryAfterMs, RETRY_PAUSE_MS), RETRY_PAUSE_LIMIT_MS);
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
      return this.call(method, path, body, { retries: retries - 1, asText });
    }
  }

  async once(method, path, body, asText) {
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
      this.reachable = true;
    } catch {
      this.reachable = false;
      throw new RequestError({ code: 'unavailable', message: 'The server can’t be reached.' });
    }
    if (response.ok && asText) return text;
    const answer = parse(text);
    if (response.ok) return answer;
    if (isUnknownCall(response.status, answer?.error)) {
      throw new RequestError({ code: 'unimplemented', message: 'This server doesn’t know that yet.' });
    }
    const error = answer?.error ?? { code: codeOf(response.status), message: `The server answered ${response.status}.` };
    if (error.code === 'unauthenticated' && token && token === this.token) this.onUnauthenticated(error.message);
    throw new RequestError(error);
  }
}

function paged(limit, cursor) {
  return new URLSearchParams(cursor ? { limit, cursor } : { limit });
}

/** Whether the server, an older one, lacks the call itself rather than what it is about. */
function isUnknownCall(status, error) {
  return status === 405 || (status === 404 && (error?.message ?? '').includes('here; the API is under'));
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
