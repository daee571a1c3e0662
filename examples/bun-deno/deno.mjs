// Deno's node:http takes an inherited socket; Deno.serve does not.
import http from 'node:http';
import process from 'node:process';

const server = http.createServer((request, response) => response.end(`deno ${process.pid}\n`));
server.listen({ fd: 3 });
process.on('SIGTERM', () => server.close(() => process.exit()));
