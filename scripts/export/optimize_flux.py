"""Makes an Optimum export of Flux fast on CUDA: fuses its operators and stores it in half precision.

    python optimize_flux.py -i EXPORT -o OUT [--precision float16|bfloat16|float32] [--vae float16|float32] [--target cuda|cpu]

The inputs and outputs of every graph stay float32: JavaScript has no bfloat16, and the casts at the edges are a few out of thousands of
operations. What overflows float16 in Flux stays in float32 or, with --precision bfloat16, goes to bfloat16:

    text_encoder      float32 throughout (0.5 GB)
    text_encoder_2    the residual stream, its norms and `wo`, which transformers itself keeps in float32; distances are always float32
    transformer       the residual stream, its norms and gates; the sines of positions and of the time are always float32
    vae_*             the attention of the middle block, always float32; no bfloat16 in any part of a VAE
"""

import argparse
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
from onnx import TensorProto
from onnxruntime.transformers.fusion_options import FusionOptions
from onnxruntime.transformers.optimizer import optimize_model

from flux_fusions import drop_idle_casts, fuse_attention, normalise
from half_precision import attribute, set_types

# T5 is treated as "bert": the T5 rules make a RelativePositionBias that only CUDA has, to speed up what takes a few milliseconds a job.
KINDS = {"text_encoder": "clip", "text_encoder_2": "bert", "transformer": "mmdit", "vae_encoder": "vae", "vae_decoder": "vae"}
# onnx cannot store a graph and its weights in one file above 2 GB.
ONE_FILE_LIMIT = 1_900_000_000
RESIDUAL = {
    "text_encoder_2": re.compile(r"/encoder/block\.\d+/layer\.\d+/(Add|DenseReluDense/wo/MatMul)"),
    "transformer": re.compile(r"/((single_)?transformer_blocks\.\d+/)?(Add|Mul|Concat|Slice|Split|Gather)(_\d+)?$"),
}
# In the transformer the simplified norms are those of queries and keys, which are small.
NORMS = {
    "text_encoder_2": {"SimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization"},
    "transformer": {"LayerNormalization", "SkipLayerNormalization"},
}


def precise_nodes(graph: onnx.GraphProto) -> set[str]:
    """Sines, cosines, float to integer, and all that leads to them.

    In float16 an angle of 64 has a step of 0.03, one of 1000 a step of 0.5; and T5's logarithm of a distance falls into the next bucket.
    """
    makers = {name: node for node in graph.node for name in node.output}
    integer = {TensorProto.INT32, TensorProto.INT64}
    names, ahead = set(), [node for node in graph.node if node.op_type in ("Sin", "Cos") or attribute(node, "to") in integer]
    while ahead:
        node = ahead.pop()
        if node.name not in names:
            names.add(node.name)
            ahead += [makers[name] for name in node.input if name in makers]
    return names


def choose_types(part: str, graph: onnx.GraphProto, precision: str) -> Callable[[onnx.NodeProto], int]:
    if part.startswith("vae"):
        attention = {"MatMul", "Softmax"}
        return lambda node: TensorProto.FLOAT if "/attentions.0/" in node.name and node.op_type in attention else TensorProto.FLOAT16
    wide = TensorProto.BFLOAT16 if precision == "bfloat16" else TensorProto.FLOAT
    precise = precise_nodes(graph)

    def type_of(node: onnx.NodeProto) -> int:
        if node.name in precise:
            return TensorProto.FLOAT
        # Along the last axis lies the input of a projection, not the residual stream.
        if node.op_type == "Concat" and attribute(node, "axis") in (2, -1):
            return TensorProto.FLOAT16
        return wide if RESIDUAL[part].match(node.name) or node.op_type in NORMS[part] else TensorProto.FLOAT16

    return type_of


def fuse(part: str, model: onnx.ModelProto, config: dict, cuda: bool) -> onnx.ModelProto:
    """@raises SystemExit when the transformer's attention is not where it is expected: without flash attention it is of no use"""
    options, attentions = FusionOptions(KINDS[part]), 0
    if not cuda:
        options.enable_group_norm = options.enable_skip_group_norm = options.enable_nhwc_conv = False
    options.enable_embed_layer_norm = False
    if part == "text_encoder_2":
        options.enable_attention = False
    if part == "transformer":
        normalise(model.graph)
        drop_idle_casts(model)
        attentions = fuse_attention(model.graph, config["num_attention_heads"])
        wanted = config["num_layers"] + config["num_single_layers"]
        if attentions != wanted:
            raise SystemExit(f"transformer: {attentions} of {wanted} attentions recognised; flux_fusions.py does not know the form of this export")
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    # On the transformer it would copy 48 GB of weights, only to fail; its fusions do not need it.
    options.enable_shape_inference = part != "transformer"
    result = optimize_model(
        model, model_type=KINDS[part], num_heads=0, hidden_size=0, opt_level=0, optimization_options=options, use_gpu=cuda
    )
    result.topological_sort()
    counts = {name: count for name, count in result.get_fused_operator_statistics().items() if count > 0}
    print(f"{part}: fused {counts | ({'MultiHeadAttention': attentions} if attentions else {})}")
    return result.model


def save(model: onnx.ModelProto, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if sum(len(weight.raw_data) for weight in model.graph.initializer) < ONE_FILE_LIMIT:
        onnx.save(model, file)
    else:
        data = "model.onnx_data"
        onnx.save(model, file, save_as_external_data=True, all_tensors_to_one_file=True, location=data, size_threshold=1024)
        file.with_name(data).chmod(0o644)


def copy_rest(source: Path, target: Path) -> None:
    """Everything that is no graph: tokenizers, schedule, configurations."""
    for file in source.rglob("*"):
        if file.is_file() and file.suffix in (".json", ".txt", ".model"):
            (target / file.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target / file.relative_to(source))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-i", "--input", type=Path, required=True, help="folder that optimum-cli wrote, float32")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--precision", choices=("float16", "bfloat16", "float32"), default="float16", help="bfloat16: where float16 overflows")
    parser.add_argument("--vae", choices=("float16", "float32"), default="float16")
    parser.add_argument("--target", choices=("cuda", "cpu"), default="cuda", help="cpu leaves out the fusions that only CUDA can run")
    parser.add_argument("--parts", nargs="+", choices=tuple(KINDS), default=tuple(KINDS))
    options = parser.parse_args()

    copy_rest(options.input, options.output)
    for part in options.parts:
        config = json.loads((options.input / part / "config.json").read_text())
        model = fuse(part, onnx.load(options.input / part / "model.onnx"), config, cuda=options.target == "cuda")
        precision = options.vae if part.startswith("vae") and options.precision != "float32" else options.precision
        if precision != "float32" and part != "text_encoder":
            counts = set_types(model, choose_types(part, model.graph, precision))
            print(f"{part}: " + ", ".join(f"{count} nodes {TensorProto.DataType.Name(kind)}" for kind, count in counts.items()))
        save(model, options.output / part / "model.onnx")


if __name__ == "__main__":
    main()
