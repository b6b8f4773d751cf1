import { rm } from "node:fs";
import { lstat, mkdtemp, readdir, rm as remove } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { FastifyInstance, FastifyRequest } from "fastify";
import { ownIdentity, startTicks, type ProcessIdentity } from "../../lib/process-identity.ts";
import { malformed } from "../http/errors.ts";

const PREFIX = "dryapi-upload-";
/** No request lasts so long: an owner that cannot be looked at (another container, an older version) left the folder behind. */
const OLD_MS = 3_600_000;

interface Folder {
  readonly path: string;
  /** Stops watching the client's connection. */
  readonly unwatch: () => void;
}

const folders = new WeakMap<FastifyRequest, Folder>();
let owner: Promise<string> | null = null;

/** The request's own folder for files, which goes with its response. @throws HttpProblem 400 when the client has left meanwhile */
export async function uploadFolder(request: FastifyRequest): Promise<string> {
  const known = folders.get(request);
  if (known !== undefined) return known.path;
  owner ??= ownIdentity().then(ownerText);
  const path = await mkdtemp(join(tmpdir(), `${PREFIX}${await owner}-`));
  const { socket, destroyed, readableEnded } = request.raw;
  // A client that leaves once its body has been read gets no response, and no hook of the framework runs.
  const drop = (): void => dropUploads(request, () => undefined);
  folders.set(request, { path, unwatch: () => void socket.off("close", drop) });
  socket.once("close", drop);
  if (!socket.destroyed && (!destroyed || readableEnded)) return path;
  // The client has left meanwhile, and the hooks have run.
  drop();
  throw malformed("The request was broken off.");
}

/** Temporary files go when their response has gone, whatever became of it. */
export function installUploadCleanup(app: FastifyInstance): void {
  app.addHook("onResponse", (request, _reply, done) => dropUploads(request, done));
  app.addHook("onRequestAbort", dropUploads);
}

function dropUploads(request: FastifyRequest, done: () => void): void {
  const folder = folders.get(request);
  if (folder === undefined) return done();
  folders.delete(request);
  folder.unwatch();
  // A file that is being made meanwhile keeps its folder from going: then it is tried again.
  rm(folder.path, { recursive: true, force: true, maxRetries: 5 }, () => done());
}

/**
 * Removes the folders of gateways that are no more (killed, rebooted): at once where their process can be looked for, else once they are
 * an hour old. Those of other gateways that live on this host stay. Returns how many went.
 */
export async function sweepUploads(dir: string = tmpdir(), nowMs: number = Date.now()): Promise<number> {
  const own = await ownIdentity();
  const names = (await readdir(dir).catch(() => [])).filter((name) => name.startsWith(PREFIX));
  let removed = 0;
  for (const name of names) {
    const path = join(dir, name);
    const found = await lstat(path).catch(() => null);
    // Somebody else's is not ours to remove.
    if (found?.isDirectory() !== true || found.uid !== process.getuid?.()) continue;
    const isGone = (await isOwnerGone(name.slice(PREFIX.length), own)) ?? nowMs - found.mtimeMs > OLD_MS;
    if (!isGone) continue;
    await remove(path, { recursive: true, force: true, maxRetries: 2 }).then(
      () => (removed += 1),
      () => undefined,
    );
  }
  return removed;
}

/** `<pid>.<start>.<boot>.<namespace>`, as a part of a file's name. */
function ownerText({ pid, startTicks: start, bootId, pidNamespace }: ProcessIdentity): string {
  return [pid, start, bootId.slice(0, 8), pidNamespace.replaceAll(/\D/g, "") || "unknown"].join(".");
}

/** Null: nobody can say from here. */
async function isOwnerGone(label: string, own: ProcessIdentity): Promise<boolean | null> {
  const [pid, start, ...place] = label.split("-")[0]?.split(".") ?? [];
  const [, , ...here] = ownerText(own).split(".");
  if (start === undefined || start === "unknown" || place.join() !== here.join()) return null;
  return (await startTicks(Number(pid))) !== start;
}
