'use strict';
// A plain node:http server. It knows nothing of clmgr or of its siblings: it listens, and that is all.
const http = require('node:http');

const port = Number(process.env.PORT || 3100);
const instance = process.env.NODE_APP_INSTANCE || '0';
let served = 0;

const server = http.createServer((request, response) => {
  const { pathname } = new URL(request.url, 'http://localhost');
  if (pathname === '/slow') {
    setTimeout(() => response.end('worth the wait\n'), 1000);
  } else {
    served += 1;
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({ instance, pid: process.pid, served }) + '\n');
  }
});

server.listen(port, '127.0.0.1', () => console.log(`instance ${instance} listens on ${port}`));
process.on('exit', () => console.log(`instance ${instance} ends after ${served} requests`));
