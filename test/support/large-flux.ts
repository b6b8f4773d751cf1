import { cp, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { writeGraph, type Node, type Value, type Weight } from "./onnx-writer.ts";

const TINY = fileURLToPath(new URL("../../models/tiny-flux-schnell/", import.meta.url));
/** Features inside; a matrix has 16 MiB. */
const WIDTH = 2048;
const MATRIX_BYTES = WIDTH * WIDTH * 4;

/** Bytes of weights that each part is made of, about. */
export type LargeFlux = Readonly<Record<"text_encoder" | "text_encoder_2" | "transformer" | "vae_decoder", number>>;

/**
 * A model with Flux' edges and weights of nothing: chains of matrices, so that its parts have the sizes that are asked for and its pictures
 * mean nothing. Text to image alone.
 */
export async function writeLargeFlux(dir: string, sizes: LargeFlux): Promise<void> {
  await mkdir(dir, { recursive: true });
  for (const name of ["scheduler", "tokenizer", "tokenizer_2"]) await cp(join(TINY, name), join(dir, name), { recursive: true });
  await mkdir(join(dir, "vae_decoder"), { recursive: true });
  await cp(join(TINY, "vae_decoder/config.json"), join(dir, "vae_decoder/config.json"));
  const [clip, t5] = [77, 16];
  const ids = (length: number): Value => ({ name: "input_ids", type: "int64", dims: [1, length] });
  const float = (name: string, ...dims: (number | string)[]): Value => ({ name, type: "float32", dims });
  const count = (bytes: number): number => Math.max(1, Math.round(bytes / MATRIX_BYTES));

  const pooled = chain("x", "pooler_output", count(sizes.text_encoder), [clip, WIDTH]);
  await writeGraph(join(dir, "text_encoder/model.onnx"), {
    inputs: [ids(clip)],
    outputs: [float("pooler_output", 1, WIDTH)],
    nodes: [{ op: "Cast", inputs: ["input_ids"], outputs: ["x"], attributes: { to: 1 } }, ...pooled.nodes],
    weights: pooled.weights,
  });
  const tokens = chain("x", "last_hidden_state", count(sizes.text_encoder_2), [1, WIDTH]);
  await writeGraph(join(dir, "text_encoder_2/model.onnx"), {
    inputs: [ids(t5)],
    outputs: [float("last_hidden_state", 1, t5, WIDTH)],
    nodes: [
      { op: "Cast", inputs: ["input_ids"], outputs: ["flat"], attributes: { to: 1 } },
      { op: "Unsqueeze", inputs: ["flat", "axes"], outputs: ["x"] },
      ...tokens.nodes,
    ],
    weights: tokens.weights,
    constants: { axes: [-1] },
  });
  const steps = chain("hidden_states", "out_hidden_states", count(sizes.transformer), [64, WIDTH], [WIDTH, 64]);
  await writeGraph(join(dir, "transformer/model.onnx"), {
    inputs: [
      float("hidden_states", "batch", "tokens", 64),
      float("encoder_hidden_states", "batch", "words", WIDTH),
      float("pooled_projections", "batch", WIDTH),
      float("timestep", "batch"),
      { name: "img_ids", type: "int64", dims: ["tokens", 3] },
      { name: "txt_ids", type: "int64", dims: ["words", 3] },
    ],
    outputs: [float("out_hidden_states", "batch", "tokens", 64)],
    ...steps,
  });
  await writeGraph(join(dir, "vae_decoder/model.onnx"), decoder(count(sizes.vae_decoder), float));
  await writeFile(join(dir, "model.json"), JSON.stringify({ sizes }));
}

/** `from` x first x [WIDTH, WIDTH] ... x last -> `to`, with a Tanh behind each, so that numbers stay numbers. */
function chain(
  from: string,
  to: string,
  matrices: number,
  first: readonly [number, number],
  last?: readonly [number, number],
): { readonly nodes: readonly Node[]; readonly weights: readonly Weight[] } {
  const dims = [first, ...Array.from({ length: matrices }, () => [WIDTH, WIDTH] as const), ...(last === undefined ? [] : [last])];
  const nodes = dims.flatMap((_, at): Node[] => [
    { op: "MatMul", inputs: [at === 0 ? from : `h${at}`, `w${at}`], outputs: [`m${at}`] },
    { op: "Tanh", inputs: [`m${at}`], outputs: [at === dims.length - 1 ? to : `h${at + 1}`] },
  ]);
  return { nodes, weights: dims.map((size, at) => ({ name: `w${at}`, dims: size, data: values(size[0] * size[1], WIDTH) })) };
}

/** 16 channels of latents -> pixels of 8 x 8 each. */
function decoder(matrices: number, float: (name: string, ...dims: (number | string)[]) => Value): Parameters<typeof writeGraph>[1] {
  const middle = Array.from({ length: matrices }, () => [WIDTH, WIDTH, 1, 1] as const);
  const dims = [[WIDTH, 16, 1, 1] as const, ...middle, [3 * 64, WIDTH, 1, 1] as const];
  const nodes = dims.flatMap((_, at): Node[] => [
    { op: "Conv", inputs: [at === 0 ? "latent_sample" : `h${at}`, `w${at}`], outputs: [`m${at}`] },
    { op: "Tanh", inputs: [`m${at}`], outputs: [`h${at + 1}`] },
  ]);
  return {
    inputs: [float("latent_sample", 1, 16, "height", "width")],
    outputs: [float("sample", 1, 3, "rows", "columns")],
    nodes: [...nodes, { op: "DepthToSpace", inputs: [`h${dims.length}`], outputs: ["sample"], attributes: { blocksize: 8 } }],
    weights: dims.map((size, at) => ({ name: `w${at}`, dims: size, data: values(size[0] * size[1], WIDTH) })),
  };
}

let drawn = new Float32Array(0);
let shift = 0;

/** Of one sequence of random numbers of about 1 / sqrt(fan), from another place each time: the library keeps equal weights once. */
function values(count: number, fan: number): Float32Array {
  if (drawn.length === 0) {
    let state = 1;
    drawn = Float32Array.from({ length: WIDTH * WIDTH + 2 ** 20 }, () => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return ((state / 2 ** 32) * 2 - 1) * Math.sqrt(3 / fan);
    });
  }
  shift = (shift + 61) % 2 ** 20;
  return drawn.subarray(shift, shift + count);
}
