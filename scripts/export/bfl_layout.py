"""Rewrites the tiny-flux-schnell export in the layout of black-forest-labs/FLUX.1-schnell-onnx: test/fixtures/flux/tiny-flux-bfl.

    python bfl_layout.py

Same weights, other files, names, types and ranks, so that a test can prove that a manifest is enough to run such an export:

    clip.opt/model.onnx              input_ids int32 [B,77]  -> text_embeddings, pooled_embeddings
    t5.opt/model.onnx                input_ids int32 [B,S]   -> text_embeddings
    transformer.opt/fp16/model.onnx  float16 at the edges, img_ids / txt_ids float32 [B,S,3] -> latent; weights in backbone.onnx_data
    vae.opt/model.onnx               latent -> images (float32)

The real one has bfloat16 at its edges, which no JavaScript runtime can feed, and rank 2 ids; rank 3 is what exports of diffusers
before 0.31 have. Weights are stored as float16 and cast back: tiny_flux.py draws only values that float16 holds, so nothing is lost.
"""

import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from goldens_flux import FIXTURES
from tiny_flux import REPOSITORY

SOURCE = REPOSITORY / "models" / "tiny-flux-schnell"
TARGET = FIXTURES / "tiny-flux-bfl"
# Smaller tensors cost more as a Cast node than they save.
SMALLEST_HALVED = 256


def halve_weights(graph: onnx.GraphProto) -> None:
    """Stores float32 weights as float16 followed by a Cast, wherever that changes no value."""
    casts = []
    for weight in graph.initializer:
        value = numpy_helper.to_array(weight)
        if value.dtype != np.float32 or value.size < SMALLEST_HALVED or not np.array_equal(value, value.astype(np.float16)):
            continue
        name = weight.name
        weight.CopyFrom(numpy_helper.from_array(value.astype(np.float16), name + "_half"))
        casts.append(helper.make_node("Cast", [weight.name], [name], to=TensorProto.FLOAT))
    for node in reversed(casts):
        graph.node.insert(0, node)


def shorten_names(graph: onnx.GraphProto) -> None:
    """Node and inner tensor names of the exporter are long paths; here they would be a quarter of the file."""
    kept = {value.name for value in (*graph.input, *graph.output)} | {weight.name for weight in graph.initializer}
    short: dict[str, str] = {}
    for node in graph.node:
        node.name = ""
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name and name not in kept:
                    names[index] = short.setdefault(name, f"t{len(short)}")
    del graph.value_info[:]


def rename(graph: onnx.GraphProto, values, old: str, new: str) -> None:
    """Gives a graph input or output another name, in its declaration and wherever a node uses it."""
    for value in values:
        if value.name == old:
            value.name = new
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == old:
                    names[index] = new


def feed_as(graph: onnx.GraphProto, name: str, kind: int) -> None:
    """Declares the input `name` as `kind` and casts it to what the graph inside works with."""
    value = next(value for value in graph.input if value.name == name)
    inside = value.type.tensor_type.elem_type
    for node in graph.node:
        for index, used in enumerate(node.input):
            if used == name:
                node.input[index] = name + "_inside"
    graph.node.insert(0, helper.make_node("Cast", [name], [name + "_inside"], to=inside))
    value.type.tensor_type.elem_type = kind


def give_as(graph: onnx.GraphProto, name: str, kind: int) -> None:
    value = next(value for value in graph.output if value.name == name)
    for node in graph.node:
        for names in (node.input, node.output):
            for index, used in enumerate(names):
                if used == name:
                    names[index] = name + "_inside"
    graph.node.append(helper.make_node("Cast", [name + "_inside"], [name], to=kind))
    value.type.tensor_type.elem_type = kind


def ids_per_sample(graph: onnx.GraphProto, name: str) -> None:
    """[B,S,3] at the edge, of which the first sample's [S,3] is used: positions do not depend on the sample."""
    value = next(value for value in graph.input if value.name == name)
    for node in graph.node:
        for index, used in enumerate(node.input):
            if used == name:
                node.input[index] = name + "_rows"
    if not any(weight.name == "first_sample" for weight in graph.initializer):
        graph.initializer.append(numpy_helper.from_array(np.array(0, dtype=np.int64), "first_sample"))
    graph.node.insert(0, helper.make_node("Gather", [name, "first_sample"], [name + "_rows"], axis=0))
    shape = [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
    value.CopyFrom(helper.make_tensor_value_info(name, value.type.tensor_type.elem_type, ["batch_size", *shape]))


def save(model: onnx.ModelProto, file: str, external_data: str | None = None) -> None:
    halve_weights(model.graph)
    shorten_names(model.graph)
    path = TARGET / file
    path.parent.mkdir(parents=True)
    if external_data is None:
        onnx.save(model, path)
    else:
        onnx.save(model, path, save_as_external_data=True, all_tensors_to_one_file=True, location=external_data, size_threshold=100)
        # onnx makes it readable by its owner only.
        path.with_name(external_data).chmod(0o644)
    onnx.checker.check_model(str(path))


def text_encoder(part: str, file: str, outputs: dict[str, str]) -> None:
    model = onnx.load(SOURCE / part / "model.onnx")
    feed_as(model.graph, "input_ids", TensorProto.INT32)
    for old, new in outputs.items():
        rename(model.graph, model.graph.output, old, new)
    save(model, file)


def transformer() -> None:
    model = onnx.load(SOURCE / "transformer" / "model.onnx")
    graph = model.graph
    rename(graph, graph.output, "out_hidden_states", "latent")
    give_as(graph, "latent", TensorProto.FLOAT16)
    for value in ("hidden_states", "encoder_hidden_states", "pooled_projections", "timestep"):
        feed_as(graph, value, TensorProto.FLOAT16)
    for value in ("img_ids", "txt_ids"):
        feed_as(graph, value, TensorProto.FLOAT)
        ids_per_sample(graph, value)
    save(model, "transformer.opt/fp16/model.onnx", external_data="backbone.onnx_data")


def decoder() -> None:
    model = onnx.load(SOURCE / "vae_decoder" / "model.onnx")
    rename(model.graph, model.graph.input, "latent_sample", "latent")
    rename(model.graph, model.graph.output, "sample", "images")
    save(model, "vae.opt/model.onnx")


def main() -> None:
    for part in ("clip.opt", "t5.opt", "transformer.opt", "vae.opt", "scheduler", "tokenizer", "tokenizer_2"):
        shutil.rmtree(TARGET / part, ignore_errors=True)
    text_encoder("text_encoder", "clip.opt/model.onnx", {"last_hidden_state": "text_embeddings", "pooler_output": "pooled_embeddings"})
    text_encoder("text_encoder_2", "t5.opt/model.onnx", {"last_hidden_state": "text_embeddings"})
    transformer()
    decoder()
    for folder in ("scheduler", "tokenizer"):
        shutil.copytree(SOURCE / folder, TARGET / folder)
    (TARGET / "tokenizer_2").mkdir()
    # spiece.model is left out: 240 KB that nobody reads who has tokenizer.json.
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(SOURCE / "tokenizer_2" / file, TARGET / "tokenizer_2" / file)
    size = sum(file.stat().st_size for file in TARGET.rglob("*") if file.is_file())
    print(f"{size / 1e6:.2f} MB in {TARGET}")


if __name__ == "__main__":
    main()
