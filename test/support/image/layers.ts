import { execFile, spawn, type ChildProcess, type SpawnOptions } from "node:child_process";
import { createHash } from "node:crypto";
import type { Stats } from "node:fs";
import { lstat, mkdir, symlink } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** A file system as a stack of folders, the uppermost first. `key` says how it came to be: equal keys, equal files. */
export interface Layer {
  readonly key: string;
  readonly folders: readonly string[];
}

/** A command in a root: what `docker run` and RUN need to know. */
export interface Inside {
  readonly env: Readonly<Record<string, string>>;
  readonly workdir: string;
  /** `uid:gid`, or empty for root. */
  readonly user: string;
}

/**
 * Layers of overlayfs in one folder, as a container builder keeps them. Works only for root in a mount namespace of its own, with which
 * all that is mounted here goes: see `inOwnNamespaces`.
 */
export class Layers {
  readonly #dir: string;
  readonly #made = new Map<string, Promise<Layer>>();
  #count = 0;

  private constructor(dir: string) {
    this.#dir = dir;
  }

  static async open(dir: string): Promise<Layers> {
    const layers = new Layers(dir);
    await layers.#newFolder("empty");
    try {
      await layers.add({ key: "probe", folders: ["empty"] }, "probe", () => Promise.resolve());
    } catch {
      // Where temporary folders lie on an overlay themselves, as in a container, only memory can hold what is written.
      await run("mount", ["-t", "tmpfs", "tmpfs", dir]);
      layers.#made.clear();
      await layers.#newFolder("empty");
    }
    return layers;
  }

  /** A folder that lies elsewhere, as the lowest layer. It is never written to. */
  async base(key: string, folder: string): Promise<Layer> {
    const name = this.#newName();
    await symlink(folder, join(this.#dir, name));
    return { key: hash("base", key), folders: [name] };
  }

  /** The layer that `work` makes of its parent; made once for each parent and `what`. */
  add(parent: Layer, what: string, work: (root: string) => Promise<void>): Promise<Layer> {
    const key = hash(parent.key, what);
    const known = this.#made.get(key);
    if (known !== undefined) return known;
    const made = this.#make(parent, key, work);
    this.#made.set(key, made);
    return made;
  }

  async #make(parent: Layer, key: string, work: (root: string) => Promise<void>): Promise<Layer> {
    const upper = this.#newName();
    await this.#newFolder(upper);
    await this.#newFolder(`${upper}w`);
    await this.#mounted(`lowerdir=${parent.folders.join(":")},upperdir=${upper},workdir=${upper}w`, work);
    return { key, folders: [upper, ...parent.folders] };
  }

  /** A layer that is made of nothing, to be put `upon` others. */
  alone(what: string, work: (root: string) => Promise<void>): Promise<Layer> {
    return this.add({ key: "nothing", folders: ["empty"] }, what, work);
  }

  /** A layer with the files of another above its own. */
  upon(parent: Layer, { key, folders }: Layer): Layer {
    return { key: hash(parent.key, key), folders: [...folders.filter((name) => name !== "empty"), ...parent.folders] };
  }

  /** What a layer has at a path; links are not followed. */
  async look(layer: Layer, path: string): Promise<Stats | null> {
    for (const folder of layer.folders) {
      const stats = await lstat(join(this.#dir, folder, path)).catch(() => null);
      if (stats !== null) return stats;
    }
    return null;
  }

  /** The layer's files, for reading only. */
  async read<T>(layer: Layer, work: (root: string) => Promise<T>): Promise<T> {
    return this.#mounted(`ro,lowerdir=${["empty", ...layer.folders].join(":")}`, work);
  }

  async #mounted<T>(options: string, work: (root: string) => Promise<T>): Promise<T> {
    const root = join(this.#dir, `${this.#newName()}m`);
    await mkdir(root);
    // Relative names: all options together must fit into one page of memory.
    await run("mount", ["-t", "overlay", "overlay", "-o", options, root], { cwd: this.#dir });
    try {
      return await work(root);
    } finally {
      await run("umount", ["--recursive", root]);
    }
  }

  #newName(): string {
    return String(this.#count++);
  }

  async #newFolder(name: string): Promise<void> {
    await mkdir(join(this.#dir, name));
  }
}

function hash(...parts: readonly string[]): string {
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex");
}

/** Makes /proc and /dev of a mounted root those of this machine, and puts each `[from, to]` into it. They go with the root's own mount. */
export async function mountSystem(root: string, binds: readonly (readonly [string, string])[] = []): Promise<void> {
  await run("mount", ["-t", "proc", "proc", join(root, "proc")]);
  await run("mount", ["--rbind", "/dev", join(root, "dev")]);
  await run("mount", ["--make-rslave", join(root, "dev")]);
  for (const [from, to] of binds) await run("mount", ["-o", "bind,ro", from, join(root, to)]);
}

/** Runs a command in a mounted root; resolves to what it printed. @throws Error with its last words */
export async function runInside(
  root: string,
  inside: Inside,
  command: readonly string[],
  through: readonly string[] = [],
): Promise<string> {
  const child = spawnInside(root, inside, command, { stdio: ["ignore", "pipe", "pipe"] }, through);
  let said = "";
  child.stdout?.setEncoding("utf8").on("data", (text: string) => (said += text));
  child.stderr?.setEncoding("utf8").on("data", (text: string) => (said += text));
  const { promise, resolve } = Promise.withResolvers<string>();
  child.once("error", (error) => resolve(error.message));
  child.once("close", (code, signal) => resolve(code === 0 ? "" : `ended with ${signal ?? code}`));
  const ended = await promise;
  if (ended !== "") throw new Error(`${command.join(" ")}: ${ended}: ${said.trim().split("\n").slice(-30).join("\n")}`);
  return said;
}

/** The same, still running. `through`: commands that each become the next, before the root is entered. */
export function spawnInside(
  root: string,
  { env, workdir, user }: Inside,
  command: readonly string[],
  options: SpawnOptions,
  through: readonly string[] = [],
): ChildProcess {
  const as = user === "" ? [] : [`--userspec=${user}`, "--groups="];
  const [program = "chroot", ...args] = [...through, "chroot", ...as, root, "/bin/sh", "-c", 'cd "$0" && exec "$@"', workdir, ...command];
  return spawn(program, args, { ...options, env: { ...env } });
}
