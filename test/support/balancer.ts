import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";

/** A TCP load balancer before one gateway at a time. Those who connect while there is none wait. */
export interface Balancer extends AsyncDisposable {
  readonly url: string;
  /** New connections go there; those that are open stay. */
  sendTo(url: string | null): void;
}

export async function startBalancer(): Promise<Balancer> {
  const sockets = new Set<Socket>();
  const waiting = new Set<Socket>();
  let target: URL | null = null;
  const join = (client: Socket, { hostname, port }: URL): void => {
    const upstream = connect(Number(port), hostname);
    sockets.add(upstream);
    upstream.on("error", () => upstream.destroy());
    for (const socket of [client, upstream])
      socket.on("close", () => {
        sockets.delete(upstream);
        client.destroy();
        upstream.destroy();
      });
    client.pipe(upstream).pipe(client);
  };
  const server = createServer((client) => {
    sockets.add(client);
    client.on("error", () => client.destroy());
    client.on("close", () => {
      sockets.delete(client);
      waiting.delete(client);
    });
    if (target === null) waiting.add(client);
    else join(client, target);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    sendTo: (url) => {
      target = url === null ? null : new URL(url);
      if (target === null) return;
      for (const client of waiting) join(client, target);
      waiting.clear();
    },
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
