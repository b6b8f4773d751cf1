import type { ManifestPart } from "../../protocol/manifest.ts";
import { AppError } from "../../protocol/error.ts";
import type { Session, Tensor, TensorInfo, TensorType } from "../backend.ts";
import type { FloatType } from "./float-edge.ts";

/** One opened graph of a model with what the manifest says about its tensor names. */
export interface Graph {
  /** Part of the manifest, e.g. `transformer`: for messages. */
  readonly part: string;
  readonly session: Session;
  /** Role -> tensor name where they differ from the Optimum layout. */
  readonly names: Pick<ManifestPart, "inputs" | "outputs">;
}

export interface Edge<T extends TensorType = TensorType> {
  readonly name: string;
  readonly type: T;
  readonly dims: readonly (number | string)[];
}

export interface EdgeWish<T extends TensorType> {
  /** Name in the Optimum layout. */
  readonly role: string;
  readonly types: readonly T[];
  readonly ranks: readonly number[];
}

export const FLOATS: readonly FloatType[] = ["float32", "float16"];
export type IdType = "int64" | "int32" | "float32" | "float16";
export const IDS: readonly IdType[] = ["int64", "int32", "float32", "float16"];

/** Finds the input of a role and checks it. @throws AppError MODEL_UNSUPPORTED naming part, tensor and what was expected */
export function bindInput<T extends TensorType>(graph: Graph, wish: EdgeWish<T>): Edge<T> {
  const found = bindOptionalInput(graph, wish);
  if (found !== null) return found;
  throw missing(graph, "input", wish.role, graph.session.inputs);
}

/** The same for an input that only some exports have; null when this one lacks it. */
export function bindOptionalInput<T extends TensorType>(graph: Graph, wish: EdgeWish<T>): Edge<T> | null {
  const mapped = graph.names.inputs[wish.role];
  const info = graph.session.inputs.find(({ name }) => name === (mapped ?? wish.role));
  if (info !== undefined) return checked(graph, info, wish);
  if (mapped !== undefined) throw missing(graph, "input", wish.role, graph.session.inputs);
  return null;
}

/** Finds the output of a role: by the manifest's name, the role's, or because the graph has no other. */
export function bindOutput<T extends TensorType>(graph: Graph, wish: EdgeWish<T>): Edge<T> {
  const { outputs } = graph.session;
  const mapped = graph.names.outputs[wish.role];
  const info =
    outputs.find(({ name }) => name === (mapped ?? wish.role)) ?? (mapped === undefined && outputs.length === 1 ? outputs[0] : undefined);
  if (info === undefined) throw missing(graph, "output", wish.role, outputs);
  return checked(graph, info, wish);
}

/** Refuses a graph that wants more than it is given. */
export function requireOnly(graph: Graph, bound: readonly (Edge | null)[]): void {
  const given = new Set(bound.map((edge) => edge?.name));
  const extra = graph.session.inputs.find(({ name }) => !given.has(name));
  if (extra === undefined) return;
  throw new AppError(
    "MODEL_UNSUPPORTED",
    `part ${graph.part}: input ${describe(extra)} is of no known role; map it in parts.${graph.part}.inputs of the manifest, or export the graph without it`,
  );
}

/** Refuses an edge whose size at `axis` (from the end when negative) is declared and another one. Symbolic sizes fit always. */
export function requireSize(graph: Graph, edge: Edge, axis: number, expected: number, why: string): void {
  const size = edge.dims.at(axis);
  if (typeof size !== "number" || size === expected) return;
  throw new AppError(
    "MODEL_UNSUPPORTED",
    `part ${graph.part}: ${describe(edge)} has size ${size} at axis ${axis}, expected ${expected} (${why})`,
  );
}

/** Picks a bound output from a run's results. */
export function outputOf(results: Readonly<Record<string, Tensor>>, edge: Edge, part: string): Tensor {
  const tensor = results[edge.name];
  if (tensor === undefined) throw new AppError("PIPELINE_FAILED", `part ${part}: the run gave no output ${edge.name}`);
  return tensor;
}

/** Integers as whatever type the graph declares for them. */
export function idTensor(type: IdType, values: readonly number[] | Int32Array, dims: readonly number[]): Tensor {
  switch (type) {
    case "int64":
      return { type, data: BigInt64Array.from(values, BigInt), dims };
    case "int32":
      return { type, data: Int32Array.from(values), dims };
    case "float32":
      return { type, data: Float32Array.from(values), dims };
    case "float16":
      return { type, data: new Uint16Array(new Float16Array(values).buffer), dims };
  }
}

function checked<T extends TensorType>(graph: Graph, info: TensorInfo, wish: EdgeWish<T>): Edge<T> {
  const type = wish.types.find((name) => name === info.type);
  if (type === undefined || !wish.ranks.includes(info.dims.length)) {
    throw new AppError(
      "MODEL_UNSUPPORTED",
      `part ${graph.part}: tensor ${describe(info)} for ${wish.role} does not fit; expected type ${wish.types.join(" or ")} and rank ${wish.ranks.join(" or ")}`,
    );
  }
  return { name: info.name, type, dims: info.dims };
}

function missing(graph: Graph, kind: "input" | "output", role: string, there: readonly TensorInfo[]): AppError {
  const name = graph.names[`${kind}s`][role];
  const what = name === undefined ? role : `${name} (for ${role}, as the manifest says)`;
  return new AppError(
    "MODEL_UNSUPPORTED",
    `part ${graph.part}: the graph has no ${kind} ${what}; it has ${there.map(describe).join(", ")}: map the name in parts.${graph.part}.${kind}s of the manifest`,
  );
}

function describe({ name, type, dims }: Edge): string {
  return `${name} ${type}[${dims.join(", ")}]`;
}
