// Answers GET /DELAY/ID with "ID PID". An app as most are: as a worker of a cluster it knows nothing of reloads, on an
// inherited descriptor it has the one line about SIGTERM that Node's documentation shows. BREAK is what is wrong with it.
const fs = require('fs');
const http = require('http');
const path = require('path');

const inherits = Boolean(process.env.LISTEN_FDS);
const broken = process.env.BREAK;
const ever = 1e9;

function serve(status, then) {
  const held = fs.openSync(path.join(process.argv[2], 'held', `${process.env.CLMGR_APP}.${process.pid}`), 'a');
  const server = http.createServer((request, response) => {
    const [, delay, id] = request.url.split('/');
    response.statusCode = status;
    const end = () => response.end(`${id} ${process.pid}\n`);
    if (delay === '0') end();
    else setTimeout(end, Number(delay));
  });
  server.on('connection', (socket) => {
    const port = socket.remotePort;
    fs.writeSync(held, `+${port}\n`);
    socket.on('close', () => fs.writeSync(held, `-${port}\n`));
  });
  server.listen(inherits ? { fd: 3 } : Number(process.env.PORT), '127.0.0.1', () => {
    if (inherits) process.send('ready');
    if (then) setTimeout(then, 300);
  });
  if (inherits) process.on('SIGTERM', () => server.close(() => process.exit(0)));
}

function fail(text, code) {
  console.error(text);
  process.exit(code);
}

const leak = [];
process.on('SIGUSR2', () => leak.push(Buffer.alloc(300 << 20, 1)));

if (!broken) serve(200);
else if (broken === 'exits') throw new Error('cannot parse the configuration');
else if (broken === 'exits-late') setTimeout(fail, 1000, 'the migration has failed', 4);
else if (broken === 'hangs') {
  console.error('waiting for the database');
  setTimeout(() => {}, ever);
} else if (broken === 'answers-500') {
  console.error('no such table: users');
  serve(500);
} else if (broken === 'dies') serve(200, () => fail('the license has expired', 5));
else if (broken === 'out-of-memory') for (;;) leak.push(new Array(1e6).fill(leak.length));
else if (broken === 'forks') {
  require('child_process').spawn('sleep', ['3600'], { detached: true, stdio: 'ignore' }).unref();
  fail('running in the background', 0);
} else if (broken === 'deaf') {
  process.on('SIGTERM', () => {});
  console.error('still starting');
  setTimeout(() => {}, ever);
} else throw new Error(`no such way to be broken: ${broken}`);
