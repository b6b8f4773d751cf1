import type { Binding, Feed, Session, Tensor, TensorInfo, Traffic } from "../../pipelines/backend.ts";
import { AppError } from "../../protocol/error.ts";
import { openError, runError } from "../ort-error.ts";
import { owned, takeText, type Environment } from "./environment.ts";
import { readEdges } from "./graph-edges.ts";
import type { Handle } from "./handle.ts";
import { readPlacement } from "./node-placement.ts";
import { OrtBinding } from "./ort-binding.ts";
import { requireTaken } from "./require-taken.ts";
import type { RunGuard } from "./run-guard.ts";
import { namesProviders, runEntries, sessionOptions, type OrtSettings } from "./session-options.ts";
import type { Pointer } from "./signature.ts";

/** Opens a graph on a thread of the pool. @throws AppError as Backend.open */
export async function openSession(env: Environment, path: string, settings: OrtSettings, guard: RunGuard): Promise<Session> {
  const { kind, index } = settings.device;
  const device = `${kind}:${index}`;
  const providers: string[] = [];
  let handle: Handle<"Session">;
  try {
    using options = sessionOptions(env, path, {
      ...settings,
      onProvider: (report) => {
        providers.push(report.provider);
        settings.onProvider?.(report);
      },
    });
    handle = await createSession(env, path, options.pointer, guard);
  } catch (thrown) {
    // What is missing the loader says on stderr; the daemon puts it into the message, with what to install.
    throw thrown instanceof AppError ? thrown : openError(thrown, path, device);
  }
  try {
    if (namesProviders(settings.runtime?.(path) ?? {}, settings.device)) requireTaken(env, handle.pointer, path, providers);
    settings.onPlacement?.(path, readPlacement(env, handle.pointer));
    const profiled = settings.profileDir !== undefined;
    return new OrtSession({ env, handle, path, device, guard, profiled, runEntries: runEntries(path, settings) });
  } catch (thrown) {
    handle[Symbol.dispose]();
    throw thrown;
  }
}

/** What a signal ends is looked at between the library's own steps: nodes that are placed, weights that are read. @throws AppError CANCELLED; OrtFailure */
async function createSession(
  env: Environment,
  path: string,
  options: Pointer<"SessionOptions">,
  guard: RunGuard,
): Promise<Handle<"Session">> {
  const { call, callAsync } = env.library;
  using guarded = guard.begin(() => call.SessionOptionsSetLoadCancellationFlag(options, 1), `the load of ${path}`);
  try {
    return owned(env, "Session", `session of ${path}`, await callAsync.CreateSession(env.pointer, path, options));
  } catch (thrown) {
    throw guarded.cancelled() ?? thrown;
  }
}

interface SessionParts {
  readonly env: Environment;
  readonly handle: Handle<"Session">;
  readonly path: string;
  /** For messages. */
  readonly device: string;
  readonly guard: RunGuard;
  readonly profiled: boolean;
  /** Config entries of each run. */
  readonly runEntries: Readonly<Record<string, string>>;
}

/** A session and its run options; one run at a time, each on a thread of the pool, so that this thread goes on. */
export class OrtSession implements Session {
  readonly inputs: readonly TensorInfo[];
  readonly outputs: readonly TensorInfo[];
  readonly #parts: SessionParts;
  readonly #runOptions: Handle<"RunOptions">;
  readonly #bindings = new Set<OrtBinding>();
  readonly #places: ReadonlyMap<string, Pointer<"MemoryInfo">>;
  #last: Promise<unknown> = Promise.resolve();
  #closing = false;
  #runMs = 0;
  #toDevice = 0;
  #toHost = 0;

