import { pipeline, Transform, type Readable } from "node:stream";
import { FetchFailure } from "./fetch-failure.ts";

export interface WatchOptions {
  /** For all of it. */
  readonly timeoutMs: number;
  /** Between two signs of life. */
  readonly stallMs: number;
  readonly signal?: AbortSignal;
}

/** Bounds on one download. Node's own begin anew with each byte that drips in. */
export interface Watch extends Disposable {
  /** Aborted with a FetchFailure `timeout`, or with the caller's own reason. */
  readonly signal: AbortSignal;
  /** A sign of life: the time to the next one begins. */
  beat(): void;
  /** The same bytes; every MIN_BYTES of them are a sign of life, so that what drips ends. */
  through(body: Readable): Readable;
}

/** A kilobyte a second with the usual limit: nobody waits for a file that comes slower. */
export const MIN_BYTES: number = 64 * 1024;

export function startWatch({ timeoutMs, stallMs, signal: outer }: WatchOptions): Watch {
  const over = new AbortController();
  const fail = (message: string): void => over.abort(new FetchFailure("timeout", message));
  const limit = setTimeout(() => fail(`it was not there within ${timeoutMs / 1_000} s`), timeoutMs);
  let received = 0;
  const onStall = (): void =>
    fail(received === 0 ? `no answer within ${stallMs / 1_000} s` : `fewer than ${MIN_BYTES} bytes came within ${stallMs / 1_000} s`);
  const stall = setTimeout(onStall, stallMs);
  const beat = (): void => void stall.refresh();
  const meter = (): Transform =>
    new Transform({
      transform(chunk: Buffer, _encoding, done) {
        const before = Math.floor(received / MIN_BYTES);
        received += chunk.length;
        if (Math.floor(received / MIN_BYTES) > before) beat();
        done(null, chunk);
      },
    });
  return {
    signal: outer === undefined ? over.signal : AbortSignal.any([over.signal, outer]),
    beat,
    through: (body) => {
      beat();
      return pipeline(body, meter(), () => undefined);
    },
    [Symbol.dispose]: () => {
      clearTimeout(limit);
      clearTimeout(stall);
    },
  };
}
