"""How far a quantised model is from its float one: the cosine of each part's outputs, and the PSNR of Flux's pictures over seeds.

    python quantize_accuracy.py FLOAT QUANTISED [--samples 4] [--seeds 4] [--size 512] [--steps 4] [--least-cosine 0.99] [--json FILE]

Both are model folders. Parts get sample inputs of the right kind: random token ids and latents, times over the whole schedule, and for a
transformer or decoder what the float text or audio encoder made of its samples. The two graphs of a part are open one after the other, so
memory must hold the larger one. With --least-cosine the exit status is 1 when a part is below it. Clips of LTX-Video and transcripts of Whisper are compared
by running both models; `scripts/verify quantize` does it with the tiny ones.
"""

import argparse
import gc
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime

from flux_loop import OPTIMUM, Flux, Layout
from quantize_manifest import FAMILY_PARTS, find_manifest
from quantize_rules import graphs_of
from weight_files import read_graph

PROMPTS = ("a red fox standing in fresh snow, soft morning light", "a lighthouse on a cliff above a stormy sea, oil painting")
# Parts in the order in which one feeds the next.
ORDER = ("text_encoder", "text_encoder_2", "encoder", "transformer", "decoder", "vae_encoder", "vae_decoder")
ELEMENT = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(bool)": np.bool_}
# Sizes that a graph leaves open. Any other open size is 1.
SIDE = 16
SIZES = {
    "sequence_length": 64, "length": 64, "packed_height_width": SIDE * SIDE, "tokens": SIDE * SIDE, "decoder_sequence_length": 16,
    "encoder_sequence_length": 1500, "past_decoder_sequence_length": 0, "latent_height": SIDE, "latent_width": SIDE, "frames": 2, "height": SIDE,
    "width": SIDE, "sample_height": 8 * SIDE, "sample_width": 8 * SIDE,
}  # fmt: skip


def open_graph(file: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])


def vocabulary(file: Path) -> int:
    """How many token ids the graph's first embedding has."""
    model = read_graph(file)
    tables = {weight.name: weight.dims[0] for weight in model.graph.initializer if len(weight.dims) == 2}
    return next(tables[node.input[0]] for graph in graphs_of(model.graph) for node in graph.node if node.op_type == "Gather" and node.input[0] in tables)


