import { execFile } from "node:child_process";
import { chown, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { mountSystem, runInside, spawnInside, type Inside, type Layers } from "./layers.ts";
import type { PrivateNetwork } from "./private-network.ts";
import type { Image } from "./replay.ts";
import { Service } from "./service.ts";

const run = promisify(execFile);

export interface ContainerOptions {
  readonly image: Image;
  readonly network: PrivateNetwork;
  readonly env: Readonly<Record<string, string>>;
  /** `[folder here, path there]`, beside the image's volumes. */
  readonly volumes: readonly (readonly [string, string])[];
  /** Empty folder of this container alone, for its volumes. */
  readonly dir: string;
}

/** A read-only root of an image with /tmp in memory, its volumes, and its own user: `docker run --read-only --tmpfs /tmp -v ... -e ...`. */
export class Container {
  readonly #root: string;
  readonly #inside: Inside;
  readonly #image: Image;
  readonly #network: PrivateNetwork;

  private constructor(root: string, { image, env, network }: ContainerOptions) {
    this.#root = root;
    this.#image = image;
    this.#network = network;
    this.#inside = { ...image, env: { ...image.env, ...env } };
  }

  static async use<T>(layers: Layers, options: ContainerOptions, work: (container: Container) => Promise<T>): Promise<T> {
    const { image, volumes, dir } = options;
    const points = await layers.add(image.layer, JSON.stringify(["mount points", volumes.map(([, to]) => to)]), async (root) => {
      for (const [, to] of volumes) await mkdir(join(root, to), { recursive: true });
    });
    return layers.read(points, async (root) => {
      await mountSystem(root);
      await run("mount", ["-t", "tmpfs", "-o", "mode=1777", "tmpfs", join(root, "tmp")]);
      const own = image.volumes.map((to, i) => [join(dir, String(i)), to] as const);
      const [uid = 0, gid = 0] = image.user.split(":").map(Number);
      for (const [from, to] of [...own, ...volumes]) {
        await mkdir(from, { recursive: true });
        await chown(from, uid, gid);
        await run("mount", ["--bind", from, join(root, to)]);
      }
      return work(new Container(root, options));
    });
  }

  /** Another command in the running container, as `docker exec`. @throws Error with its last words */
  exec(command: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<string> {
    return runInside(this.#root, { ...this.#inside, env: { ...this.#inside.env, ...env } }, command, this.#network.enter);
  }

  /** The image's own HEALTHCHECK. @throws Error when it fails */
  health(env: Readonly<Record<string, string>> = {}): Promise<string> {
    return this.exec(this.#image.healthcheck, env);
  }

  /** The image's ENTRYPOINT as process 1 of its own, with these arguments or the image's CMD. */
  async start(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Service> {
    const alone = ["unshare", "--pid", "--fork", "--kill-child", `--mount-proc=${join(this.#root, "proc")}`];
    const command = [...this.#image.entrypoint, ...(args.length > 0 ? args : this.#image.cmd)];
    const inside = { ...this.#inside, env: { ...this.#inside.env, ...env } };
    const child = spawnInside(this.#root, inside, command, { stdio: ["ignore", "pipe", "pipe"] }, [...this.#network.enter, ...alone]);
    return new Service(command.join(" "), child);
  }
}
