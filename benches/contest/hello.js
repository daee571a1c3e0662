'use strict';
// The server of every contestant: says its pid. On an inherited socket where there is one, else on PORT.
// With BLOCK the first worker blocks its event loop for 50 ms in every 250 ms.
const cluster = require('node:cluster');
const http = require('node:http');

const body = String(process.pid).padStart(8, '0');
const server = http.createServer((request, response) => response.end(body));
server.listen(process.env.LISTEN_FDS ? { fd: 3 } : { port: Number(process.env.PORT), host: '127.0.0.1' });

const first = process.env.NODE_APP_INSTANCE ? process.env.NODE_APP_INSTANCE === '0' : cluster.worker?.id === 1;
if (process.env.BLOCK && first) {
  setInterval(() => {
    const end = performance.now() + 50;
    while (performance.now() < end);
  }, 250);
}
