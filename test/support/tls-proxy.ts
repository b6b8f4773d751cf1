import { request, type IncomingMessage } from "node:http";
import { createServer } from "node:https";
import { connect, type AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import { certificate } from "./https-receiver.ts";

/** A reverse proxy as operators run them: TLS in front, the gateway below a path, sockets passed on. */
export interface TlsProxy extends AsyncDisposable {
  /** `https://127.0.0.1:<port>/<path>/` */
  readonly url: string;
}

/** `target`: the gateway's own address; `path`: `/studio`, taken off before it is asked. */
export async function startTlsProxy(target: string, path: string): Promise<TlsProxy> {
  const { hostname, port } = new URL(target);
  const pems = await certificate();
  const server = createServer({ key: pems.private, cert: pems.cert });
  const inner = ({ url = "" }: IncomingMessage): string => (url.startsWith(path) ? url.slice(path.length) || "/" : url);
  server.on("request", (asked: IncomingMessage, response) => {
    const { method, headers } = asked;
    const passed = request({ hostname, port, method, headers, path: inner(asked) }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    passed.on("error", () => response.destroy());
    asked.pipe(passed);
  });
  // Of sockets the server knows no more once they are upgraded.
  const upgraded = new Set<Duplex>();
  server.on("upgrade", (asked: IncomingMessage, socket: Duplex, head) => {
    upgraded.add(socket);
    socket.on("close", () => upgraded.delete(socket));
    const { rawHeaders, method } = asked;
    const passed = connect(Number(port), hostname, () => {
      const lines = rawHeaders.flatMap((name, index) => (index % 2 === 0 ? [`${name}: ${rawHeaders[index + 1]}`] : []));
      passed.write(`${method} ${inner(asked)} HTTP/1.1\r\n${lines.join("\r\n")}\r\n\r\n`);
      passed.write(head);
      socket.pipe(passed).pipe(socket);
    });
    passed.on("error", () => socket.destroy());
    socket.on("error", () => passed.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `https://127.0.0.1:${(server.address() as AddressInfo).port}${path}/`,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      for (const socket of upgraded) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
