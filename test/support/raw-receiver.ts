import { createServer, type AddressInfo, type Socket } from "node:net";

/** One request, as far as a raw server reads it. */
export interface RawRequest {
  readonly socket: Socket;
  /** Of all connections, from 0. */
  readonly connection: number;
  /** On its connection, from 0. */
  readonly number: number;
}

/** A server on 127.0.0.1 that speaks what a test writes: no HTTP of anybody's. */
export interface RawReceiver extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  /** Requests that arrived whole (of `early` ones: their head). */
  readonly requests: readonly RawRequest[];
  readonly connections: () => number;
}

export interface RawReceiverOptions {
  /** Called for each request. */
  readonly answer: (request: RawRequest) => void;
  /** Answers once the head is there, and reads nothing of the body. */
  readonly early?: boolean;
}

export async function startRawReceiver({ answer, early = false }: RawReceiverOptions): Promise<RawReceiver> {
  const requests: RawRequest[] = [];
  const sockets = new Set<Socket>();
  let connections = 0;
  const server = createServer((socket) => {
    const connection = connections;
    connections += 1;
    sockets.add(socket);
    let buffer = Buffer.alloc(0);
    let number = 0;
    socket.on("error", () => undefined).on("close", () => sockets.delete(socket));
    socket.on("data", (chunk: Buffer) => {
      buffer = Buffer.concat([buffer, chunk]);
      for (let end = endOfRequest(buffer, early); end > 0; end = endOfRequest(buffer, early)) {
        buffer = buffer.subarray(end);
        const request = { socket, connection, number };
        number += 1;
        requests.push(request);
        if (early) socket.pause();
        answer(request);
        if (early) return;
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    requests,
    connections: () => connections,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Where the first request in the buffer ends; 0 while it is not whole. */
function endOfRequest(buffer: Buffer, headOnly: boolean): number {
  const head = buffer.indexOf("\r\n\r\n");
  if (head === -1) return 0;
  if (headOnly) return buffer.length;
  const length = Number(/^content-length: *(\d+)/im.exec(buffer.subarray(0, head).toString("latin1"))?.[1] ?? 0);
  const end = head + 4 + length;
  return buffer.length >= end ? end : 0;
}
