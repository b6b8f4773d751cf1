"""Stores the weights of an ONNX export of Flux, LTX-Video or Whisper in 4 or 8 bits (com.microsoft MatMulNBits).

    python quantize.py -i EXPORT -o OUT [--bits 4|8] [--parts transformer text_encoder_2=8 ...] [--block 32|64|128] [--zero-points]

EXPORT is a folder with graphs in the layout of the family (or of its model.json); OUT becomes a model of its own: quantised parts, copies of
all other files, and a model.json with sizes, digests and the memory that is saved. Inputs, outputs and the types between the nodes stay what
they are, so the pipelines run it as they run the float model. Nothing is loaded whole: memory is that of the graph's nodes and a few times a weight.

Which weights stay: quantize_rules.py. How much the rest differs: quantize_accuracy.py.
"""

import argparse
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper

from nbits import Scheme, quantize
from quantize_kernels import TARGETS, check_kernels, check_kinds
from quantize_manifest import FAMILY_PARTS, Done, find_manifest, write_manifest
from quantize_rules import FAMILY_KEEPS, Choice, choose, graphs_of, is_turned
from weight_files import INLINE_LIMIT, NUMPY, DataFile, Weights, point_to, read_graph

# Elements that are worked on at once; the work takes about ten times as many float32.
CHUNK_ELEMENTS = 1 << 20
DOMAIN = "com.microsoft"


@dataclass(frozen=True)
class Settings:
    scheme: Scheme
    accuracy_level: int
    min_elements: int
    keep: list[str]
    target: str


