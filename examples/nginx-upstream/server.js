'use strict';
// One of four. It says which one, and ends after the requests under way.
const http = require('node:http');

const port = Number(process.env.PORT || 3301);
const instance = process.env.NODE_APP_INSTANCE || '0';
let stopping = false;

const server = http.createServer((request, response) => {
  response.on('close', () => stopping && server.closeIdleConnections());
  const client = request.headers['x-forwarded-for'] || request.socket.remoteAddress;
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify({ instance, port, client }) + '\n');
});
server.keepAliveTimeout = 65_000; // longer than nginx keeps its end, so that nginx closes first

server.listen(port, '127.0.0.1', () => console.log(`instance ${instance} listens on ${port}`));

for (const signal of ['SIGTERM', 'SIGINT']) {
  process.once(signal, () => {
    stopping = true;
    server.close();
    server.closeIdleConnections();
  });
}
