// What the clients have in common: their settings, a server for the browser, and
// one line of JSON on standard output for the test.
import { createServer } from 'node:http';
import { inspect } from 'node:util';

export const settings = JSON.parse(process.env.SETTINGS);

export function report(result) {
  process.stdout.write(JSON.stringify(result) + '\n');
}

// serve answers /start with start(), the address to send the merchant to, and the
// redirect URI with what finish() makes of the address that the merchant came by.
export function serve(start, finish) {
  createServer(async (req, res) => {
    const url = new URL(req.url, settings.origin);
    try {
      if (url.pathname === '/start') {
        res.writeHead(302, { location: String(await start()) }).end();
      } else if (url.pathname === '/callback') {
        report(await finish(url));
        res.setHeader('content-type', 'text/html');
        res.end('<!doctype html><title>The vendor</title><h1>Done</h1>');
      } else {
        res.writeHead(404).end();
      }
    } catch (err) {
      report({ failed: explain(err) });
      res.setHeader('content-type', 'text/html');
      res.end('<!doctype html><title>The vendor</title><h1>Failed</h1>');
    }
  }).listen(settings.port, '127.0.0.1', () => report({ ready: true }));
}

// explain is all that an error says, with what the server answered.
export function explain(err) {
  return inspect(err, { depth: 3, maxStringLength: 300 }).slice(0, 1500);
}