def peak_bytes() -> int:
    """The most memory this process has held, pages of mapped files included."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) * 1024


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def store(weight: TensorProto, array: np.ndarray, data: DataFile) -> None:
    """Puts small ones into the graph, all others into the file of data."""
    if array.nbytes < INLINE_LIMIT:
        weight.raw_data = array.tobytes()
    else:
        point_to(weight, data.path.name, data.begin(), array.nbytes)
        data.append(memoryview(np.ascontiguousarray(array)).cast("B") if array.dtype != ml_dtypes.bfloat16 else array.tobytes())


def quantize_weight(weight: TensorProto, turned: bool, weights: Weights, scheme: Scheme, data: DataFile) -> list[TensorProto]:
    """Writes the codes chunk by chunk. @return the operator's inputs behind the activations: codes, scales and, if any, zero points"""
    kind = NUMPY[weight.data_type]
    matrix = weights.matrix(weight)
    outputs, inputs = matrix.shape if turned else matrix.shape[::-1]
    rows = max(1, CHUNK_ELEMENTS // inputs)
    shape = (outputs, scheme.blocks(inputs), scheme.block * scheme.bits // 8)
    codes = TensorProto(name=f"{weight.name}/codes", data_type=TensorProto.UINT8, dims=shape)
    inline = np.prod(shape) < INLINE_LIMIT
    offset, packed = None if inline else data.begin(), bytearray()
    scales = np.empty(shape[:2], kind)
    zeros = None if scheme.symmetric else np.empty((outputs, scheme.zero_bytes(inputs)), np.uint8)
    for begin in range(0, outputs, rows):
        end = min(begin + rows, outputs)
        piece = matrix[begin:end] if turned else matrix[:, begin:end].T
        piece = np.ascontiguousarray(piece).astype(np.float32)
        if not np.isfinite(piece).all():
            raise SystemExit(f"{weight.name}: not all weights are numbers; export the model again, or leave it out with --keep")
        made, scales[begin:end], made_zeros = quantize(piece, scheme, kind)
        if zeros is not None:
            zeros[begin:end] = made_zeros
        packed.extend(made.tobytes()) if inline else data.append(made.tobytes())
    if inline:
        codes.raw_data = bytes(packed)
    else:
        point_to(codes, data.path.name, offset, int(np.prod(shape)))
    result = [codes, TensorProto(name=f"{weight.name}/scales", data_type=weight.data_type, dims=scales.shape)]
    store(result[1], scales, data)
    if zeros is not None:
        result.append(TensorProto(name=f"{weight.name}/zero_points", data_type=TensorProto.UINT8, dims=zeros.shape))
        store(result[2], zeros, data)
    return result


def replacement(node: onnx.NodeProto, made: list[TensorProto], scheme: Scheme, accuracy_level: int, size: tuple[int, int]) -> list[onnx.NodeProto]:
    """The nodes that stand for a MatMul or Gemm; a Gemm's third input is added behind it."""
    inputs, outputs = size
    shift = node.input[2] if node.op_type == "Gemm" and len(node.input) > 2 and node.input[2] else None
    result = node.output[0] if shift is None else f"{node.output[0]}/product"
    product = helper.make_node(
        "MatMulNBits", [node.input[0], *(each.name for each in made)], [result],
        name=node.name, domain=DOMAIN, K=inputs, N=outputs, bits=scheme.bits, block_size=scheme.block,
    )  # fmt: skip
    if accuracy_level:
        product.attribute.append(helper.make_attribute("accuracy_level", accuracy_level))
    if shift is None:
        return [product]
    return [product, helper.make_node("Add", [result, shift], [node.output[0]], name=f"{node.name}/shift")]


def replace_nodes(graph: onnx.GraphProto, made: dict[str, list[TensorProto]], sizes: dict[str, tuple[int, int]], settings: Settings) -> None:
    for each in graphs_of(graph):
        nodes = []
        for node in each.node:
            name = node.input[1] if len(node.input) > 1 else None
            quantised = name in made and node.op_type in ("MatMul", "Gemm")
            nodes += replacement(node, made[name], settings.scheme, settings.accuracy_level, sizes[name]) if quantised else [node]
        # A copy first: the old nodes go with the list.
        nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del each.node[:]
        each.node.extend(nodes)


def write_weights(model: onnx.ModelProto, choice: Choice, weights: Weights, scheme: Scheme, data: DataFile) -> tuple[dict, dict]:
    """All weights in the graph's order. @return of each quantised one the new weights, and its inputs and outputs"""
    initializers, made, sizes = [], {}, {}
    for weight in model.graph.initializer:
        if weight.name in choice.taken:
            turned = is_turned(choice.taken[weight.name][0])
            sizes[weight.name] = tuple(reversed(weight.dims)) if turned else tuple(weight.dims)
            made[weight.name] = quantize_weight(weight, turned, weights, scheme, data)
            initializers += made[weight.name]
        else:
            if weight.data_location == TensorProto.EXTERNAL:
                raw = weights.bytes_of(weight)
                offset = data.begin()
                data.append(raw)
                point_to(weight, data.path.name, offset, len(raw))
            initializers.append(weight)
        weights.forget()
    copies = [TensorProto.FromString(each.SerializeToString()) for each in initializers]
    del model.graph.initializer[:]
    model.graph.initializer.extend(copies)
    # Old graphs (IR version 3) list weights among the inputs as well.
    inputs = [value for value in model.graph.input if value.name not in made]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    return made, sizes


def weight_bytes(weight: TensorProto) -> int:
    return int(np.prod(weight.dims)) * helper.tensor_dtype_to_np_dtype(weight.data_type).itemsize


def quantize_part(source: Path, target: Path, settings: Settings) -> Done:
    """@raises SystemExit where no weight can be quantised, or the target has no kernel for what would be written; ValueError for files that are not whole"""
    forget_peak()
    model = read_graph(source)
    weights = Weights(source.parent)
    weights.check(model.graph)
    before = sum(weight_bytes(each) for each in model.graph.initializer)
    largest = max((weight_bytes(each) for each in model.graph.initializer), default=0)
    choice = choose(model, settings.scheme.block, settings.min_elements, settings.keep)
    if not choice.taken:
        raise SystemExit(f"{source}: no weight to quantise: {counts_of(choice)}")
    # Before the work and not after it.
    check_kinds([each for each in model.graph.initializer if each.name in choice.taken], settings.target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with DataFile(target.with_name(target.name + "_data")) as data, DataFile(target) as graph:
        made, sizes = write_weights(model, choice, weights, settings.scheme, data)
        replace_nodes(model.graph, made, sizes, settings)
        if not any(entry.domain == DOMAIN for entry in model.opset_import):
            model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
        check_kernels(model, settings.target)
        graph.append(model.SerializeToString())
        pinned = [] if data.at == 0 else [dict(zip(("sizeBytes", "sha256"), data.finish(), strict=True), file=data.path.name)]
        graph_bytes, graph_digest = graph.finish()
    after = sum(weight_bytes(each) for each in model.graph.initializer)
    print(f"  {len(choice.taken)} weights quantised; left alone: {counts_of(choice)}")
    entry = {"file": target.name, "sizeBytes": graph_bytes, "sha256": graph_digest, "externalData": pinned}
    return Done(settings.scheme.bits, entry, before, after, largest, peak_bytes())


def counts_of(choice: Choice) -> str:
    return ", ".join(f"{len(names)} {reason}" for reason, names in sorted(choice.kept.items())) or "none"


def files_of(graph: Path) -> set[Path]:
    """A graph's own file and those of its weights."""
    places = [entry.value for each in read_graph(graph).graph.initializer for entry in each.external_data if entry.key == "location"]
    return {graph, *(graph.parent / place for place in places)}


def copy_rest(source: Path, target: Path, done: set[Path]) -> None:
    for file in sorted(source.rglob("*")):
        if file.is_file() and file not in done and file != source / "model.json":
            (target / file.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target / file.relative_to(source))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-i", "--input", type=Path, required=True, help="folder of the float model")
    parser.add_argument("-o", "--output", type=Path, required=True, help="a new folder; its name is the new model's unless --slug is given")
    parser.add_argument("--slug")
    parser.add_argument("--manifest", type=Path, help="model.json of the float model; default: in its folder, or models/ of this repository")
    parser.add_argument("--bits", type=int, choices=(4, 8), default=4)
    parser.add_argument("--block", type=int, choices=(32, 64, 128), default=32)
    parser.add_argument("--zero-points", action="store_true", help="a zero point for each block; without, codes are symmetric")
    parser.add_argument("--no-search", action="store_true", help="take the widest scale of each block: several times as fast, less exact in 4 bits")
    parser.add_argument("--parts", nargs="+", metavar="PART[=BITS]", help="default: the text encoder T5 and the transformer, or both parts of Whisper")
    parser.add_argument("--keep", nargs="+", default=[], metavar="PATTERN", help="names of weights or nodes to leave alone, besides the family's")
    parser.add_argument("--min-elements", type=int, default=65536)
    parser.add_argument("--target", choices=tuple(TARGETS), default="cuda", help="whose kernels the result is checked against")
    parser.add_argument("--accuracy-level", type=int, choices=(0, 4), help="4 lets a CPU multiply in int8; default: 4 for --target cpu, else 0")
    return parser.parse_args()


def main() -> None:
    options = parse_arguments()
    source, target = options.input.resolve(), options.output.resolve()
    manifest = find_manifest(source, options.manifest)
    family = manifest["family"]
    if family not in FAMILY_PARTS:
        raise SystemExit(f"family {family} is not quantised here; expected one of {', '.join(FAMILY_PARTS)}")
    if target == source or (target.exists() and any(target.iterdir())):
        raise SystemExit(f"{target} is not empty; name a new folder with -o")
    places = FAMILY_PARTS[family] | {part: entry["file"] for part, entry in manifest.get("parts", {}).items() if "file" in entry}
    wanted = dict((entry.partition("=")[::2] for entry in options.parts or FAMILY_PARTS[family]))
    if unknown := [part for part in wanted if part not in places]:
        raise SystemExit(f"no part {', '.join(unknown)}; there are {', '.join(places)}")
    if wrong := [bits for bits in wanted.values() if bits not in ("", "4", "8")]:
        raise SystemExit(f"{', '.join(wrong)} bits were asked for, expected 4 or 8")

    # CUDA does not look at it. On a CPU 0 means that weights of 8 bits are written out as floats in every run.
    level = options.accuracy_level if options.accuracy_level is not None else 4 if options.target == "cpu" else 0
    parts, done = {}, set()
    for part, bits in wanted.items():
        bits = int(bits or options.bits)
        # With 256 codes the widest scale is as good.
        scheme = Scheme(bits, options.block, not options.zero_points, bits == 4 and not options.no_search)
        keep = [*FAMILY_KEEPS[family], *options.keep]
        settings = Settings(scheme, level, options.min_elements, keep, options.target)
        print(f"{part}: {scheme.bits} bits, blocks of {scheme.block}, {'symmetric' if scheme.symmetric else 'with zero points'}")
        result = quantize_part(source / places[part], target / places[part], settings)
        megabytes = [size / 1e6 for size in (result.bytes_before, result.bytes_after, result.largest, result.peak)]
        print("  {:.1f} MB -> {:.1f} MB; largest weight {:.1f} MB, most memory {:.0f} MB".format(*megabytes), flush=True)
        parts[part] = (places[part], result)
        done |= files_of(source / places[part])
    copy_rest(source, target, done)
    write_manifest(manifest, target, parts, options.slug or target.name)
    print(f"{target}: done; compare with: python quantize_accuracy.py {source} {target}")


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        sys.exit(str(error))
