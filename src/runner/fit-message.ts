import { serialize } from "node:v8";
import { clipText } from "../lib/clip-text.ts";
import { AppError, fromErrorData, MAX_ERROR_MESSAGE_BYTES, toErrorData, type ErrorData } from "../protocol/error.ts";
import {
  IPC_LIMITS,
  MAX_IPC_BYTES,
  type GraphPlacement,
  type JobDoneMessage,
  type RunnerMessage,
  type RuntimeFacts,
} from "../protocol/ipc.ts";
import { fitsInline, MAX_INFO_BYTES, MAX_RESULT_FILES } from "../protocol/result.ts";

/**
 * A message as it may be sent: cut to the limits of protocol/ipc.ts, null when nothing is left of it to send. `say` tells the operator
 * what was cut.
 */
export function fitMessage(message: RunnerMessage, say: (line: string) => void): RunnerMessage | null {
  switch (message.type) {
    case "stage":
    case "progress":
      return { ...message, stage: fitName(message.stage) };
    case "preview": {
      const { jpeg, step } = message;
      if (jpeg.byteLength > IPC_LIMITS.previewBytes) {
        say(`preview of step ${step} dropped: ${jpeg.byteLength} bytes, at most ${IPC_LIMITS.previewBytes} are sent`);
        return null;
      }
      // A copy: a view into a larger buffer would be sent with all of it.
      return { ...message, jpeg: Uint8Array.from(jpeg) };
    }
    case "ready": {
      const providers = Object.entries(message.providers).slice(0, IPC_LIMITS.providers);
      const reports = message.reports?.slice(0, IPC_LIMITS.reports).map((report) => clipText(report, IPC_LIMITS.reportChars));
      const { runtime } = message;
      return {
        ...message,
        providers: Object.fromEntries(providers.map(([name, nodes]) => [fitName(name), nodes])),
        ...(reports !== undefined && { reports }),
        ...(runtime !== undefined && { runtime: fitRuntime(runtime) }),
        ...(message.placement !== undefined && { placement: fitPlacement(message.placement, say) }),
      };
    }
    case "fatal":
    case "job-failed":
      return { ...message, error: fitError(message.error) };
    case "job-done":
      return fitDone(message, say);
    case "hello":
    case "batch-done":
    case "pong":
      return message;
  }
}

function fitRuntime({ api, version, library, koffi, available, fallback }: RuntimeFacts): RuntimeFacts {
  return {
    api,
    version: fitName(version),
    library: library.slice(0, IPC_LIMITS.pathChars),
    koffi: koffi === null ? null : fitName(koffi),
    available: available.slice(0, IPC_LIMITS.providers).map(fitName),
    ...(fallback !== undefined && { fallback: clipText(fallback, MAX_ERROR_MESSAGE_BYTES) }),
  };
}

/** Graphs in their order, as many as there is room for. */
function fitPlacement(placement: readonly GraphPlacement[], say: (line: string) => void): readonly GraphPlacement[] {
  const kept: GraphPlacement[] = [];
  for (const { path, operators } of placement) {
    const fitted = Object.entries(operators).map(([provider, found]): [string, Record<string, number>] => [
      fitName(provider),
      Object.fromEntries(Object.entries(found).map(([operator, count]) => [fitName(operator), count])),
    ]);
    const graph = { path: fitName(path), operators: Object.fromEntries(fitted) };
    if (Buffer.byteLength(JSON.stringify([...kept, graph])) <= IPC_LIMITS.placementBytes) kept.push(graph);
    else say(`node placement of ${graph.path} dropped: there is room for ${IPC_LIMITS.placementBytes} bytes of it`);
  }
  return kept;
}

function fitDone(message: JobDoneMessage, say: (line: string) => void): RunnerMessage {
  const { id, files, text, ...rest } = message;
  if (files.length > MAX_RESULT_FILES) {
    const error = new AppError("BAD_OUTPUT", `the job has ${files.length} output files, at most ${MAX_RESULT_FILES} are stored`);
    return { type: "job-failed", id, error: toErrorData(error) };
  }
  const omitted = text !== undefined && !fitsInline(text);
  if (omitted) say(`job ${id}: its text of ${text.length} characters is too long for the result and is in its file alone`);
  const info = { ...(omitted && { text_omitted: true }), ...message.info };
  const fitted = { ...rest, id, files, info: fitInfo(id, info, say), ...(text !== undefined && !omitted && { text }) };
  const sizeBytes = serialize(fitted).byteLength;
  if (sizeBytes <= MAX_IPC_BYTES) return fitted;
  const reason = `the output's description has ${sizeBytes} bytes, at most ${MAX_IPC_BYTES} fit into a message`;
  return { type: "job-failed", id, error: toErrorData(new AppError("BAD_OUTPUT", reason)) };
}

/** Facts in their order, as many as there is room for. */
function fitInfo(id: string, info: JobDoneMessage["info"], say: (line: string) => void): JobDoneMessage["info"] {
  if (Buffer.byteLength(JSON.stringify(info)) <= MAX_INFO_BYTES) return info;
  const kept: Record<string, string | number | boolean> = {};
  for (const [name, value] of Object.entries(info)) {
    if (Buffer.byteLength(JSON.stringify({ ...kept, [name]: value })) <= MAX_INFO_BYTES) kept[name] = value;
    else say(`job ${id}: fact ${fitName(name)} dropped: there is room for ${MAX_INFO_BYTES} bytes of facts`);
  }
  return kept;
}

function fitError(error: ErrorData): ErrorData {
  const { blackBox, ...rest } = toErrorData(fromErrorData(error));
  if (blackBox === undefined) return rest;
  const { signal, stage, model, device } = blackBox;
  const names = Object.entries({ signal, stage, model, device }).flatMap(([name, value]) =>
    value === undefined ? [] : [[name, fitName(value)]],
  );
  return { ...rest, blackBox: { ...blackBox, ...(Object.fromEntries(names) as Record<string, string>) } };
}

function fitName(name: string): string {
  return clipText(name, IPC_LIMITS.nameChars);
}
