import { readdir, stat } from "node:fs/promises";
import { basename, dirname, join, relative } from "node:path";
import { OnnxDamage } from "./onnx-damage.ts";
import { readOnnx, type OnnxFile } from "./read-onnx.ts";

/** An ONNX file of a folder, or why it is none. */
export interface FoundGraph {
  /** Relative to the folder. */
  readonly file: string;
  readonly onnx: OnnxFile | null;
  readonly problem: string | null;
}

export interface FoundGraphs {
  readonly dir: string;
  readonly graphs: readonly FoundGraph[];
}

/** Reads every ONNX file below a folder, or the one that is named. Rejects with the file system's error. */
export async function findGraphs(path: string): Promise<FoundGraphs> {
  const isFolder = (await stat(path)).isDirectory();
  const dir = isFolder ? path : dirname(path);
  const files = isFolder
    ? (await readdir(path, { recursive: true })).filter((file) => file.endsWith(".onnx")).toSorted()
    : [basename(path)];
  const graphs: FoundGraph[] = [];
  for (const file of files) graphs.push(await read(dir, file));
  return { dir, graphs };
}

async function read(dir: string, file: string): Promise<FoundGraph> {
  try {
    return { file: relative(dir, join(dir, file)), onnx: await readOnnx(join(dir, file)), problem: null };
  } catch (thrown) {
    if (thrown instanceof OnnxDamage) return { file, onnx: null, problem: thrown.message };
    throw thrown;
  }
}
