'use strict';
// A plain node:http server that stops without failing a request: on SIGTERM it takes no new
// connections, finishes what it has begun, and ends.
const http = require('node:http');

const port = Number(process.env.PORT || 3100);
const instance = process.env.NODE_APP_INSTANCE || '0';
let served = 0;
let stopping = false;

const server = http.createServer((request, response) => {
  if (stopping) response.setHeader('connection', 'close');
  response.on('close', () => stopping && server.closeIdleConnections());
  const { pathname } = new URL(request.url, 'http://localhost');
  if (pathname === '/health') {
    response.end('ok\n');
  } else if (pathname === '/slow') {
    setTimeout(() => response.end('worth the wait\n'), 1000);
  } else {
    served += 1;
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({ instance, pid: process.pid, served }) + '\n');
  }
});

server.listen(port, '127.0.0.1', () => console.log(`instance ${instance} listens on ${port}`));

for (const signal of ['SIGTERM', 'SIGINT']) {
  process.on(signal, () => {
    if (stopping) return;
    stopping = true;
    console.log(`instance ${instance} stops after ${served} requests`);
    server.close(() => process.exit(0));
    server.closeIdleConnections();
  });
}
