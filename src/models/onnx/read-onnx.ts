import { open } from "node:fs/promises";
import { ByteWindow, MAX_WHOLE_BYTES } from "./byte-window.ts";
import { OnnxDamage } from "./onnx-damage.ts";
import { tensorBytes, tensorTypeName } from "./tensor-types.ts";

/** An input or output of a graph. */
export interface OnnxEdge {
  readonly name: string;
  /** As onnx.proto names it in lower case: `float`, `float16`, `int64`; `sequence`, `map` or `optional` for what is no tensor. */
  readonly type: string;
  /** Sizes; a text is the name of a size that is known when the graph runs. Empty for a scalar, and where no shape is given. */
  readonly dims: readonly (number | string)[];
}

/** What an ONNX file says about itself. Field numbers: onnx/onnx.proto of ONNX 1.19. */
export interface OnnxFile {
  readonly irVersion: number;
  readonly producer: string;
  /** Domain -> version; the empty domain is ONNX's own. */
  readonly opsets: ReadonlyMap<string, number>;
  /** Without those that are initializers as well. */
  readonly inputs: readonly OnnxEdge[];
  readonly outputs: readonly OnnxEdge[];
  /** Nodes by operator, those of subgraphs and functions included; `domain::operator` outside of ONNX's own domain. */
  readonly operators: ReadonlyMap<string, number>;
  /** Bytes of weights inside of this file. */
  readonly weightBytes: number;
  /** Files beside this one that hold weights -> bytes that they must have at least. */
  readonly external: ReadonlyMap<string, number>;
}

interface Found {
  irVersion: number;
  producer: string;
  hasGraph: boolean;
  readonly opsets: Map<string, number>;
  inputs: OnnxEdge[];
  outputs: OnnxEdge[];
  readonly operators: Map<string, number>;
  readonly initializers: Set<string>;
  weightBytes: number;
  readonly external: Map<string, number>;
}

/** Asks for so many bytes from where reading stands. */
type Walk = Generator<number, void, void>;
/** A field with its content up to `end`; what it leaves is passed over. Null: passed over at once. */
type OnBytes = (field: number, end: number) => Walk | null;
type OnNumber = (field: number, value: number) => void;

/** Graphs inside of graphs; deeper ones are no model. */
const MAX_DEPTH = 32;
const LARGEST_HEADER = 20;

/**
 * Reads an ONNX file without a library and without its weights: of 2 GB a few MB are read, 64 KiB at a time.
 * @throws OnnxDamage where it is no ONNX model or ends too early; the file system's error where it cannot be read
 */
export async function readOnnx(path: string): Promise<OnnxFile> {
  const handle = await open(path, "r");
  try {
    const window = new ByteWindow((await handle.stat()).size);
    const found = emptyFound();
    const walk = walkModel(window, found);
    for (let step = walk.next(); step.done !== true; step = walk.next()) await window.fill(handle);
    if (!found.hasGraph) throw new OnnxDamage("has no graph: it is no ONNX model");
    if (found.opsets.size === 0) throw new OnnxDamage("names no operator set: it was cut off behind its graph, or is no ONNX model");
    const { initializers, hasGraph: _, ...read } = found;
    return { ...read, inputs: found.inputs.filter(({ name }) => !initializers.has(name)) };
  } finally {
    await handle.close();
  }
}

function emptyFound(): Found {
  return {
    irVersion: 0,
    producer: "",
    hasGraph: false,
    opsets: new Map(),
    inputs: [],
    outputs: [],
    operators: new Map(),
    initializers: new Set(),
    weightBytes: 0,
    external: new Map(),
  };
}

function* fields(window: ByteWindow, end: number, onBytes: OnBytes, onNumber: OnNumber = () => undefined): Walk {
  while (window.at < end) {
    if (!window.holds(LARGEST_HEADER)) yield LARGEST_HEADER;
    const began = window.at;
    const tag = window.varint(end);
    const [field, wire] = [Math.floor(tag / 8), tag % 8];
    if (field === 0) throw new OnnxDamage(`has no field at byte ${began}: it is no ONNX model, or was damaged there`);
    if (wire === 0) {
      onNumber(field, window.varint(end));
      continue;
    }
    const length = lengthOf(window, wire, end, began);
    const stop = window.at + length;
    if (stop > end) throw tooShort(window, stop, end, began);
    if (wire === 2) {
      const inner = onBytes(field, stop);
      if (inner !== null) yield* inner;
    }
    window.at = stop;
  }
}

