// Every kind of server in one worker of a cluster. Ports come in ZOO_*; what the worker has seen goes to report-<slot>.
'use strict';
const cluster = require('node:cluster');
const dgram = require('node:dgram');
const fs = require('node:fs');
const http = require('node:http');
const http2 = require('node:http2');
const https = require('node:https');
const net = require('node:net');

const me = `${cluster.worker.id}:${process.pid}`;
const port = (name) => Number(process.env[`ZOO_${name}`]);
const report = {
  worker: cluster.isWorker,
  primary: cluster.isPrimary,
  id: cluster.worker.id,
  slot: process.env.NODE_APP_INSTANCE,
  options: process.env.NODE_OPTIONS ?? null,
  channel: process.env.NODE_CHANNEL_FD ?? null,
  version: process.version,
  random: [],
};
const answer = (request, response) => response.end(me);

function listening(server, ...args) {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(...args, () => resolve(server.address()));
  });
}

async function main() {
  await listening(http.createServer(answer), port('HTTP'));
  await listening(http.createServer(answer), { port: port('V4'), host: '127.0.0.1', backlog: 7 });
  await listening(http.createServer(answer), process.env.ZOO_UNIX);
  await listening(http2.createServer(answer), port('HTTP2'));
  if (process.env.ZOO_CERT) {
    const tls = { key: fs.readFileSync(process.env.ZOO_KEY), cert: fs.readFileSync(process.env.ZOO_CERT) };
    await listening(https.createServer(tls, answer), port('HTTPS'));
  }
  for (let count = 0; count < 2; count += 1) {
    report.random.push((await listening(net.createServer((socket) => socket.end(me)), 0)).port);
  }
  await new Promise((resolve, reject) => {
    const socket = dgram.createSocket('udp4');
    socket.on('message', (message, from) => socket.send(`${me} ${message}`, from.port, from.address));
    socket.once('error', reject);
    socket.bind(port('UDP'), '127.0.0.1', resolve);
  });
  if (process.env.ZOO_EXPRESS) {
    const app = require('express')();
    app.get('/', (request, response) => response.send(me));
    await listening(http.createServer(app), port('EXPRESS'));
  }
  if (process.env.ZOO_KOA) {
    const app = new (require('koa'))();
    app.use((context) => (context.body = me));
    await listening(http.createServer(app.callback()), port('KOA'));
  }
  if (process.env.ZOO_FASTIFY) {
    const app = require('fastify')();
    app.get('/', async () => me);
    await app.listen({ port: port('FASTIFY'), host: '127.0.0.1' });
  }
  // What does not work says so as it does without a cluster.
  const refused = (...args) => listening(http.createServer(), ...args).then(() => 'fine', (error) => error.code);
  report.twice = await refused(port('HTTP'));
  report.taken = await refused(port('TAKEN'), '127.0.0.1');
  report.strange = await refused(port('HTTP') + 1 > 65535 ? 1 : port('HTTP') + 1, '203.0.113.7');
  // A port that was closed can be had again.
  const again = http.createServer();
  await listening(again, port('AGAIN'));
  await new Promise((resolve) => again.close(resolve));
  await listening(http.createServer(answer), port('AGAIN'));
  fs.writeFileSync(`report-${process.env.NODE_APP_INSTANCE}`, JSON.stringify(report));
  process.send({ type: 'mine', text: 'x'.repeat(100_000) });
  process.send('ready');
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