class Samples:
    """Inputs of a family's graphs, by the names that its exporter gives them. The same seed gives the same inputs."""

    def __init__(self, family: str, seed: int, of: int):
        self.random, self.family = np.random.default_rng(seed), family
        # The times of the samples lie over the whole schedule, from the noisiest to the last.
        self.time = 1 - seed / of
        self.made: dict[str, np.ndarray] = {}

    def value(self, name: str, shape: list[int], ids: int) -> np.ndarray:
        """@raises SystemExit for an input that no rule here knows"""
        if name in self.made and self.made[name].ndim == len(shape):
            return self.made[name]
        if name == "input_ids":
            return self.random.integers(3, ids, shape)
        if name in ("attention_mask", "encoder_attention_mask"):
            return (np.arange(shape[-1]) < shape[-1] * 3 // 4)[None].repeat(shape[0], axis=0)
        if name == "img_ids":
            down, across = np.mgrid[0:SIDE, 0:SIDE]
            return np.broadcast_to(np.stack([np.zeros_like(down), down, across], axis=-1).reshape(-1, 3), shape)
        if name in ("txt_ids", "use_cache_branch") or name.startswith("past_key_values"):
            return np.zeros(shape)
        if name == "guidance":
            return np.full(shape, 3.5)
        if name == "timestep":
            return np.full(shape, self.time * (1000 if self.family == "ltx-video" else 1))
        if name == "decode_noise_scale":
            return np.full(shape, 0.025)
        if name == "rope_cos":
            angles = self.random.uniform(-np.pi, np.pi, shape)
            self.made["rope_sin"] = np.sin(angles)
            return np.cos(angles)
        if name in ("hidden_states", "latent_sample", "noise", "encoder_hidden_states", "pooled_projections", "input_features", "sample"):
            return self.random.standard_normal(shape)
        raise SystemExit(f"no sample for the input {name} {shape}; write a rule for it in Samples.value")

    def inputs(self, file: Path, session: onnxruntime.InferenceSession, names: dict[str, str]) -> dict[str, np.ndarray]:
        roles = {name: role for role, name in names.items()}
        declared = {roles.get(entry.name, entry.name): entry for entry in session.get_inputs()}
        ids = vocabulary(file) if "input_ids" in declared else 0
        feeds = {}
        for role, entry in declared.items():
            # A name of a size may stand for a size that another input decides.
            shape = [size if isinstance(size, int) else SIZES.get(size, 1) for size in entry.shape]
            feeds[entry.name] = np.ascontiguousarray(self.value(role, shape, ids)).astype(ELEMENT[entry.type])
        return feeds

    def keep(self, part: str, session: onnxruntime.InferenceSession, results: list[np.ndarray]) -> None:
        """What a later part takes from this one."""
        given = dict(zip((output.name for output in session.get_outputs()), results, strict=True))
        if "pooler_output" in given:
            self.made["pooled_projections"] = given["pooler_output"]
        elif part in ("text_encoder", "text_encoder_2", "encoder"):
            self.made["encoder_hidden_states"] = results[0]


def flat(results: list[np.ndarray]) -> np.ndarray:
    """The first output, which every graph is for."""
    return results[0].astype(np.float64).ravel()


def compare_parts(folders: tuple[Path, Path], manifests: tuple[dict, dict], count: int) -> Iterator[dict]:
    family = manifests[0]["family"]
    samples = [Samples(family, seed, count) for seed in range(count)]
    for part in ORDER:
        places = [FAMILY_PARTS[family] | {name: entry["file"] for name, entry in each.get("parts", {}).items()} for each in manifests]
        files = [folder / place.get(part, "-") for folder, place in zip(folders, places, strict=True)]
        if not all(file.is_file() for file in files):
            continue
        same = files[0].read_bytes() == files[1].read_bytes() if files[0].stat().st_size == files[1].stat().st_size else False
        if same and part.startswith("vae"):
            continue
        entry = manifests[0].get("parts", {}).get(part, {})
        session, feeds, expected = open_graph(files[0]), [], []
        for sample in samples:
            feeds.append(sample.inputs(files[0], session, entry.get("inputs", {})))
            results = session.run(None, feeds[-1])
            sample.keep(part, session, results)
            expected.append(flat(results))
        del session
        gc.collect()
        if same:
            continue
        session = open_graph(files[1])
        actual = [flat(session.run(None, feed)) for feed in feeds]
        del session
        pairs = list(zip(actual, expected, strict=True))
        cosines = [float(a @ b / np.sqrt((a @ a) * (b @ b))) for a, b in pairs]
        errors = [float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in pairs]
        yield {"part": part, "cosine": float(np.mean(cosines)), "least": min(cosines), "error": float(np.mean(errors))}
        gc.collect()


def pictures(folder: Path, manifest: dict, cases: list[dict]) -> list[np.ndarray]:
    parts = manifest.get("parts", {})
    files = OPTIMUM.files | {part: entry["file"] for part, entry in parts.items()}
    model = Flux(folder, Layout(files, {part: entry.get("inputs", {}) | entry.get("outputs", {}) for part, entry in parts.items()}))
    return [np.rint(model.run(case, folder)[1]) for case in cases]


def compare_pictures(folders: tuple[Path, Path], manifests: tuple[dict, dict], options: argparse.Namespace) -> dict:
    length = manifests[0].get("options", {}).get("t5_length", 256)
    cases = [
        {
            "task": "txt2img", "prompt": PROMPTS[seed % len(PROMPTS)], "seed": seed, "width": options.size, "height": options.size,
            "steps": options.steps, "guidance": 3.5, "max_sequence_length": length,
        }
        for seed in range(options.seeds)
    ]  # fmt: skip
    before, after = (pictures(folder, manifest, cases) for folder, manifest in zip(folders, manifests, strict=True))
    errors = [float(((a - b) ** 2).mean()) for a, b in zip(before, after, strict=True)]
    decibels = [10 * np.log10(255**2 / error) if error else np.inf for error in errors]
    return {"seeds": len(cases), "size": options.size, "steps": options.steps, "psnr": float(np.mean(decibels)), "least": float(min(decibels))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("float", type=Path)
    parser.add_argument("quantised", type=Path)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=4, help="0: no pictures")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--manifest", type=Path, help="model.json of the float model, as for quantize.py")
    parser.add_argument("--least-cosine", type=float, default=-1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    folders = (options.float.resolve(), options.quantised.resolve())
    manifests = (find_manifest(folders[0], options.manifest), find_manifest(folders[1], None))

    print("| part | cosine, mean | least | relative error |\n|---|---|---|---|")
    rows = []
    for row in compare_parts(folders, manifests, options.samples):
        rows.append(row)
        print(f"| `{row['part']}` | {row['cosine']:.5f} | {row['least']:.5f} | {row['error']:.4f} |", flush=True)
    if not rows:
        raise SystemExit("no part differs: are these the float and the quantised model?")
    report = {"parts": rows}
    if manifests[0]["family"] == "flux" and options.seeds > 0:
        report["pictures"] = found = compare_pictures(folders, manifests, options)
        print(f"pictures of {found['seeds']} seeds, {found['size']} x {found['size']}, {found['steps']} steps: "
              f"PSNR {found['psnr']:.1f} dB in the mean, {found['least']:.1f} dB at least")  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    sys.exit(1 if any(not row["least"] >= options.least_cosine for row in rows) else 0)


if __name__ == "__main__":
    main()
