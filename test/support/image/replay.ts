import { execFile } from "node:child_process";
import { chmod, chown, copyFile, lstat, mkdir, readlink, stat, symlink } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { promisify } from "node:util";
import type { BuildContext } from "./build-context.ts";
import { execForm, expand, pairs, type Dockerfile, type Instruction, type Stage, type Variables } from "./dockerfile.ts";
import { mountSystem, runInside, type Inside, type Layer, type Layers } from "./layers.ts";

const run = promisify(execFile);

/** What a builder makes of a stage: files, and what its image says of itself. */
export interface Image extends Inside {
  readonly layer: Layer;
  readonly args: Variables;
  readonly labels: Variables;
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  readonly healthcheck: readonly string[];
  readonly volumes: readonly string[];
  readonly ports: readonly string[];
}

/** What stands in for a base image, and what of this machine its RUN steps see. */
export interface StandIn {
  readonly layer: Layer;
  readonly env: Variables;
}

export interface ReplayOptions {
  readonly dockerfile: Dockerfile;
  readonly context: BuildContext;
  readonly layers: Layers;
  readonly standIn: (image: string) => Promise<StandIn>;
  /** For RUN alone, as a builder passes on the proxies of its machine. */
  readonly runEnv?: Variables;
  /** A layer to put under a RUN step in a working folder, whose command then finds its work done; null for none. */
  readonly before?: (command: string, workdir: string) => Promise<Layer | null>;
  /** `[from, to]` for RUN alone. */
  readonly binds?: readonly (readonly [string, string])[];
}

const BASE_ENV = { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" };

/** Carries out a Dockerfile's steps in its own order, stage by stage, and only the stages that the target needs. */
export class Replay {
  readonly #options: ReplayOptions;
  readonly #stages = new Map<string, Promise<Image>>();

  constructor(options: ReplayOptions) {
    this.#options = options;
  }

  /** @throws Error that names file, line and instruction of the step that fails */
  image(target?: string): Promise<Image> {
    const { stages, path } = this.#options.dockerfile;
    const index = target === undefined ? stages.length - 1 : stages.findIndex(({ name }) => name === target);
    const stage = stages[index];
    if (stage === undefined) throw new Error(`${path}: there is no stage ${target}`);
    const known = this.#stages.get(stage.name) ?? this.#build(stage, new Set(stages.slice(0, index).map(({ name }) => name)));
    this.#stages.set(stage.name, known);
    return known;
  }

  async #build(stage: Stage, earlier: ReadonlySet<string>): Promise<Image> {
    const { dockerfile, standIn } = this.#options;
    const globals: Record<string, string> = {};
    for (const arg of dockerfile.globals) Object.assign(globals, argOf(arg, globals, {}));
    const base = expand(stage.base, globals);
    let image: Image;
    if (earlier.has(base)) image = { ...(await this.image(base)), args: {} };
    else {
      const { layer, env } = await standIn(base);
      const nothing = { labels: {}, entrypoint: [], cmd: [], healthcheck: [], volumes: [], ports: [] };
      image = { layer, env: { ...BASE_ENV, ...env }, workdir: "/", user: "", args: {}, ...nothing };
    }
    for (const step of stage.steps) {
      try {
        image = { ...image, ...(await this.#step(image, step, globals, earlier)) };
      } catch (thrown) {
        const { message } = thrown as Error;
        throw new Error(`${dockerfile.path}:${step.line}: ${step.op} ${step.rest}: ${message}`, { cause: thrown });
      }
    }
    return image;
  }

  async #step(image: Image, step: Instruction, globals: Variables, earlier: ReadonlySet<string>): Promise<Partial<Image>> {
    const variables = { ...image.args, ...image.env };
    const { op, rest } = step;
    if (op === "ARG") return { args: { ...image.args, ...argOf(step, variables, globals) } };
    if (op === "ENV") return { env: { ...image.env, ...pairs(rest, variables) } };
    if (op === "LABEL") return { labels: { ...image.labels, ...pairs(rest, variables) } };
    if (op === "USER") return { user: expand(rest, variables) };
    if (op === "VOLUME") return { volumes: [...image.volumes, ...words(step, variables)] };
    if (op === "EXPOSE") return { ports: [...image.ports, ...words(step, variables)] };
    // A new ENTRYPOINT voids the base's CMD.
    if (op === "ENTRYPOINT") return { entrypoint: command(rest), cmd: [] };
    if (op === "CMD") return { cmd: command(rest) };
    if (op === "HEALTHCHECK") return { healthcheck: command(rest.replace(/^CMD\s+/, "")) };
    if (op === "WORKDIR") {
      const workdir = resolve(image.workdir, expand(rest, variables));
      const layer = await this.#options.layers.add(image.layer, `WORKDIR ${workdir}`, async (root) => {
        await mkdir(join(root, workdir), { recursive: true });
      });
      return { workdir, layer };
    }
    if (op === "RUN") return { layer: await this.#run(image, rest) };
    if (op === "COPY") return { layer: await this.#copy(image, step, variables, earlier) };
    if (op === "STOPSIGNAL") return {};
    throw new Error("the replay does not know what this does");
  }

  async #run(image: Image, rest: string): Promise<Layer> {
    const { layers, runEnv = {}, binds = [], before } = this.#options;
    const prepared = await before?.(rest, image.workdir);
    const parent = prepared === null || prepared === undefined ? image.layer : layers.upon(image.layer, prepared);
    const env = { HOME: "/root", ...runEnv, ...image.args, ...image.env };
    return layers.add(parent, JSON.stringify(["RUN", rest, image.args, image.env, image.user, image.workdir]), async (root) => {
      await mountSystem(root, binds);
      await runInside(root, { ...image, env }, command(rest));
    });
  }

  async #copy(image: Image, step: Instruction, variables: Variables, earlier: ReadonlySet<string>): Promise<Layer> {
    const { layers, context } = this.#options;
    if ("chown" in step.flags || "chmod" in step.flags) throw new Error("--chown and --chmod are not replayed yet");
    if (/[*?[]/.test(step.rest)) throw new Error("wildcards are not replayed");
    const paths = expand(step.rest, variables).split(/\s+/);
    const to = paths.pop() ?? "";
    if (paths.length === 0) throw new Error("expected COPY <source> ... <destination>");
    const intoFolder = /(^|\/)\.?$/.test(to);
    if (paths.length > 1 && !intoFolder) throw new Error(`several sources: ${to} must end with /`);
    const target = resolve(image.workdir, to);
    const { from } = step.flags;
    if (from !== undefined && !earlier.has(from)) throw new Error(`--from=${from}: no stage above this one has that name`);
    await this.#refuseDoubtful(image.layer, target, paths.length === 1 && !intoFolder);
    if (from === undefined) {
      for (const path of paths)
        if (context.filesOf(path).length === 0)
          throw new Error(`${path} is not in the build context (missing, or .dockerignore keeps it out)`);
      const copied = layers.alone(JSON.stringify(["COPY", paths, target, intoFolder]), (root) =>
        copyFromContext(context, paths, join(root, target), intoFolder),
      );
      return layers.upon(image.layer, await copied);
    }
    const source = (await this.image(from)).layer;
    const copied = layers.alone(JSON.stringify(["COPY", source.key, paths, target, intoFolder]), (root) =>
      layers.read(source, (sourceRoot) => copyFromStage(sourceRoot, paths, join(root, target), intoFolder)),
    );
    return layers.upon(image.layer, await copied);
  }

  /** Where builders differ, or what a layer made by itself would do otherwise. */
  async #refuseDoubtful(layer: Layer, target: string, mayBeFile: boolean): Promise<void> {
    const { layers } = this.#options;
    for (let at = target; at !== "/"; at = dirname(at))
      if ((await layers.look(layer, at))?.isSymbolicLink() === true) throw new Error(`${at} is a link: name the folder itself`);
    if (mayBeFile && (await layers.look(layer, target))?.isDirectory() === true) throw new Error(`${target} is a folder: end it with /`);
  }
}

