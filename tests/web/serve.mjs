// Serves the web client's files from the source tree and passes everything else on to a node, so that the pages can be
// worked on, and tested, against any binary. `node tests/web/serve.mjs 127.0.0.1:8080` prints the address to open.

import { readFile } from 'node:fs/promises';
import http from 'node:http';
import { connect } from 'node:net';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';

const ASSETS = fileURLToPath(new URL('../../src/gateway/web/assets', import.meta.url));
const TYPES = { '.html': 'text/html', '.css': 'text/css', '.js': 'text/javascript', '.svg': 'image/svg+xml' };

/** Serves on `port` (0: a free one) of the loopback; resolves to `{port, close()}`. */
export async function serve(node, port = 0) {
  const [host, nodePort] = node.split(':');
  const server = http.createServer(async (request, response) => {
    const { pathname } = new URL(request.url, 'http://here');
    const path = normalize(pathname === '/' ? '/index.html' : pathname);
    const type = TYPES[extname(path)];
    if (type && !path.startsWith('/api/')) {
      try {
        response.writeHead(200, { 'content-type': `${type}; charset=utf-8`, 'cache-control': 'no-store' }).end(await readFile(join(ASSETS, path)));
      } catch {
        response.writeHead(404).end();
      }
      return;
    }
    const onward = http.request({ host, port: nodePort, path: request.url, method: request.method, headers: request.headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    onward.on('error', () => response.writeHead(502).end());
    request.pipe(onward);
  });
  server.on('upgrade', (request, socket, head) => {
    const onward = connect(Number(nodePort), host, () => {
      const headers = request.rawHeaders.reduce((text, part, at) => text + part + (at % 2 ? '\r\n' : ': '), '');
      onward.write(`${request.method} ${request.url} HTTP/1.1\r\n${headers}\r\n`);
      onward.write(head);
      socket.pipe(onward).pipe(socket);
    });
    for (const [one, other] of [[socket, onward], [onward, socket]]) one.on('error', () => other.destroy()).on('close', () => other.destroy());
  });
  await new Promise((resolve) => server.listen(port, '127.0.0.1', resolve));
  const close = () => {
    server.closeAllConnections();
    server.close();
  };
  return { port: server.address().port, close };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { port } = await serve(process.argv[2] ?? '127.0.0.1:8080', Number(process.argv[3] ?? 0));
  console.log(`http://127.0.0.1:${port}/`);
}
