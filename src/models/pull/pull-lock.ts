import { randomBytes } from "node:crypto";
import { linkSync, renameSync, rmSync, statSync } from "node:fs";
import { open } from "node:fs/promises";
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

/**
 * Null where somebody has it, alive or not. The socket gets the lock's name only once it is listened on: between the two steps of a bind and a
 * listen it would look as if its owner were dead.
 */
async function listen(path: string, own: Puller): Promise<{ readonly close: () => void } | null> {
  const waiting = new Set<Socket>();
  const server = createServer((socket) => {
    waiting.add(socket);
    socket.on("error", () => undefined).once("close", () => waiting.delete(socket));
    socket.unref();
    socket.write(`${JSON.stringify(own)}\n`);
  });
  const unnamed = besideOf(path);
  server.listen(unnamed);
  await once(server, "listening");
  server.unref();
  const owned = identityOf(unnamed);
  const end = (): void => {
    server.close();
    for (const socket of waiting) socket.destroy();
  };
  try {
    linkSync(unnamed, path);
  } catch (thrown) {
    end();
    if (errnoOf(thrown) === "EEXIST") return null;
    throw thrown;
  } finally {
    rmSync(unnamed, { force: true });
  }
  return {
    close: () => {
      // First the name: whoever waited finds no socket, or one of a new owner.
      if (identityOf(path) === owned) rmSync(path, { force: true });
      end();
    },
  };
}

/** Until its owner has ended. What a killed one has left is removed. */
async function waitFor(path: string, onWait: (other: Puller | null) => void, signal?: AbortSignal): Promise<void> {
  const seen = identityOf(path);
  const socket = createConnection(path);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const abort = (): void => reject(signal?.reason as Error);
  signal?.addEventListener("abort", abort, { once: true });
  socket.on("data", (bytes) => onWait(parsePuller(bytes.toString())));
  socket.on("close", () => resolve());
  socket.on("error", (error) => {
    const errno = errnoOf(error);
    if (errno === "ECONNREFUSED" && seen !== null) removeDead(path, seen);
    else if (errno !== "ECONNREFUSED" && errno !== "ENOENT" && errno !== "ECONNRESET") reject(error);
  });
  try {
    await promise;
  } finally {
    signal?.removeEventListener("abort", abort);
    socket.destroy();
  }
}

/** Removes the socket that nobody listens on, and no other: a new owner's may have come under its name meanwhile, and is put back. */
function removeDead(path: string, dead: string): void {
  if (identityOf(path) !== dead) return;
  const aside = besideOf(path);
  try {
    renameSync(path, aside);
    if (identityOf(aside) !== dead) linkSync(aside, path);
  } catch (thrown) {
    const errno = errnoOf(thrown);
    if (errno !== "ENOENT" && errno !== "EEXIST") throw thrown;
  } finally {
    rmSync(aside, { force: true });
  }
}

/** File systems give the number of a removed file to the next one at once: the time at which the socket was made tells them apart. */
function identityOf(path: string): string | null {
  const found = statSync(path, { throwIfNoEntry: false, bigint: true });
  return found === undefined ? null : `${found.ino}/${found.mtimeNs}`;
}

function besideOf(path: string): string {
  return `${path}.${randomBytes(6).toString("hex")}`;
}

function parsePuller(text: string): Puller | null {
  try {
    const { pid, slug } = JSON.parse(text) as Partial<Puller>;
    return typeof pid === "number" && typeof slug === "string" ? { pid, slug } : null;
  } catch {
    return null;
  }
}
