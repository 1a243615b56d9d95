// HTTP over Node's own modules. Where the container has several CPUs, `cluster` runs a process for each, as Node's
// documentation recommends; `availableParallelism` knows the CPU limit of the container.
import cluster from 'node:cluster';
import http from 'node:http';
import os from 'node:os';

const port = Number(process.env.PORT ?? 60000);
const TEXT = 'text/plain; charset=utf-8';
const routes = {
  '/': [TEXT, 'Hello from tare\n'],
  '/json': ['application/json', '{"message":"Hello from tare"}\n'],
  '/health': [TEXT, 'ok\n'],
  '/ready': [TEXT, 'ready\n'],
};

function answer(request, response) {
  const found = request.method === 'GET' && Object.hasOwn(routes, request.url);
  const [type, body] = found ? routes[request.url] : [TEXT, 'not found\n'];
  response.writeHead(found ? 200 : 404, { 'Content-Type': type, 'Content-Length': Buffer.byteLength(body) });
  response.end(body);
}

function serve() {
  const server = http.createServer({ keepAliveTimeout: 75_000 }, answer);
  // The default backlog of 511 refuses connections of a busy client.
  server.listen({ port, host: '0.0.0.0', backlog: 4096 });
  process.once('SIGTERM', () => {
    server.close(() => process.exit());
    server.closeIdleConnections();
  });
}

const workers = os.availableParallelism();
if (cluster.isPrimary && workers > 1) {
  for (let worker = 0; worker < workers; worker += 1) {
    cluster.fork();
  }
  let terminated = false;
  // A worker that ends by itself takes the container with it, which is then restarted.
  cluster.on('exit', () => terminated || process.exit(1));
  process.once('SIGTERM', () => {
    terminated = true;
    for (const worker of Object.values(cluster.workers)) {
      worker.process.kill('SIGTERM');
    }
  });
} else {
  serve();
}
