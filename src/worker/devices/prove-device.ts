import { AppError, fromErrorData, isErrorCode } from "../../protocol/error.ts";
import {
  IPC_VERSION,
  parseRunnerMessage,
  type DeviceSpec,
  type ReadyMessage,
  type RunnerMessage,
  type RuntimeFacts,
} from "../../protocol/ipc.ts";
import { RunnerChild, type ChildEnd } from "../runners/runner-child.ts";
import { realSchedule } from "../runners/runner-deadline.ts";
import { forkRunner, type ForkOptions } from "../runners/runner-fork.ts";
import { explainDeviceError, RunnerRecorder } from "../runners/runner-recorder.ts";
import type { RunnerLog, Schedule } from "../runners/runner-types.ts";

/** The first CUDA context after a boot, with libraries from a cold disk, takes tens of seconds. */
const TIMEOUT_MS = 90_000;
/** How long a process that said why it failed may take to exit by itself. */
const FATAL_WAIT_MS = 2_000;

export interface ProveOptions extends Pick<ForkOptions, "env" | "entry"> {
  readonly log: RunnerLog;
  /** Ends the process. */
  readonly signal?: AbortSignal;
  readonly timeoutMs?: number;
  readonly schedule?: Schedule;
}

export interface DeviceProof {
  /** Of the operation with all that it needs, in milliseconds. */
  readonly proofMs: number;
  /** Nodes per execution provider. */
  readonly providers: Readonly<Record<string, number>>;
  /** Which onnxruntime did it. */
  readonly runtime?: RuntimeFacts;
}

/**
 * Runs a real operation on the device in a process of its own, which has ended when this settles.
 * @throws AppError DEVICE_UNAVAILABLE that says what happened; IPC_MISMATCH; the signal's reason
 */
export async function proveDevice(device: DeviceSpec & { readonly id: string }, options: ProveOptions): Promise<DeviceProof> {
  const { signal, log, timeoutMs = TIMEOUT_MS, schedule = realSchedule } = options;
  signal?.throwIfAborted();
  const child = await forkRunner({ ...options, device, purpose: `the proof of device ${device.id}` });
  const recorder = new RunnerRecorder({ device: device.id });
  const ended = Promise.withResolvers<ChildEnd>();
  let ready: ReadyMessage | null = null;
  let failure: AppError | null = null;
  const fail = (error: AppError): void => {
    failure ??= error;
    process.kill();
  };
  const stopTimers: (() => void)[] = [];
  const handle = (message: RunnerMessage | null): void => {
    if (message?.type === "hello") {
      const { kind, index, threads } = device;
      if (message.version === IPC_VERSION) return process.send({ type: "prove", device: { kind, index, threads } });
      return fail(mismatch(message.version));
    }
    if (message?.type === "ready") {
      ready = message;
      return process.kill();
    }
    if (message?.type !== "fatal") return fail(unavailable(`the process that proves device ${device.id} sent what it should not`));
    failure ??= fromErrorData({ ...message.error, code: isErrorCode(message.error.code) ? message.error.code : "INTERNAL" });
    // It exits by itself, with the rest of its stderr written.
    stopTimers.push(schedule(() => process.kill(), FATAL_WAIT_MS));
  };
  const process = new RunnerChild(child, {
    schedule,
    onMessage: (value) => handle(parseRunnerMessage(value)),
    onStderr: (stderr) => recorder.watch(stderr, log, child.pid),
    onEnd: ended.resolve,
  });
  stopTimers.push(schedule(() => fail(unavailable(`device ${device.id} gave no answer within ${timeoutMs} ms`)), timeoutMs));
  const onAbort = (): void => process.kill();
  signal?.addEventListener("abort", onAbort, { once: true });
  const end = await ended.promise;
  for (const stopTimer of stopTimers) stopTimer();
  signal?.removeEventListener("abort", onAbort);
  if (ready !== null) return proofOf(ready);
  signal?.throwIfAborted();
  throw explainDeviceError(failure ?? unasked(device.id, end, recorder.stderr), recorder.stderr);
}

function proofOf({ loadMs, providers, runtime }: ReadyMessage): DeviceProof {
  return { proofMs: Math.round(loadMs), providers, ...(runtime !== undefined && { runtime }) };
}

function mismatch(version: number): AppError {
  const text = `the runner speaks IPC version ${version}, this daemon ${IPC_VERSION}: files of two versions are mixed, install dryapi-worker again and restart`;
  return new AppError("IPC_MISMATCH", text);
}

function unavailable(message: string): AppError {
  return new AppError("DEVICE_UNAVAILABLE", message);
}

function unasked(device: string, { exitCode, signal, cause }: ChildEnd, stderr: string): AppError {
  const how = cause === undefined ? (signal ?? `exit code ${exitCode}`) : cause.message;
  const words = stderr.trim().split("\n").slice(-3).join(" / ");
  return unavailable(`the process that proves device ${device} ended with ${how}${words === "" ? "" : `; it said: ${words}`}`);
}
