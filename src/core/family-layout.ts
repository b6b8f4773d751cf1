import type { Manifest } from "../protocol/manifest.ts";
import type { Task } from "../protocol/task.ts";
import type { Family } from "./family-fields.ts";

/** Where a graph of a family lies, and what its tensors are called. */
export interface GraphRow {
  /** The family's own places, relative to the model's folder: the first that is there is opened. */
  readonly places: readonly string[];
  /** The graph is opened only for models of this task. */
  readonly task?: Task;
  /** Roles that `parts.<part>.inputs` and `.outputs` of a manifest may give another name; `*` stands for a number. */
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
}

/** What of a file can be checked without opening the model. */
export interface FileSpec {
  /** Relative to the model's folder, or to the row's place. */
  readonly file: string;
  /** `merges`: the pairs of a byte-pair tokenizer, beside its vocab.json. `rows`: nothing but rows of `rowBytes` bytes. */
  readonly kind: "graph" | "json" | "merges" | "rows";
  /** JSON: keys whose values must be there and not empty, `a.b` for one inside another; the empty text for the whole. */
  readonly holds?: readonly string[];
  readonly rowBytes?: number;
}

/** A file or folder of `files`. */
export interface FileRow {
  /** The family's own place; `{part}` stands for the folder of that graph. */
  readonly place: string;
  /** Sets of files of which the first that is there whole is read. In a folder they lie below the place; a file has the name "". */
  readonly sets: readonly (readonly FileSpec[])[];
  /** Read where they are there. */
  readonly also?: readonly FileSpec[];
  /** Read where it is there, unless the manifest names it: then it must be. */
  readonly optional?: boolean;
  /** How to get it, where the model's source may not have it. */
  readonly advice?: string;
}

export interface FamilyLayout {
  readonly graphs: Readonly<Record<string, GraphRow>>;
  readonly files: Readonly<Record<string, FileRow>>;
}

const SPECIAL_TOKENS: readonly FileSpec[] = [
  { file: "special_tokens_map.json", kind: "json" },
  { file: "tokenizer_config.json", kind: "json" },
];
const READY_TOKENIZER: FileSpec = { file: "tokenizer.json", kind: "json", holds: ["model.vocab"] };
const VOCABULARY: FileSpec = { file: "vocab.json", kind: "json", holds: [""] };

const t5Tokenizer = (place: string): FileRow => ({
  place,
  sets: [[READY_TOKENIZER]],
  also: SPECIAL_TOKENS,
  advice: "make it with transformers: T5TokenizerFast.from_pretrained(folder).save_pretrained(folder)",
});
const json = (place: string, ...holds: readonly string[]): FileRow => ({ place, sets: [[{ file: "", kind: "json", holds }]] });
const graph = (places: readonly string[], inputs: readonly string[], outputs: readonly string[], task?: Task): GraphRow => ({
  places,
  inputs,
  outputs,
  ...(task === undefined ? {} : { task }),
});
const textEncoder = (places: readonly string[], output: string): GraphRow => graph(places, ["input_ids", "attention_mask"], [output]);
/** Optimum writes graphs beside config.json, the repositories on the Hub have them in `onnx/`. */
const optimum = (name: string): readonly string[] => [`onnx/${name}`, name];
const CACHE = ["decoder.key", "decoder.value", "encoder.key", "encoder.value"];
const mergedDecoder = (...more: readonly string[]): GraphRow =>
  graph(
    optimum("decoder_model_merged.onnx"),
    ["input_ids", "encoder_hidden_states", "use_cache_branch", ...more, ...CACHE.map((name) => `past_key_values.*.${name}`)],
    ["logits", ...CACHE.map((name) => `present.*.${name}`)],
  );
const SCHEDULER = json("scheduler/scheduler_config.json", "_class_name");
const VIDEO_NOISE = ["noise", "decode_noise_scale", "timestep"];
/** A row of Kokoro's voices: 256 float32. */
const STYLE_BYTES = 1024;