/** `name=default`, or a name that takes the default of the ARG before the first FROM. */
function argOf({ rest }: Instruction, variables: Variables, globals: Variables): Variables {
  if (rest.includes("=")) return pairs(rest, variables);
  const value = globals[rest];
  return value === undefined ? {} : { [rest]: value };
}

function words({ rest }: Instruction, variables: Variables): readonly string[] {
  return execForm(rest) ?? expand(rest, variables).split(/\s+/);
}

function command(rest: string): readonly string[] {
  return execForm(rest) ?? ["/bin/sh", "-c", rest];
}

/** A file goes to `target`, or into it; of a folder, what is in it goes into `target`. */
async function copyFromContext(context: BuildContext, paths: readonly string[], target: string, intoFolder: boolean): Promise<void> {
  for (const path of paths) {
    const isFolder = (await stat(join(context.dir, path))).isDirectory();
    for (const file of context.filesOf(path)) {
      const within = isFolder ? file.slice(path.replace(/\/+$/, "").length + 1) : intoFolder ? basename(file) : "";
      await copyOne(join(context.dir, file), join(target, within));
    }
  }
}

async function copyOne(from: string, to: string): Promise<void> {
  await mkdir(dirname(to), { recursive: true });
  const stats = await lstat(from);
  if (stats.isSymbolicLink()) {
    await symlink(await readlink(from), to);
    return;
  }
  await copyFile(from, to);
  await chmod(to, stats.mode & 0o777);
  await chown(to, 0, 0);
}

async function copyFromStage(sourceRoot: string, paths: readonly string[], target: string, intoFolder: boolean): Promise<void> {
  for (const path of paths) {
    const from = join(sourceRoot, path);
    const stats = await lstat(from).catch(() => null);
    if (stats === null) throw new Error(`that stage makes no ${path}`);
    const to = !stats.isDirectory() && intoFolder ? join(target, basename(path)) : target;
    await mkdir(stats.isDirectory() ? to : dirname(to), { recursive: true });
    await run("cp", stats.isDirectory() ? ["-a", `${from}/.`, to] : ["-a", from, to]);
  }
}