function lengthOf(window: ByteWindow, wire: number, end: number, began: number): number {
  if (wire === 2) return window.varint(end);
  if (wire === 1) return 8;
  if (wire === 5) return 4;
  throw new OnnxDamage(`has no field at byte ${began}: it is no ONNX model, or was damaged there`);
}

function tooShort(window: ByteWindow, stop: number, end: number, began: number): OnnxDamage {
  const isCut = stop > window.size;
  return new OnnxDamage(
    isCut
      ? `is cut off, or no ONNX model: by its own lengths it goes on to byte ${stop} at least, and it has ${window.size}`
      : `is damaged at byte ${began}: a part of ${stop - window.at} bytes stands where ${end - window.at} are left`,
  );
}

/** Reads a small message whole. */
function* whole(window: ByteWindow, end: number, take: (bytes: Buffer) => void): Walk {
  const length = end - window.at;
  if (length > MAX_WHOLE_BYTES) throw new OnnxDamage(`has a text of ${length} bytes at byte ${window.at}: it is no ONNX model`);
  if (!window.holds(length)) yield length;
  take(window.peek(length));
}

function text(window: ByteWindow, end: number, take: (value: string) => void): Walk {
  return whole(window, end, (bytes) => take(bytes.toString("utf8")));
}

function* walkModel(window: ByteWindow, found: Found): Walk {
  yield* fields(
    window,
    window.size,
    (field, end) => {
      if (field === 2) return text(window, end, (value) => (found.producer = value));
      if (field === 7) {
        found.hasGraph = true;
        return walkGraph(window, end, found, 0);
      }
      if (field === 8) return walkOpset(window, end, found);
      if (field === 25) return walkNodes(window, end, found, 7);
      return null;
    },
    (field, value) => {
      if (field === 1) found.irVersion = value;
    },
  );
}

function* walkOpset(window: ByteWindow, end: number, found: Found): Walk {
  let [domain, version] = ["", 0];
  yield* fields(
    window,
    end,
    (field, stop) => (field === 1 ? text(window, stop, (value) => (domain = value)) : null),
    (field, value) => {
      if (field === 2) version = value;
    },
  );
  found.opsets.set(domain, version);
}

/** Nodes of a function, whose field they are. */
function walkNodes(window: ByteWindow, end: number, found: Found, nodeField: number): Walk {
  return fields(window, end, (field, stop) => (field === nodeField ? walkNode(window, stop, found, 0) : null));
}

function* walkGraph(window: ByteWindow, end: number, found: Found, depth: number): Walk {
  if (depth > MAX_DEPTH) throw new OnnxDamage(`has graphs in graphs, ${depth} deep: it is no ONNX model`);
  yield* fields(window, end, (field, stop) => {
    if (field === 1) return walkNode(window, stop, found, depth);
    if (field === 5) return walkTensor(window, stop, found, depth === 0);
    if (depth > 0) return null;
    if (field === 11) return walkEdge(window, stop, found.inputs);
    return field === 12 ? walkEdge(window, stop, found.outputs) : null;
  });
}

function* walkNode(window: ByteWindow, end: number, found: Found, depth: number): Walk {
  let [operator, domain] = ["", ""];
  yield* fields(window, end, (field, stop) => {
    if (field === 4) return text(window, stop, (value) => (operator = value));
    if (field === 7) return text(window, stop, (value) => (domain = value));
    return field === 5 ? walkAttribute(window, stop, found, depth) : null;
  });
  const name = domain === "" || domain === "ai.onnx" ? operator : `${domain}::${operator}`;
  found.operators.set(name, (found.operators.get(name) ?? 0) + 1);
}

