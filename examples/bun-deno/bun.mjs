// Bun's node:net takes an inherited socket, its http servers do not: connections are handed from one to the other.
import http from 'node:http';
import net from 'node:net';

const server = http.createServer((request, response) => response.end(`bun ${process.pid}\n`));
const door = net.createServer((socket) => server.emit('connection', socket));
door.listen({ fd: 3 });
process.on('SIGTERM', () => door.close(() => process.exit()));