/**
 * What each family opens of a model's folder. Its pipelines look here for where the files are, and the check of a folder for what must be
 * there; test/integration/family-layout.test.ts shows for each family that these files suffice and that each of them is needed.
 */
export const FAMILY_LAYOUTS = {
  flux: {
    graphs: {
      text_encoder: textEncoder(["text_encoder/model.onnx"], "pooler_output"),
      text_encoder_2: textEncoder(["text_encoder_2/model.onnx"], "last_hidden_state"),
      transformer: graph(
        ["transformer/model.onnx"],
        ["hidden_states", "encoder_hidden_states", "pooled_projections", "timestep", "guidance", "img_ids", "txt_ids"],
        ["out_hidden_states"],
      ),
      vae_decoder: graph(["vae_decoder/model.onnx"], ["latent_sample"], ["sample"]),
      vae_encoder: graph(["vae_encoder/model.onnx"], ["sample"], ["latent_parameters"], "img2img"),
    },
    files: {
      scheduler: SCHEDULER,
      tokenizer: {
        place: "tokenizer",
        sets: [[READY_TOKENIZER], [VOCABULARY, { file: "merges.txt", kind: "merges" }]],
        also: SPECIAL_TOKENS,
      },
      tokenizer_2: t5Tokenizer("tokenizer_2"),
      vae_config: { ...json("{vae_decoder}/config.json"), optional: true },
    },
  },
  "ltx-video": {
    graphs: {
      text_encoder: textEncoder(["text_encoder/model.onnx"], "last_hidden_state"),
      transformer: graph(
        ["transformer/model.onnx"],
        ["hidden_states", "encoder_hidden_states", "encoder_attention_mask", "timestep", "rope_cos", "rope_sin"],
        ["out_hidden_states"],
      ),
      vae_decoder: graph(["vae_decoder/model.onnx"], ["latent_sample", ...VIDEO_NOISE], ["sample"]),
      vae_encoder: graph(["vae_encoder/model.onnx"], ["sample"], ["latent_parameters"], "img2video"),
    },
    files: {
      scheduler: SCHEDULER,
      tokenizer: t5Tokenizer("tokenizer"),
      transformer_config: { ...json("{transformer}/config.json", "num_attention_heads", "attention_head_dim"), optional: true },
      vae_config: { ...json("{vae_decoder}/config.json"), optional: true },
    },
  },
  kokoro: {
    graphs: { model: graph(optimum("model.onnx"), ["input_ids", "style", "speed"], ["waveform"]) },
    files: {
      tokenizer: json("tokenizer.json", "model.vocab"),
      // A file for each voice of the manifest: see familyFiles.
      voices: { place: "voices", sets: [[]] },
    },
  },
  vits: {
    graphs: { model: graph(optimum("model.onnx"), ["input_ids", "attention_mask"], ["waveform"]) },
    files: {
      tokenizer: { place: "", sets: [[VOCABULARY, { file: "tokenizer_config.json", kind: "json", holds: ["tokenizer_class"] }]] },
      config: json("config.json", "sampling_rate"),
    },
  },
  musicgen: {
    graphs: {
      text_encoder: textEncoder(optimum("text_encoder.onnx"), "last_hidden_state"),
      decoder_model_merged: mergedDecoder("encoder_attention_mask"),
      encodec_decode: graph(optimum("encodec_decode.onnx"), ["audio_codes"], ["audio_values"]),
    },
    files: { config: json("config.json", "audio_encoder", "decoder"), tokenizer: t5Tokenizer("") },
  },
  whisper: {
    graphs: {
      encoder: graph(optimum("encoder_model.onnx"), ["input_features"], ["last_hidden_state"]),
      decoder: mergedDecoder(),
    },
    files: {
      config: json("config.json", "num_mel_bins", "d_model", "vocab_size"),
      generation_config: json("generation_config.json", "decoder_start_token_id", "no_timestamps_token_id"),
      tokenizer: json("tokenizer.json", "model.vocab"),
    },
  },
  fake: { graphs: {}, files: {} },
} as const satisfies Readonly<Record<Family, FamilyLayout>>;

