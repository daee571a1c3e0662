'use strict';
// The few lines of a Redis client that a session counter needs: pipelined commands over one
// connection, made again when it breaks.
const net = require('node:net');

// Reads one RESP value at `at`. Returns [value, next position], or nothing if the bytes are not all there.
function parse(buffer, at) {
  const end = buffer.indexOf('\r\n', at);
  if (end < 0) return undefined;
  const line = buffer.toString('utf8', at + 1, end);
  const next = end + 2;
  switch (String.fromCharCode(buffer[at])) {
    case '+':
      return [line, next];
    case '-':
      return [new Error(line), next];
    case ':':
      return [Number(line), next];
    case '$': {
      const length = Number(line);
      if (length < 0) return [null, next];
      if (buffer.length < next + length + 2) return undefined;
      return [buffer.toString('utf8', next, next + length), next + length + 2];
    }
    case '*': {
      const values = [];
      let position = next;
      for (let left = Number(line); left > 0; left -= 1) {
        const item = parse(buffer, position);
        if (!item) return undefined;
        values.push(item[0]);
        position = item[1];
      }
      return [values, position];
    }
    default:
      throw new Error(`not RESP: ${line}`);
  }
}

class Redis {
  constructor(port, host = '127.0.0.1') {
    this.address = { port, host };
    this.waiting = []; // one { resolve, reject } for each command sent
    this.rest = Buffer.alloc(0);
    this.connected = false;
    this.closed = false;
    this.delay = 50; // ms
    this.connect();
  }

  connect() {
    const socket = net.connect(this.address);
    this.socket = socket;
    socket.setNoDelay(true);
    socket.on('connect', () => {
      this.connected = true;
      this.delay = 50;
    });
    socket.on('data', (chunk) => this.receive(chunk));
    socket.on('error', () => {}); // 'close' follows
    socket.on('close', () => {
      this.connected = false;
      this.rest = Buffer.alloc(0);
      for (const { reject } of this.waiting.splice(0)) reject(new Error('the connection to Redis broke'));
      if (this.closed) return;
      setTimeout(() => this.connect(), this.delay);
      this.delay = Math.min(this.delay * 2, 1000);
    });
  }

  receive(chunk) {
    this.rest = Buffer.concat([this.rest, chunk]);
    let at = 0;
    try {
      for (let item; at < this.rest.length && (item = parse(this.rest, at)); [, at] = item) {
        const { resolve, reject } = this.waiting.shift();
        if (item[0] instanceof Error) reject(item[0]);
        else resolve(item[0]);
      }
    } catch (error) {
      this.socket.destroy(error);
    }
    this.rest = this.rest.subarray(at);
  }

  // Sends one command, for example `send('INCR', 'hits')`.
  send(...words) {
    if (!this.connected) return Promise.reject(new Error('no connection to Redis'));
    const parts = words.map((word) => `$${Buffer.byteLength(String(word))}\r\n${word}\r\n`);
    return new Promise((resolve, reject) => {
      this.waiting.push({ resolve, reject });
      this.socket.write(`*${words.length}\r\n${parts.join('')}`);
    });
  }

  close() {
    this.closed = true;
    this.socket.end();
  }
}

module.exports = { Redis, parse };
