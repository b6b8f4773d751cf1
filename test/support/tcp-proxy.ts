import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";

/** What to do with a chunk on its way to the server: change it, hold it back for ever, or cut the connection. */
export type ChunkAction = { readonly do: "pass"; readonly chunk: Buffer } | { readonly do: "hold" } | { readonly do: "cut" };

export interface TcpProxy extends AsyncDisposable {
  readonly endpoint: string;
}

/** A loopback proxy before a real server that damages, delays or cuts what clients send. `onChunk` sees each chunk once. */
export async function startTcpProxy(target: string, onChunk: (chunk: Buffer) => ChunkAction): Promise<TcpProxy> {
  const { hostname, port } = new URL(target);
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const upstream = connect(Number(port), hostname);
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on("error", () => socket.destroy());
      socket.on("close", () => {
        sockets.delete(socket);
        client.destroy();
        upstream.destroy();
      });
    }
    upstream.pipe(client);
    client.on("data", (chunk: Buffer) => {
      const action = onChunk(chunk);
      if (action.do === "pass") upstream.write(action.chunk);
      if (action.do === "cut") client.destroy();
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
