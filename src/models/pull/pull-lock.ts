import { rmSync, statSync } from "node:fs";
import { open, rm } from "node:fs/promises";
import { createConnection, createServer, type Socket } from "node:net";
import { once } from "node:events";
import { join } from "node:path";
import { errnoOf } from "../../lib/errno.ts";

const NAME = ".pull.sock";

/** Who pulls into a folder, for whoever waits. */
export interface Puller {
  readonly pid: number;
  readonly slug: string;
}

/**
 * One puller a folder of models, whatever the number of processes: a socket in it that its owner listens on. It dies with its process, so that
 * nothing has to be guessed about one that was killed, and it is seen by containers that share the folder on one host.
 */
export async function lockPulls(
  root: string,
  own: Puller,
  onWait: (other: Puller | null) => void,
  signal?: AbortSignal,
): Promise<AsyncDisposable> {
  // Paths of sockets have 107 bytes at most: the folder is named by its descriptor.
  const folder = await open(root, "r");
  const path = join(`/proc/self/fd/${folder.fd}`, NAME);
  try {
    for (;;) {
      signal?.throwIfAborted();
      const server = await listen(path, own);
      if (server !== null) {
        return {
          [Symbol.asyncDispose]: async () => {
            // First the name: whoever waited finds no socket, or one of a new owner.
            await rm(path, { force: true });
            server.close();
            await folder.close();
          },
        };
      }
      await waitFor(path, onWait, signal);
    }
  } catch (thrown) {
    await folder.close();
    throw thrown;
  }
}

/** Null where somebody has it, alive or not. */
async function listen(path: string, own: Puller): Promise<{ readonly close: () => void } | null> {
  const waiting = new Set<Socket>();
  const server = createServer((socket) => {
    waiting.add(socket);
    socket.on("error", () => undefined).once("close", () => waiting.delete(socket));
    socket.unref();
    socket.write(`${JSON.stringify(own)}\n`);
  });
  server.listen(path);
  try {
    await once(server, "listening");
    server.unref();
    return {
      close: () => {
        server.close();
        for (const socket of waiting) socket.destroy();
      },
    };
  } catch (thrown) {
    if (errnoOf(thrown) === "EADDRINUSE") return null;
    throw thrown;
  }
}

/** Until its owner has ended. What a killed one has left is removed. */
async function waitFor(path: string, onWait: (other: Puller | null) => void, signal?: AbortSignal): Promise<void> {
  const socketFile = statSync(path, { throwIfNoEntry: false })?.ino;
  const socket = createConnection(path);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const abort = (): void => reject(signal?.reason as Error);
  signal?.addEventListener("abort", abort, { once: true });
  socket.on("data", (bytes) => onWait(parsePuller(bytes.toString())));
  socket.on("close", () => resolve());
  socket.on("error", (error) => {
    const errno = errnoOf(error);
    // Nobody listens: what a killed one has left. A socket of a new owner is another file.
    if (errno === "ECONNREFUSED" && statSync(path, { throwIfNoEntry: false })?.ino === socketFile) rmSync(path, { force: true });
    if (errno !== "ECONNREFUSED" && errno !== "ENOENT" && errno !== "ECONNRESET") reject(error);
  });
  try {
    await promise;
  } finally {
    signal?.removeEventListener("abort", abort);
    socket.destroy();
  }
}

function parsePuller(text: string): Puller | null {
  try {
    const { pid, slug } = JSON.parse(text) as Partial<Puller>;
    return typeof pid === "number" && typeof slug === "string" ? { pid, slug } : null;
  } catch {
    return null;
  }
}
