import { open, readFile, stat } from "node:fs/promises";
import { basename, dirname, isAbsolute, join } from "node:path";
import type { FileSpec } from "../core/family-layout.ts";
import { isMissing } from "../lib/errno.ts";
import { OnnxDamage } from "./onnx/onnx-damage.ts";
import { readOnnx } from "./onnx/read-onnx.ts";

/** What is wrong with a file: a text that is read after its path. */
export interface ContentProblem {
  readonly kind: "corrupt" | "missing" | "unsupported";
  readonly text: string;
}

const HEAD_BYTES = 512;
/** Tokenizers of the largest vocabularies have 35 MB. */
const MAX_JSON_BYTES = 256 * 2 ** 20;
const AGAIN = "fetch it again";

/** What a look into a file shows. */
export interface FileContent {
  readonly problem: ContentProblem | null;
  /** Files beside a graph that hold its weights -> bytes that they must have at least. */
  readonly external: ReadonlyMap<string, number>;
}

/**
 * Whether a file is of the kind that its role asks for: a graph whose lengths add up and whose weights are there, JSON with the keys that
 * the family reads, no page or pointer in the place of a file. Costs milliseconds: no weights are read.
 * Rejects with the file system's error.
 */
export async function lookInside(path: string, { kind, holds = [], rowBytes = 1 }: FileSpec): Promise<FileContent> {
  const disguise = await disguiseOf(path);
  if (disguise !== null) return nothingBut(corrupt(disguise));
  switch (kind) {
    case "graph":
      return lookIntoGraph(path);
    case "json":
      return nothingBut(await checkJson(path, holds));
    case "merges":
      return nothingBut(await checkMerges(path));
    case "rows":
      return nothingBut(await checkRows(path, rowBytes));
  }
}

function nothingBut(problem: ContentProblem | null): FileContent {
  return { problem, external: new Map() };
}

/** What downloads leave in the place of a file; null for none of it. */
export async function disguiseOf(path: string): Promise<string | null> {
  const handle = await open(path, "r");
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(HEAD_BYTES), 0, HEAD_BYTES, 0);
    if (bytesRead === 0) return `is empty: ${AGAIN}`;
    const head = buffer
      .toString("latin1", 0, bytesRead)
      .replace(/^\u00EF\u00BB\u00BF/, "")
      .trimStart();
    if (head.startsWith("version https://git-lfs"))
      return "is a Git LFS pointer, not the file itself: run `git lfs pull` where it came from, or download the file";
    if (/^<(!doctype\s+html|html|head|body|!--)/i.test(head))
      return `is an HTML page, not the file itself: ${AGAIN} from an address that needs no login or redirect`;
    if (/^<(\?xml|Error\b)/i.test(head))
      return `is an XML document (most often the error of an object store), not the file itself: ${AGAIN}`;
    if (buffer.subarray(0, bytesRead).every((byte) => byte === 0)) return `begins with nothing but zeros: ${AGAIN}`;
    return null;
  } finally {
    await handle.close();
  }
}

function corrupt(text: string): ContentProblem {
  return { kind: "corrupt", text };
}

async function lookIntoGraph(path: string): Promise<FileContent> {
  try {
    const { external } = await readOnnx(path);
    return { problem: null, external };
  } catch (thrown) {
    if (!(thrown instanceof OnnxDamage)) throw thrown;
    return nothingBut(corrupt(`${thrown.message}: ${AGAIN}`));
  }
}

/** Whether a file of a graph's weights is there and long enough for what the graph says of it. Null where nothing is wrong. */
export async function checkExternal(graph: string, location: string, bytes: number): Promise<ContentProblem | null> {
  if (isAbsolute(location) || location.split(/[\\/]/).includes(".."))
    return {
      kind: "unsupported",
      text: `has weights in ${location}, outside of its own folder: save the model with its weights beside it`,
    };
  const path = join(dirname(graph), location);
  const found = await stat(path).catch((thrown: unknown) => {
    if (isMissing(thrown)) return null;
    throw thrown;
  });
  if (found === null) return { kind: "missing", text: `has weights in ${path}, which does not exist: fetch that file, too` };
  if (found.size >= bytes) return null;
  const disguise = found.size < HEAD_BYTES * 1024 ? await disguiseOf(path) : null;
  return corrupt(
    disguise === null
      ? `needs ${bytes} bytes of ${path}, which has ${found.size}: ${basename(path)} is cut off, or of another version; ${AGAIN}`
      : `has weights in ${path}, and that file ${disguise}`,
  );
}

async function checkJson(path: string, holds: readonly string[]): Promise<ContentProblem | null> {
  const { size } = await stat(path);
  if (size > MAX_JSON_BYTES) return corrupt(`has ${size} bytes, more than any JSON file of a model: ${AGAIN}`);
  let value: unknown;
  try {
    value = JSON.parse(await readFile(path, "utf8"));
  } catch (thrown) {
    if (!(thrown instanceof SyntaxError)) throw thrown;
    return corrupt(`is no JSON, or cut off (${thrown.message}): ${AGAIN}`);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    return corrupt(`is JSON, but no object: it is another file than its name says; ${AGAIN}`);
  const lacks = holds.filter((key) => isEmpty(valueAt(value, key)));
  if (lacks.length === 0) return null;
  const what = lacks.map((key) => (key === "" ? "any entry" : key)).join(", ");
  return corrupt(`has not ${what}: it is another file than its name says; ${AGAIN} from the model's own repository`);
}

function valueAt(value: object, key: string): unknown {
  if (key === "") return value;
  return key
    .split(".")
    .reduce<unknown>(
      (inner, step) => (typeof inner === "object" && inner !== null ? (inner as Record<string, unknown>)[step] : undefined),
      value,
    );
}

function isEmpty(value: unknown): boolean {
  return value === undefined || value === null || (typeof value === "object" && Object.keys(value).length === 0);
}

/** Byte-pair tokens: 256 bytes, the same at the end of a word, begin and end of a text, and one for each pair (CLIP's vocabulary). */
const UNPAIRED_TOKENS = 514;

async function checkMerges(path: string): Promise<ContentProblem | null> {
  const lines = (await readFile(path, "utf8")).split(/\r?\n/).filter((line) => line !== "" && !line.startsWith("#version"));
  const odd = lines.findIndex((line) => line.split(" ").length !== 2);
  if (odd >= 0) return corrupt(`has no pair of tokens in pair ${odd + 1}: it is no list of merges, or was cut off there; ${AGAIN}`);
  const vocabulary: unknown = await readFile(join(dirname(path), "vocab.json"), "utf8")
    .then(JSON.parse)
    .catch(() => null);
  const wanted = typeof vocabulary === "object" && vocabulary !== null ? Object.keys(vocabulary).length - UNPAIRED_TOKENS : 0;
  if (lines.length >= wanted) return null;
  return corrupt(`has ${lines.length} pairs of tokens, and vocab.json beside it has tokens of ${wanted}: it is cut off; ${AGAIN}`);
}

async function checkRows(path: string, rowBytes: number): Promise<ContentProblem | null> {
  const { size } = await stat(path);
  if (size % rowBytes === 0) return null;
  return corrupt(`has ${size} bytes, expected rows of ${rowBytes}: it is cut off, or another file; ${AGAIN}`);
}
