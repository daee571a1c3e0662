// clmgr loads this into the workers of a cluster (`node_preload = false` in ecosystem.toml switches it off).
//
// Node's own `server.close()` ends idle keep-alive connections at once, so a request that is on its way meets a closed
// socket. Here a server that closes first says `Connection: close` in its answers, and leaves idle connections open for
// a moment. When a worker that was told to end has served everything, and lives on because of other things (a database
// pool, a timer), its own SIGTERM handler is called, or it exits. And it counts answers for `max_requests`.
'use strict';

(() => {
  // How long idle connections of a closing server stay open, and how often is looked again, in milliseconds.
  const GRACE = 1500;
  const LOOK_AGAIN = 250;
  // How long a process that has nothing more to serve may take to end by itself.
  const PATIENCE = 100;

  // Children of the app do not get this file.
  const option = `--require ${quoted(__filename)}`;
  const options = process.env.NODE_OPTIONS;
  if (options !== undefined && options.includes(option)) {
    const rest = options.replace(option, '').trim();
    if (rest === '') delete process.env.NODE_OPTIONS;
    else process.env.NODE_OPTIONS = rest;
  }
  const limit = Number(process.env.CLMGR_MAX_REQUESTS) || 0;
  delete process.env.CLMGR_MAX_REQUESTS;

  const { isMainThread } = require('worker_threads');
  const cluster = require('cluster');
  if (!isMainThread || !cluster.worker || process.env.CLMGR_LEADER !== String(process.pid)) return;
  const net = require('net');

  const open = new Set();
  const closing = new WeakSet();
  const sessions = new WeakMap();
  const send = process.send;
  let answered = 0;
  let responses = false;
  let told = false;
  let served = false;

  const listen = net.Server.prototype.listen;
  net.Server.prototype.listen = function (...args) {
    attend(this);
    return listen.apply(this, args);
  };

  const close = net.Server.prototype.close;
  net.Server.prototype.close = function (...args) {
    if (this.listening) drain(this);
    return close.apply(this, args);
  };

  // A server that may get connections.
  function attend(server) {
    server.once('listening', () => {
      closing.delete(server);
      open.add(server);
      server.once('close', () => {
        open.delete(server);
        end();
      });
    });
    if (typeof server.closeIdleConnections === 'function' && !Object.hasOwn(server, 'closeIdleConnections')) {
      const closeIdle = server.closeIdleConnections;
      // `close` calls this, too, before the server stops to listen; whether it does is known a moment later.
      server.closeIdleConnections = function () {
        process.nextTick(() => {
          if (!closing.has(this)) closeIdle.call(this);
        });
      };
      watchResponses();
    }
    if (/^Http2/.test(server.constructor?.name) && !sessions.has(server)) {
      const all = new Set();
      sessions.set(server, all);
      server.on('session', (session) => {
        all.add(session);
        session.once('close', () => all.delete(session));
      });
    }
  }

  // The last thing before the head of an answer goes out.
  function watchResponses() {
    if (responses) return;
    responses = true;
    const { ServerResponse } = require('http');
    const writeHead = ServerResponse.prototype.writeHead;
    ServerResponse.prototype.writeHead = function (...args) {
      const server = this.socket?.server;
      if (server && closing.has(server)) this.shouldKeepAlive = false;
      answered += 1;
      if (answered === limit) recycle();
      return writeHead.apply(this, args);
    };
  }

  function drain(server) {
    if (closing.has(server)) return;
    closing.add(server);
    for (const session of sessions.get(server) ?? []) session.close();
    const closeIdle = Object.getPrototypeOf(server).closeIdleConnections;
    if (typeof closeIdle !== 'function') return;
    let timer = setTimeout(function look() {
      if (!closing.has(server)) return;
      closeIdle.call(server);
      // Those that have never asked anything count as busy.
      for (const handle of process._getActiveHandles?.() ?? []) {
        if (handle.server === server && handle.bytesRead === 0) handle.destroy();
      }
      timer = setTimeout(look, LOOK_AGAIN);
      timer.unref();
    }, GRACE);
    timer.unref();
    server.once('close', () => clearTimeout(timer));
  }

  function recycle() {
    if (process.connected) send.call(process, { cmd: 'NODE_CLMGR', act: 'recycle', requests: answered }, () => {});
  }

  // Everything is served: nothing else keeps the process.
  function end() {
    if (!told || !served || open.size > 0) return;
    told = false;
    setTimeout(() => {
      const name = ['SIGTERM', 'SIGINT'].find((name) => process.listenerCount(name) > 0);
      if (name) process.emit(name, name);
      else process.exit();
    }, PATIENCE).unref();
  }

  process.on('internalMessage', (message) => {
    if (message?.cmd !== 'NODE_CLUSTER' || message.act !== 'disconnect') return;
    told = true;
    // Servers that the cluster does not know: `exclusive`, or of a descriptor.
    for (const server of open) if (server.listening) server.close();
  });
  cluster.worker.once('disconnect', () => {
    served = true;
    end();
  });

  function quoted(path) {
    return /[\s"\\]/.test(path) ? `"${path.replace(/["\\]/g, '\\$&')}"` : path;
  }
})();
