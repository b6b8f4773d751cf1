import assert from "node:assert/strict";
import {
  isOnDevice,
  type Backend,
  type Binding,
  type DeviceTensor,
  type Feed,
  type Session,
  type Tensor,
} from "../../src/pipelines/backend.ts";
import { AppError } from "../../src/protocol/error.ts";
import { fixture, must } from "./runtimes.ts";

/** More turns than a machine does in years. */
export const FOREVER = 2n ** 60n;

export interface FuzzOptions {
  readonly seed: number;
  /** Makes a backend of its own for each guard. */
  readonly open: () => Backend;
  /** Asked before each step. */
  readonly goOn: (step: number) => boolean;
}

export interface FuzzFigures {
  steps: number;
  opens: number;
  runs: number;
  /** Runs that ended because something was released, disposed of or cancelled meanwhile. */
  ended: number;
}

/** Numbers of 0 to 1 from a seed (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

interface OpenBinding {
  readonly binding: Binding;
  /** What each input is filled with. */
  readonly fills: Map<"state" | "x", number>;
  /** All are as long. */
  readonly count: number;
  target: "host" | "device" | Tensor;
  busy: boolean;
  gone: boolean;
}
interface OpenSession {
  readonly session: Session;
  readonly abort: AbortController;
  readonly loops: boolean;
  readonly bindings: OpenBinding[];
  closing: boolean;
}
interface Kept {
  readonly tensor: DeviceTensor;
  readonly fill: number;
}

/** Random calls of several sessions in random order, each result against the known answer: what a backend must bear. */
export async function fuzzRuntime({ seed, open, goOn }: FuzzOptions): Promise<FuzzFigures> {
  const fuzz = new Fuzz(seed, open);
  for (let step = 0; goOn(step); step += 1) await fuzz.step();
  await fuzz.end();
  return fuzz.figures;
}

class Fuzz {
  readonly figures: FuzzFigures = { steps: 0, opens: 0, runs: 0, ended: 0 };
  readonly #random: () => number;
  readonly #open: () => Backend;
  readonly #sessions: OpenSession[] = [];
  readonly #pending = new Set<Promise<void>>();
  #kept: Kept[] = [];
  #failure: unknown = null;

  constructor(seed: number, open: () => Backend) {
    this.#random = seeded(seed);
    this.#open = open;
  }

