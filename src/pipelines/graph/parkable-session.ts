import { isDeepStrictEqual } from "node:util";
import { AppError } from "../../protocol/error.ts";
import type { Binding, Feed, Session, Tensor, TensorInfo, Traffic } from "../backend.ts";

/**
 * A session that can be released between the stages of a job and opened again. While it is parked it holds nothing on the device and
 * nothing of this process' memory; its file is in the page cache, unless the host needs that for something else. Bindings end with the
 * session that they are of: whoever parks it has disposed of them.
 */
export class ParkableSession implements Session {
  readonly inputs: readonly TensorInfo[];
  readonly outputs: readonly TensorInfo[];
  readonly #what: string;
  readonly #open: () => Promise<Session>;
  #native: Session | null;
  /** Of sessions that are released. */
  #runMs = 0;
  #traffic: Traffic = { toDevice: 0, toHost: 0 };

  private constructor(what: string, open: () => Promise<Session>, native: Session) {
    this.#what = what;
    this.#open = open;
    this.#native = native;
    this.inputs = native.inputs;
    this.outputs = native.outputs;
  }

  /** @param what for messages, such as the graph's path @param open opens the graph @throws as `open` */
  static async open(what: string, open: () => Promise<Session>): Promise<ParkableSession> {
    return new ParkableSession(what, open, await open());
  }

  get awake(): boolean {
    return this.#native !== null;
  }

  get runMs(): number {
    return this.#runMs + (this.#native?.runMs ?? 0);
  }

  get traffic(): Traffic {
    const { toDevice, toHost } = this.#native?.traffic ?? { toDevice: 0, toHost: 0 };
    return { toDevice: this.#traffic.toDevice + toDevice, toHost: this.#traffic.toHost + toHost };
  }

  run(feeds: Readonly<Record<string, Feed>>): Promise<Readonly<Record<string, Tensor>>> {
    return this.#session().run(feeds);
  }

  bind(): Binding {
    return this.#session().bind();
  }

  /**
   * Opens the graph again where it is parked. One that fails leaves it parked.
   * @throws AppError as Backend.open, CANCELLED as Backend.guard says, MODEL_CORRUPT when the file is of another graph by now
   */
  async wake(): Promise<void> {
    if (this.#native !== null) return;
    const native = await this.#open();
    if (!isDeepStrictEqual([native.inputs, native.outputs], [this.inputs, this.outputs])) {
      await native.release();
      throw new AppError(
        "MODEL_CORRUPT",
        `${this.#what} was replaced while the model was loaded: its inputs and outputs are others now; restart the worker, so that the model is checked and loaded as a whole`,
      );
    }
    this.#native = native;
  }

  /** Gives back all that the graph holds, after the run under way. */
  async park(): Promise<void> {
    const native = this.#native;
    if (native === null) return;
    this.#runMs = this.runMs;
    this.#traffic = this.traffic;
    this.#native = null;
    await native.release();
  }

  release(): Promise<void> {
    return this.park();
  }

  #session(): Session {
    if (this.#native === null) throw new AppError("INTERNAL", `${this.#what} was run while it was parked: this is a bug`);
    return this.#native;
  }
}
