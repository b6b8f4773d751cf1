import type { Binding, Feed, Session, Tensor, TensorInfo, Traffic } from "../../pipelines/backend.ts";
import { AppError } from "../../protocol/error.ts";
import { openError, runError } from "../ort-error.ts";
import { owned, takeText, type Environment } from "./environment.ts";
import { readEdges } from "./graph-edges.ts";
import type { Handle } from "./handle.ts";
import { readPlacement } from "./node-placement.ts";
import { OrtBinding, type OutputPlaces } from "./ort-binding.ts";
import type { RunGuard } from "./run-guard.ts";
import { sessionOptions, type OrtSettings } from "./session-options.ts";
import type { Pointer } from "./signature.ts";

/** Opens a graph on a thread of the pool. @throws AppError as Backend.open */
export async function openSession(env: Environment, path: string, settings: OrtSettings, guard: RunGuard): Promise<Session> {
  const { kind, index } = settings.device;
  const device = `${kind}:${index}`;
  let handle: Handle<"Session">;
  try {
    using options = sessionOptions(env, settings);
    const pointer = await env.library.callAsync.CreateSession(env.pointer, path, options.pointer);
    handle = owned(env, "Session", `session of ${path}`, pointer);
  } catch (thrown) {
    // What is missing the loader says on stderr; the daemon puts it into the message, with what to install.
    throw openError(thrown, path, device);
  }
  try {
    settings.onPlacement?.(path, readPlacement(env, handle.pointer));
    return new OrtSession({ env, handle, path, device, guard, profiled: settings.profileDir !== undefined });
  } catch (thrown) {
    handle[Symbol.dispose]();
    throw thrown;
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
}

/** A session and its run options; one run at a time, each on a thread of the pool, so that this thread goes on. */
export class OrtSession implements Session {
  readonly inputs: readonly TensorInfo[];
  readonly outputs: readonly TensorInfo[];
  readonly #parts: SessionParts;
  readonly #runOptions: Handle<"RunOptions">;
  readonly #bindings = new Set<OrtBinding>();
  readonly #places: OutputPlaces;
  #last: Promise<unknown> = Promise.resolve();
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
    if (handle.released) throw new AppError("INTERNAL", `${path} was run after its release: this is a bug`);
    const binding = new OrtBinding({
      env,
      what: path,
      pointer: env.library.call.CreateIoBinding(handle.pointer),
      places: this.#places,
      inputs: this.inputs,
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
    if (handle.released) return;
    await this.#next(() => {
      if (handle.released) return;
      for (const binding of this.#bindings) binding[Symbol.dispose]();
      if (profiled) takeText(env, env.library.call.SessionEndProfiling(handle.pointer, env.allocator));
      this.#runOptions[Symbol.dispose]();
      handle[Symbol.dispose]();
    });
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
    using session = handle.lend();
    using options = this.#runOptions.lend();
    using bound = binding.lend();
    using _ = guard.begin(() => call.RunOptionsSetTerminate(options.pointer));
    const startedAt = performance.now();
    try {
      await callAsync.RunWithBinding(session.pointer, options.pointer, bound.pointer);
    } catch (thrown) {
      // The library says it in words of its own; that it was asked to is what counts.
      throw guard.cancelled() ?? thrown;
    } finally {
      this.#runMs += performance.now() - startedAt;
      call.RunOptionsUnsetTerminate(options.pointer);
    }
  }

  #failure(thrown: unknown): AppError {
    const { path, device } = this.#parts;
    return thrown instanceof AppError ? thrown : runError(thrown, path, device);
  }
}

/** Where each output is made: an output that stays is kept there. */
function outputPlaces(env: Environment, session: Pointer<"Session">, outputs: readonly TensorInfo[]): OutputPlaces {
  const infos = new BigUint64Array(outputs.length);
  if (outputs.length > 0) env.library.call.SessionGetMemoryInfoForOutputs(session, infos, outputs.length);
  return new Map(outputs.map(({ name }, at) => [name, infos[at] as Pointer<"MemoryInfo">]));
}