  async step(): Promise<void> {
    this.figures.steps += 1;
    if (this.#sessions.length === 0 || (this.#sessions.length < 5 && this.#random() < 0.05)) return this.#openOne();
    const session = this.#pick(this.#sessions);
    const does = this.#pick<() => unknown>([
      () => this.#run(session),
      () => this.#run(session),
      () => this.#bind(session),
      () => this.#runBinding(session),
      () => this.#runBinding(session),
      () => this.#runBinding(session),
      () => this.#rebind(session),
      () => this.#refused(session),
      () => this.#dropTensor(),
      () => this.#disposeBinding(session),
      () => this.#abort(session),
      () => this.#release(session),
      () => globalThis.gc?.({ type: this.#random() < 0.5 ? "minor" : "major" }),
      () => this.#settle(),
    ]);
    await Promise.resolve(does());
    if (this.#pending.size > 12) await this.#settle();
    if (this.#failure !== null) throw this.#failure as Error;
  }

  async end(): Promise<void> {
    for (const session of this.#sessions.slice()) this.#release(session);
    await this.#settle();
    for (const { tensor } of this.#kept) tensor[Symbol.dispose]();
    if (this.#failure !== null) throw this.#failure as Error;
  }

  async #openOne(): Promise<void> {
    const backend = this.#open();
    const abort = new AbortController();
    const loops = this.#random() < 0.3;
    backend.guard(abort.signal);
    const session = await backend.open(fixture(loops ? "loop" : "accumulate"));
    this.#sessions.push({ session, abort, loops, bindings: [], closing: false });
    this.figures.opens += 1;
  }

  #run({ session, loops, abort, closing }: OpenSession): void {
    const count = this.#count();
    const [state, x] = [this.#value(), this.#value()];
    if (loops) {
      const forever = this.#random() < 0.3 && !closing;
      const times = forever ? FOREVER : BigInt(state);
      const done = session.run({ times: { type: "int64", data: BigInt64Array.of(times), dims: [] }, x: filled(x, count) });
      this.#follow(done, ({ y }) => expectFill(y, x + state, count));
      if (forever) setImmediate(() => abort.abort());
    } else {
      const done = session.run({ state: filled(state, count), x: filled(x, count) });
      this.#follow(done, ({ next }) => expectFill(next, state + x, count));
    }
  }

  #bind({ session, loops, bindings, closing }: OpenSession): void {
    if (loops || closing || bindings.length > 3) return;
    const bound: OpenBinding = {
      binding: session.bind(),
      fills: new Map(),
      count: this.#count(),
      target: "host",
      busy: false,
      gone: false,
    };
    bindings.push(bound);
    this.#input(bound, "state");
    this.#input(bound, "x");
    bound.binding.output("next", "host");
  }

  #input(bound: OpenBinding, name: "state" | "x"): void {
    const kept = this.#random() < 0.5 ? this.#kept.find(({ tensor }) => tensor.dims[0] === bound.count) : undefined;
    const fill = kept?.fill ?? this.#value();
    const feed: Feed = kept?.tensor ?? filled(fill, bound.count);
    bound.binding.input(name, feed);
    bound.fills.set(name, fill);
    // A device tensor may go from now on.
    if (kept !== undefined && isOnDevice(feed) && this.#random() < 0.5) this.#drop(kept);
  }

  #rebind({ bindings, closing }: OpenSession): void {
    const bound = bindings.find(({ busy, gone }) => !busy && !gone);
    if (bound === undefined || closing) return;
    this.#input(bound, this.#random() < 0.5 ? "state" : "x");
    // What was bound before stays bound: its results may not be those of the next run.
    if (this.#random() < 0.5) return;
    bound.target = this.#pick(["host", "device", "device", filled(0, bound.count)]);
    bound.binding.output("next", bound.target);
  }

  #runBinding({ bindings, closing }: OpenSession): void {
    const bound = bindings.find(({ busy, gone }) => !busy && !gone);
    if (bound === undefined || closing) return;
    const { binding, target, count, fills } = bound;
    const sum = must(fills.get("state")) + must(fills.get("x"));
    bound.busy = true;
    const run = binding.run().finally(() => {
      bound.busy = false;
    });
    if (this.#random() < 0.3) assert.throws(() => binding.input("x", filled(1, count)), AppError);
    this.#follow(run, ({ host, device }) => {
      if (target === "device") this.#keep({ tensor: must(device["next"]), fill: sum });
      else expectFill(host["next"], sum, count);
      if (typeof target !== "string") assert.equal(host["next"], target);
    });
  }

  /** What may never be done, in the middle of all that may. */
  #refused({ session, loops, closing }: OpenSession): void {
    if (closing || loops) return;
    const wrong = session.run({ state: filled(1, 3), x: filled(1, 2) });
    this.#pending.add(assert.rejects(wrong, AppError).catch((thrown: unknown) => void (this.#failure ??= thrown)));
  }

  #keep(kept: Kept): void {
    this.#kept.push(kept);
    if (this.#kept.length > 8) this.#drop(must(this.#kept[0]));
  }

  #drop(kept: Kept): void {
    kept.tensor[Symbol.dispose]();
    this.#kept = this.#kept.filter((other) => other !== kept);
  }

  #dropTensor(): void {
    if (this.#kept.length > 0) this.#drop(this.#pick(this.#kept));
  }

  /** During a run or not. */
  #disposeBinding({ bindings }: OpenSession): void {
    const bound = bindings.shift();
    if (bound === undefined) return;
    bound.gone = true;
    bound.binding[Symbol.dispose]();
    if (this.#random() < 0.5) bound.binding[Symbol.dispose]();
  }

  #abort({ abort, loops }: OpenSession): void {
    if (loops || this.#random() < 0.1) abort.abort();
  }

  #release(session: OpenSession): void {
    session.closing = true;
    this.#sessions.splice(this.#sessions.indexOf(session), 1);
    session.abort.abort();
    this.#follow(session.session.release(), () => undefined);
    if (this.#random() < 0.3) this.#follow(session.session.release(), () => undefined);
    this.#follow(session.session.run({}), () => assert.fail("a released session ran"));
  }

  #follow<T>(work: Promise<T>, check: (result: T) => void): void {
    const followed = work.then(
      (result) => {
        this.figures.runs += 1;
        check(result);
      },
      (thrown: unknown) => {
        this.figures.ended += 1;
        assert.ok(thrown instanceof AppError, String(thrown));
        assert.match(`${thrown.code} ${thrown.message}`, /^CANCELLED|INTERNAL .*after its release/);
      },
    );
    const pending = followed.catch((thrown: unknown) => void (this.#failure ??= thrown)).finally(() => this.#pending.delete(pending));
    this.#pending.add(pending);
  }

  async #settle(): Promise<void> {
    await Promise.all(this.#pending);
  }

  /** Up to 16 floats V8 keeps on its own heap. */
  #count(): number {
    return this.#pick([1, 1, 3, 16, 17, 4096]);
  }

  #value(): number {
    return Math.floor(this.#random() * 1000);
  }

  #pick<T>(items: readonly T[]): T {
    return must(items[Math.floor(this.#random() * items.length)]);
  }
}

export function filled(value: number, count: number): Tensor {
  return { type: "float32", data: new Float32Array(count).fill(value), dims: [count] };
}

function expectFill(tensor: Tensor | undefined, value: number, count: number): void {
  assert.deepEqual(tensor, filled(value, count));
}
