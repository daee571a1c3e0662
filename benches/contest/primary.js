'use strict';
// Node's own cluster of four; NODE_CLUSTER_SCHED_POLICY chooses the policy. Ends, and ends them, when standard
// input is closed.
const cluster = require('node:cluster');
const path = require('node:path');

cluster.setupPrimary({ exec: path.join(__dirname, 'hello.js') });
for (let count = 0; count < 4; count += 1) cluster.fork();
process.stdin
  .on('end', () => {
    cluster.on('exit', () => Object.keys(cluster.workers).length || process.exit());
    for (const worker of Object.values(cluster.workers)) worker.process.kill('SIGKILL');
  })
  .resume();