export type PartOf<F extends Family> = keyof (typeof FAMILY_LAYOUTS)[F]["graphs"] & string;
export type FileRoleOf<F extends Family> = keyof (typeof FAMILY_LAYOUTS)[F]["files"] & string;

export function layoutOf(family: Family): FamilyLayout {
  return FAMILY_LAYOUTS[family];
}

/** Something that a family opens: one of several sets of files. Paths are relative to the model's folder. */
export interface FamilyFile {
  /** Of `parts` or of `files`. */
  readonly role: string;
  /** Where a manifest says that it lies elsewhere: `parts.encoder.file`. */
  readonly key: string;
  /** The first that is there whole is opened. */
  readonly sets: readonly (readonly FileSpec[])[];
  readonly required: boolean;
  readonly advice?: string;
}

/** Everything that the family opens of a model with this manifest, small files first. Empty for a family of tests. */
export function familyFiles(manifest: Manifest): readonly FamilyFile[] {
  const { graphs, files } = layoutOf(manifest.family);
  return [
    ...Object.entries(files).flatMap(([role, row]) => filesOf(manifest, role, row)),
    ...Object.entries(graphs)
      .filter(([, { task }]) => task === undefined || manifest.tasks.includes(task))
      .map(([role]): FamilyFile => ({
        role,
        key: `parts.${role}.file`,
        sets: graphPlaces(manifest, role).map((file) => [{ file, kind: "graph" }]),
        required: true,
      })),
  ];
}

/** Where the graph of a part may lie: where the manifest says, else the family's own places. */
export function graphPlaces({ family, parts }: Pick<Manifest, "family" | "parts">, part: string): readonly string[] {
  const named = parts[part]?.file;
  return named === undefined ? (layoutOf(family).graphs[part]?.places ?? []) : [named];
}

/** Where a file or folder of a role lies: as the manifest says, else the family's own place. @throws RangeError for no role of the family's */
export function filePlace(manifest: Pick<Manifest, "family" | "parts" | "files">, role: string): string {
  const row = layoutOf(manifest.family).files[role];
  if (row === undefined) throw new RangeError(`family ${manifest.family} has no file ${role}: this is a bug`);
  return manifest.files[role] ?? row.place.replaceAll(/\{(\w+)\}\//g, (_, part: string) => folderOf(graphPlaces(manifest, part)[0] ?? ""));
}

function folderOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/") + 1);
}

function filesOf(manifest: Manifest, role: string, row: FileRow): readonly FamilyFile[] {
  const place = filePlace(manifest, role);
  const at = (spec: FileSpec): FileSpec => ({ ...spec, file: [place, spec.file].filter((step) => step !== "").join("/") });
  const make = (sets: readonly (readonly FileSpec[])[], required: boolean): FamilyFile => ({
    role,
    key: `files.${role}`,
    sets: sets.map((set) => set.map(at)),
    required,
    ...(row.advice === undefined ? {} : { advice: row.advice }),
  });
  const required = row.optional !== true || manifest.files[role] !== undefined;
  const main = role === "voices" ? voiceFiles(manifest) : [row.sets];
  return [...main.map((sets) => make(sets, required)), ...(row.also ?? []).map((spec) => make([[spec]], false))];
}

/** Each voice that the manifest names. */
function voiceFiles({ languages = [] }: Manifest): readonly (readonly (readonly FileSpec[])[])[] {
  const voices = new Set(languages.flatMap((language) => language.voices.map(({ slug }) => slug)));
  return [...voices].map((slug) => [[{ file: `${slug}.bin`, kind: "rows", rowBytes: STYLE_BYTES }]]);
}
