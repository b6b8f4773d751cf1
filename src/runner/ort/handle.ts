import { AppError } from "../../protocol/error.ts";
import type { Kind, Pointer } from "./signature.ts";

/**
 * One of the library's objects that is ours to release: once, and never while a call on another thread works with it. The ownership rules
 * are here, so that no caller can break them: a pointer is only to be had from a handle that is not released, and a release that comes
 * while the handle is lent waits for the last borrower.
 */
export class Handle<K extends Kind> implements Disposable {
  readonly #what: string;
  readonly #release: (pointer: Pointer<K>) => void;
  #pointer: Pointer<K> | null;
  #lent = 0;
  #released = false;

  /** @param what for messages, such as `session of transformer.onnx` */
  constructor(what: string, pointer: Pointer<K>, release: (pointer: Pointer<K>) => void) {
    this.#what = what;
    this.#pointer = pointer;
    this.#release = release;
  }

  get released(): boolean {
    return this.#released;
  }

  /** @throws AppError INTERNAL after the release */
  get pointer(): Pointer<K> {
    if (this.#pointer === null || this.#released) throw new AppError("INTERNAL", `${this.#what} was used after its release: this is a bug`);
    return this.#pointer;
  }

  /** The pointer for a call on another thread; `using` gives it back. @throws AppError INTERNAL after the release */
  lend(): Disposable & { readonly pointer: Pointer<K> } {
    const { pointer } = this;
    let ended = false;
    this.#lent += 1;
    return {
      pointer,
      [Symbol.dispose]: () => {
        if (ended) return;
        ended = true;
        this.#lent -= 1;
        this.#free();
      },
    };
  }

  [Symbol.dispose](): void {
    this.#released = true;
    this.#free();
  }

  #free(): void {
    if (!this.#released || this.#lent > 0 || this.#pointer === null) return;
    const pointer = this.#pointer;
    this.#pointer = null;
    this.#release(pointer);
  }
}
