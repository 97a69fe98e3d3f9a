// Real nodes of one cluster for a test: processes of a given binary over one SQLite file in a temporary folder. A node
// ends when this process does, as its standard input closes then.

import { spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DEADLINE_MS } from './browser.mjs';

const POLL_MS = 100;
/** Below the ports that the kernel gives out by itself, so that nobody takes one between a node's end and its return. */
const PORTS = { from: 20_000, count: 12_000, tries: 200 };

export class Cluster {
  static async start(binary, names) {
    const cluster = new Cluster();
    cluster.binary = binary;
    cluster.folder = await mkdtemp(join(tmpdir(), 'rookery-web-'));
    cluster.nodes = new Map();
    for (const name of names) cluster.nodes.set(name, { name, http: await freePort(), link: await freePort(), process: null });
    // One after the other: the first one makes the tables.
    for (const name of names) await cluster.raise(name);
    return cluster;
  }

  address(name) {
    return `127.0.0.1:${this.nodes.get(name).http}`;
  }

  /** Starts a node, again after its end; resolves when it serves. */
  async raise(name) {
    const node = this.nodes.get(name);
    const seeds = [...this.nodes.values()].filter((other) => other !== node).flatMap((other) => ['--seed', `127.0.0.1:${other.link}`]);
    const log = createWriteStream(join(this.folder, `${name}.log`), { flags: 'a' });
    node.process = spawn(this.binary, [
      'serve', '--name', name, '--http-listen', this.address(name), '--tcp-listen', '127.0.0.1:0', '--line-listen', '127.0.0.1:0',
      '--admin-listen', '127.0.0.1:0', '--cluster-listen', `127.0.0.1:${node.link}`, ...seeds,
      '--database-url', `sqlite://${join(this.folder, 'rookery.db')}`, '--stop-on-stdin-close',
    ], { cwd: this.folder, stdio: ['pipe', 'pipe', 'pipe'] });
    node.process.stdin.on('error', () => {});
    node.process.stdout.pipe(log);
    node.process.stderr.pipe(log);
    node.ended = new Promise((resolve) => node.process.once('close', resolve));
    const until = Date.now() + DEADLINE_MS;
    while (Date.now() < until) {
      const ready = await fetch(`http://${this.address(name)}/readyz`, { signal: AbortSignal.timeout(5_000) }).catch(() => undefined);
      if (ready?.ok) return;
      if (node.process.exitCode !== null) break;
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
    throw new Error(`the node ${name} does not serve; see ${join(this.folder, `${name}.log`)}`);
  }

  /** As a crash does it. */
  async kill(name) {
    const node = this.nodes.get(name);
    node.process.kill('SIGKILL');
    await node.ended;
  }

  /** Ends all nodes; `keep` leaves their logs. */
  async stop({ keep = false } = {}) {
    for (const { process: child } of this.nodes.values()) child?.kill('SIGKILL');
    await Promise.all([...this.nodes.values()].map((node) => node.ended));
    if (keep) console.log(`The nodes' logs are in ${this.folder}`);
    else await rm(this.folder, { recursive: true, force: true });
  }
}

async function freePort() {
  for (let tries = 0; tries < PORTS.tries; tries += 1) {
    const port = PORTS.from + Math.floor(Math.random() * PORTS.count);
    const free = await new Promise((resolve) => {
      const server = createServer();
      server.once('error', () => resolve(false));
      server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
    });
    if (free) return port;
  }
  throw new Error('there is no free port');
}
