import type { Tensor } from "../../src/pipelines/backend.ts";
import type { DeviceSpec } from "../../src/protocol/ipc.ts";
import { openEnvironment, type Environment } from "../../src/runner/ort/environment.ts";
import { sessionOptions } from "../../src/runner/ort/session-options.ts";
import type { Pointer } from "../../src/runner/ort/signature.ts";
import { hostValue } from "../../src/runner/ort/tensor-value.ts";

export interface BareDecoderOptions {
  readonly path: string;
  readonly device: DeviceSpec;
  readonly hidden: Tensor;
  readonly masked: boolean;
  readonly layers: number;
  readonly heads: number;
  readonly headSize: number;
  readonly vocabulary: number;
  readonly idRows: number;
}

/** What a C program does for a decoding step with its cache on the device, on this thread: the least that a step can cost. */
export class BareDecoder {
  readonly #env: Environment;
  readonly #options: BareDecoderOptions;
  readonly #session: Pointer<"Session">;
  readonly #runOptions: Pointer<"RunOptions">;
  readonly #ids: BigInt64Array;
  readonly #logits: Tensor;
  /** Everything that the library may touch. */
  readonly #held: unknown[] = [];
  #binding: Pointer<"IoBinding">;
  #isFirst = true;

  static async open(options: BareDecoderOptions): Promise<BareDecoder> {
    const env = await openEnvironment();
    using session = sessionOptions(env, options.path, { device: options.device });
    return new BareDecoder(env, options, env.library.call.CreateSession(env.pointer, options.path, session.pointer));
  }

  private constructor(env: Environment, options: BareDecoderOptions, session: Pointer<"Session">) {
    const { call } = env.library;
    const { idRows, vocabulary, hidden, heads, headSize } = options;
    this.#env = env;
    this.#options = options;
    this.#session = session;
    this.#runOptions = call.CreateRunOptions();
    this.#ids = new BigInt64Array(idRows);
    this.#logits = { type: "float32", data: new Float32Array(idRows * vocabulary), dims: [idRows, 1, vocabulary] };
    this.#binding = this.#bind(0);
    const none: Tensor = { type: "float32", data: new Float32Array(0), dims: [hidden.dims[0] ?? 1, heads, 0, headSize] };
    for (const name of this.#cacheNames(["decoder", "encoder"])) this.#input(`past_key_values.${name}`, none);
    this.#keep(["decoder", "encoder"]);
  }

  step(ids: readonly (readonly number[])[]): Float32Array {
    const { call, addresses } = this.#env.library;
    for (const [at, [id]] of ids.entries()) this.#ids[at] = BigInt(id ?? 0);
    call.RunWithBinding(this.#session, this.#runOptions, this.#binding);
    const sides = this.#isFirst ? (["decoder", "encoder"] as const) : (["decoder"] as const);
    const [array, count] = call.GetBoundOutputValues(this.#binding, this.#env.allocator);
    const values = addresses(array, count) as readonly Pointer<"Value">[];
    call.AllocatorFree(this.#env.allocator, array);
    if (this.#isFirst) {
      const first = this.#binding;
      this.#binding = this.#bind(1);
      call.ReleaseIoBinding(first);
      this.#isFirst = false;
    }
    const caches = values.slice(1);
    for (const [at, name] of this.#cacheNames(sides).entries()) {
      const value = caches[at];
      if (value !== undefined) call.BindInput(this.#binding, `past_key_values.${name}`, value);
    }
    for (const value of values) call.ReleaseValue(value);
    this.#keep(["decoder"]);
    return this.#logits.data as Float32Array;
  }

  /** Ids in, logits out. */
  crossedBytes(): number {
    return this.#ids.byteLength + this.#logits.data.byteLength;
  }

  close(): void {
    const { call } = this.#env.library;
    call.ReleaseIoBinding(this.#binding);
    call.ReleaseRunOptions(this.#runOptions);
    call.ReleaseSession(this.#session);
  }

  /** A binding with all but the cache; logits are its first output. */
  #bind(flag: 0 | 1): Pointer<"IoBinding"> {
    const { hidden, masked, idRows } = this.#options;
    const [rows = 1, tokens = 0] = hidden.dims;
    this.#binding = this.#env.library.call.CreateIoBinding(this.#session);
    this.#input("input_ids", { type: "int64", data: this.#ids, dims: [idRows, 1] });
    this.#input("encoder_hidden_states", hidden);
    if (masked)
      this.#input("encoder_attention_mask", { type: "int64", data: new BigInt64Array(rows * tokens).fill(1n), dims: [rows, tokens] });
    this.#input("use_cache_branch", { type: "bool", data: Uint8Array.of(flag), dims: [1] });
    using value = hostValue(this.#env, "logits", this.#logits);
    this.#env.library.call.BindOutput(this.#binding, "logits", value.pointer);
    return this.#binding;
  }

  #input(name: string, tensor: Tensor): void {
    using value = hostValue(this.#env, name, tensor);
    this.#env.library.call.BindInput(this.#binding, name, value.pointer);
    this.#held.push(tensor);
  }

  #keep(sides: readonly ("decoder" | "encoder")[]): void {
    const { library, hostMemory } = this.#env;
    for (const name of this.#cacheNames(sides)) library.call.BindOutputToDevice(this.#binding, `present.${name}`, hostMemory);
  }

  #cacheNames(sides: readonly ("decoder" | "encoder")[]): readonly string[] {
    return sides.flatMap((side) =>
      Array.from({ length: this.#options.layers }, (_, layer) => ["key", "value"].map((kind) => `${layer}.${side}.${kind}`)).flat(),
    );
  }
}
