import assert from "node:assert/strict";
import type { Backend, Session, Tensor, TensorType } from "../../src/pipelines/backend.ts";
import { AppError, type ErrorCode } from "../../src/protocol/error.ts";
import type { DeviceSpec } from "../../src/protocol/ipc.ts";
import { openNodeBackend } from "../../src/runner/node-backend.ts";
import { openOrtBackend } from "../../src/runner/ort/ort-backend.ts";
import { TEST_DEVICE } from "./test-device.ts";

const DEVICE = { ...TEST_DEVICE, threads: 1 };
export const FIXTURES = new URL("../fixtures/ort/", import.meta.url);
export const fixture = (name: string): string => new URL(`${name}.onnx`, FIXTURES).pathname;

export interface OpenOptions {
  readonly device?: DeviceSpec;
  readonly profileDir?: string;
}
/** Both ways to onnxruntime; all that a pipeline sees is the same. */
export const RUNTIMES = {
  c: (options: OpenOptions = {}): Backend => openOrtBackend({ device: DEVICE, ...options }),
  node: (options: OpenOptions = {}): Backend => openNodeBackend({ device: DEVICE, ...options }),
} as const;
export type RuntimeName = keyof typeof RUNTIMES;

export async function withSession<T>(backend: Backend, name: string, use: (session: Session) => Promise<T>): Promise<T> {
  const session = await backend.open(fixture(name));
  try {
    return await use(session);
  } finally {
    await session.release();
  }
}

export const failsWith =
  (code: ErrorCode, ...texts: RegExp[]) =>
  (thrown: unknown): boolean => {
    assert.ok(thrown instanceof AppError, String(thrown));
    assert.equal(thrown.code, code, thrown.message);
    for (const text of texts) assert.match(thrown.message, text);
    return true;
  };

export function floats(values: readonly number[], dims: readonly number[] = [values.length]): Tensor {
  return { type: "float32", data: Float32Array.from(values), dims };
}

export function count(value: bigint): Tensor {
  return { type: "int64", data: BigInt64Array.of(value), dims: [] };
}

/** One value of every type of the seam, by name. */
export function everyType(): Record<TensorType, Tensor> {
  return {
    float32: floats([1.5, -2]),
    float16: { type: "float16", data: Uint16Array.of(0x3c00, 0xc000, 0x7bff), dims: [3] },
    int64: { type: "int64", data: BigInt64Array.of(-1n, 2n ** 62n), dims: [2] },
    int32: { type: "int32", data: Int32Array.of(7), dims: [1] },
    int8: { type: "int8", data: Int8Array.of(-128, 127), dims: [2] },
    uint8: { type: "uint8", data: Uint8Array.of(255, 0), dims: [2] },
    bool: { type: "bool", data: Uint8Array.of(1, 0), dims: [2] },
  };
}

/** What is there. */
export function must<T>(value: T | undefined): T {
  assert.ok(value !== undefined);
  return value;
}
