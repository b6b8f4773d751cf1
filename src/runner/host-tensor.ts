import { isOnDevice, type DeviceTensor, type Feed, type Tensor } from "../pipelines/backend.ts";
import { AppError } from "../protocol/error.ts";

/** A "device" tensor that is in this process' memory all the time. */
export class HostTensor implements DeviceTensor {
  readonly onDevice = true;
  readonly type: Tensor["type"];
  readonly dims: readonly number[];
  #tensor: Tensor | null;

  constructor(tensor: Tensor) {
    this.#tensor = tensor;
    this.type = tensor.type;
    this.dims = tensor.dims;
  }

  get tensor(): Tensor {
    if (this.#tensor === null) throw new AppError("INTERNAL", "a device tensor was used after its release: this is a bug");
    return this.#tensor;
  }

  [Symbol.dispose](): void {
    this.#tensor = null;
  }
}

/** What a feed holds. */
export function toHost(feed: Feed, name: string): Tensor {
  if (!isOnDevice(feed)) return feed;
  if (feed instanceof HostTensor) return feed.tensor;
  throw new AppError("INTERNAL", `input ${name}: a device tensor of another backend: this is a bug`);
}
