'use strict';
// Counts the visits of each session. The count lives in Redis, so it does not matter which instance answers.
const crypto = require('node:crypto');
const http = require('node:http');
const { Redis } = require('./redis.js');

const port = Number(process.env.PORT || 3200);
const instance = process.env.NODE_APP_INSTANCE || '0';
let stopping = false;
const redis = new Redis(Number(process.env.REDIS_PORT || 6390));

function sessionOf(request) {
  const found = /(?:^|;\s*)session=([0-9a-f]{32})(?:;|$)/.exec(request.headers.cookie || '');
  return found ? found[1] : crypto.randomBytes(16).toString('hex');
}

async function answer(request, response) {
  const { pathname } = new URL(request.url, 'http://localhost');
  if (pathname === '/health') {
    await redis.send('PING');
    response.end('ok\n');
    return;
  }
  const session = sessionOf(request);
  const key = `session:${session}`;
  const [visits] = await Promise.all([redis.send('INCR', key), redis.send('EXPIRE', key, 3600)]);
  response.setHeader('set-cookie', `session=${session}; HttpOnly; SameSite=Lax; Path=/; Max-Age=3600`);
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify({ instance, visits }) + '\n');
}

const server = http.createServer((request, response) => {
  response.on('close', () => stopping && server.closeIdleConnections());
  answer(request, response).catch((error) => {
    response.statusCode = 503;
    response.end(`${error.message}\n`);
  });
});

server.listen(port, '127.0.0.1', () => console.log(`instance ${instance} listens on ${port}`));

for (const signal of ['SIGTERM', 'SIGINT']) {
  process.once(signal, () => {
    stopping = true;
    server.close(() => redis.close());
    server.closeIdleConnections();
  });
}