function walkAttribute(window: ByteWindow, end: number, found: Found, depth: number): Walk {
  return fields(window, end, (field, stop) => {
    if (field === 5 || field === 10) return walkTensor(window, stop, found, false);
    return field === 6 || field === 11 ? walkGraph(window, stop, found, depth + 1) : null;
  });
}

/** @param isInitializer of the outermost graph, whose inputs it may stand in for */
function* walkTensor(window: ByteWindow, end: number, found: Found, isInitializer: boolean): Walk {
  const began = window.at;
  const dims: number[] = [];
  const entries = new Map<string, string>();
  let [type, isExternal, name] = [0, false, ""];
  yield* fields(
    window,
    end,
    (field, stop) => {
      if (field === 1) return packed(window, stop, dims);
      if (field === 8) return text(window, stop, (value) => (name = value));
      return field === 13 ? walkEntry(window, stop, entries) : null;
    },
    (field, value) => {
      if (field === 1) dims.push(value);
      if (field === 2) type = value;
      if (field === 14) isExternal = value === 1;
    },
  );
  if (isInitializer) found.initializers.add(name);
  if (isExternal) addExternal(found, name, entries, tensorBytes(type, dims));
  else found.weightBytes += end - began;
}

function packed(window: ByteWindow, end: number, into: number[]): Walk {
  return whole(window, end, () => {
    while (window.at < end) into.push(window.varint(end));
  });
}

function* walkEntry(window: ByteWindow, end: number, entries: Map<string, string>): Walk {
  let [key, value] = ["", ""];
  yield* fields(window, end, (field, stop) => {
    if (field === 1) return text(window, stop, (read) => (key = read));
    return field === 2 ? text(window, stop, (read) => (value = read)) : null;
  });
  entries.set(key, value);
}

function addExternal(found: Found, name: string, entries: ReadonlyMap<string, string>, size: number): void {
  const location = entries.get("location");
  if (location === undefined || location === "") throw new OnnxDamage(`does not say in which file the weights of ${name} are`);
  const offset = Number(entries.get("offset") ?? 0);
  const length = entries.has("length") ? Number(entries.get("length")) : size;
  if (!Number.isSafeInteger(offset) || offset < 0 || !Number.isSafeInteger(length) || length < 0)
    throw new OnnxDamage(
      `has no numbers for where the weights of ${name} are: offset ${entries.get("offset")}, length ${entries.get("length")}`,
    );
  found.external.set(location, Math.max(found.external.get(location) ?? 0, offset + length));
}

function* walkEdge(window: ByteWindow, end: number, into: OnnxEdge[]): Walk {
  let [name, type] = ["", "unknown"];
  const dims: (number | string)[] = [];
  const setType = (value: string): void => {
    type = value;
  };
  yield* fields(window, end, (field, stop) => {
    if (field === 1) return text(window, stop, (value) => (name = value));
    return field === 2 ? walkType(window, stop, setType, dims) : null;
  });
  into.push({ name, type, dims });
}

function walkType(window: ByteWindow, end: number, setType: (name: string) => void, dims: (number | string)[]): Walk {
  const others: Readonly<Record<number, string>> = { 4: "sequence", 5: "map", 8: "sparse", 9: "optional" };
  return fields(window, end, (field, stop) => {
    if (field !== 1) {
      setType(others[field] ?? "unknown");
      return null;
    }
    return fields(
      window,
      stop,
      (inner, innerEnd) => (inner === 2 ? walkShape(window, innerEnd, dims) : null),
      (inner, value) => {
        if (inner === 1) setType(tensorTypeName(value));
      },
    );
  });
}

function walkShape(window: ByteWindow, end: number, dims: (number | string)[]): Walk {
  return fields(window, end, (field, stop) => (field === 1 ? walkDim(window, stop, dims) : null));
}

function* walkDim(window: ByteWindow, end: number, dims: (number | string)[]): Walk {
  // A size of which nothing is said.
  let size: number | string = "?";
  yield* fields(
    window,
    end,
    (field, stop) => (field === 2 ? text(window, stop, (value) => (size = value)) : null),
    (field, value) => {
      if (field === 1) size = value;
    },
  );
  dims.push(size);
}
