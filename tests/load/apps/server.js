// Answers GET /DELAY/ID with "ID PID". An app as most are: nothing in it knows of reloads but one line.
const fs = require('fs');
const http = require('http');
const path = require('path');

const held = fs.openSync(path.join(process.argv[2], 'held', `${process.env.CLMGR_APP}.${process.pid}`), 'a');
const server = http.createServer((request, response) => {
  const [, delay, id] = request.url.split('/');
  const end = () => response.end(`${id} ${process.pid}\n`);
  if (delay === '0') end();
  else setTimeout(end, Number(delay));
});
server.on('connection', (socket) => {
  const port = socket.remotePort;
  fs.writeSync(held, `+${port}\n`);
  socket.on('close', () => fs.writeSync(held, `-${port}\n`));
});
server.listen(process.env.LISTEN_FDS ? { fd: 3 } : Number(process.env.APP_PORT), () => {
  if (process.env.LISTEN_FDS) process.send('ready');
});
if (process.env.LISTEN_FDS) process.on('SIGTERM', () => server.close(() => process.exit(0)));