  constructor(parts: SessionParts) {
    const { env, handle, path } = parts;
    this.#parts = parts;
    const { inputs, outputs } = readEdges(env, handle.pointer, path);
    this.inputs = inputs;
    this.outputs = outputs;
    this.#places = outputPlaces(env, handle.pointer, outputs);
    this.#runOptions = owned(env, "RunOptions", `run options of ${path}`, env.library.call.CreateRunOptions());
    for (const [key, value] of Object.entries(parts.runEntries)) env.library.call.AddRunConfigEntry(this.#runOptions.pointer, key, value);
  }

  get runMs(): number {
    return this.#runMs;
  }

  get traffic(): Traffic {
    return { toDevice: this.#toDevice, toHost: this.#toHost };
  }

  async run(feeds: Readonly<Record<string, Feed>>): Promise<Readonly<Record<string, Tensor>>> {
    using binding = this.bind();
    for (const [name, feed] of Object.entries(feeds)) binding.input(name, feed);
    for (const { name } of this.outputs) binding.output(name, "host");
    return (await binding.run()).host;
  }

  bind(): Binding {
    const { env, handle, path } = this.#parts;
    if (this.#closing) throw new AppError("INTERNAL", `${path} was run after its release: this is a bug`);
    const binding = new OrtBinding({
      env,
      what: path,
      pointer: this.#try(() => env.library.call.CreateIoBinding(handle.pointer)),
      placeOf: (name) => this.#placeOf(name),
      inputs: this.inputs,
      outputs: this.outputs,
      run: (pointer) => this.#next(() => this.#run(pointer)),
      failed: (thrown) => this.#failure(thrown),
      crossed: ({ toDevice, toHost }) => {
        this.#toDevice += toDevice;
        this.#toHost += toHost;
      },
      ended: () => this.#bindings.delete(binding),
    });
    this.#bindings.add(binding);
    return binding;
  }

  async release(): Promise<void> {
    const { env, handle, profiled } = this.#parts;
    this.#closing = true;
    await this.#next(() => {
      if (handle.released) return;
      // Last in, first out: the bindings before the session that they are of, also when the profile cannot be written.
      using parts = new DisposableStack();
      parts.use(handle);
      parts.use(this.#runOptions);
      for (const binding of this.#bindings) parts.use(binding);
      if (profiled)
        takeText(
          env,
          this.#try(() => env.library.call.SessionEndProfiling(handle.pointer, env.allocator)),
        );
    });
  }

  /** Where the library makes that output. Its memory info is the session's own: not to be had once that is released. */
  #placeOf(name: string): Pointer<"MemoryInfo"> {
    const { handle, path } = this.#parts;
    if (handle.released) throw new AppError("INTERNAL", `${path} was used after its release: this is a bug`);
    return this.#places.get(name)!;
  }

  #try<T>(work: () => T): T {
    try {
      return work();
    } catch (thrown) {
      throw this.#failure(thrown);
    }
  }

  /** After all that was asked for before. */
  #next<T>(work: () => T | Promise<T>): Promise<T> {
    const done = this.#last.then(work);
    this.#last = done.catch(() => undefined);
    return done;
  }

  async #run(binding: Handle<"IoBinding">): Promise<void> {
    const { env, handle, guard } = this.#parts;
    const { call, callAsync } = env.library;
    const { running } = env;
    using session = handle.lend();
    using options = this.#runOptions.lend();
    using bound = binding.lend();
    using guarded = guard.begin(() => call.RunOptionsSetTerminate(options.pointer));
    const startedAt = performance.now();
    running.add(options.pointer);
    try {
      await callAsync.RunWithBinding(session.pointer, options.pointer, bound.pointer);
    } catch (thrown) {
      // The library says it in words of its own; that it was asked to is what counts.
      throw guarded.cancelled() ?? thrown;
    } finally {
      this.#runMs += performance.now() - startedAt;
      running.delete(options.pointer);
      call.RunOptionsUnsetTerminate(options.pointer);
    }
  }

  #failure(thrown: unknown): AppError {
    const { path, device } = this.#parts;
    return thrown instanceof AppError ? thrown : runError(thrown, path, device);
  }
}

/** Where each output is made: an output that stays is kept there. */
function outputPlaces(
  env: Environment,
  session: Pointer<"Session">,
  outputs: readonly TensorInfo[],
): ReadonlyMap<string, Pointer<"MemoryInfo">> {
  const infos = new BigUint64Array(outputs.length);
  if (outputs.length > 0) env.library.call.SessionGetMemoryInfoForOutputs(session, infos, outputs.length);
  return new Map(outputs.map(({ name }, at) => [name, infos[at] as Pointer<"MemoryInfo">]));
}
