// Asks a server once per word, each time over a new connection: `kind:place`. Prints the answers, a line each.
'use strict';
const dgram = require('node:dgram');
const http = require('node:http');
const http2 = require('node:http2');
const https = require('node:https');
const net = require('node:net');

const collected = (stream) =>
  new Promise((resolve, reject) => {
    let text = '';
    stream.setEncoding('utf8');
    stream.on('data', (data) => (text += data));
    stream.on('end', () => resolve(text));
    stream.on('error', reject);
  });

const fetched = (module, options) =>
  new Promise((resolve, reject) => {
    const request = module.get({ ...options, agent: false }, (response) => resolve(collected(response)));
    request.on('error', reject);
  });

const ask = {
  http: (port) => fetched(http, { host: '127.0.0.1', port }),
  https: (port) => fetched(https, { host: '127.0.0.1', port, rejectUnauthorized: false }),
  unix: (path) => fetched(http, { socketPath: path }),
  net: (port) => collected(net.connect(port, '127.0.0.1')),
  http2: async (port) => {
    const session = http2.connect(`http://127.0.0.1:${port}`);
    const stream = session.request({ ':path': '/' });
    stream.end();
    const text = await collected(stream);
    session.close();
    return text;
  },
  udp: (port) =>
    new Promise((resolve, reject) => {
      const socket = dgram.createSocket('udp4');
      socket.on('error', reject);
      socket.on('message', (message) => {
        socket.close();
        resolve(String(message));
      });
      socket.send('hello', port, '127.0.0.1');
    }),
};

async function main() {
  for (const word of process.argv.slice(2)) {
    const at = word.indexOf(':');
    console.log(await ask[word.slice(0, at)](word.slice(at + 1)));
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
