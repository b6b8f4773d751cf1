"""Checks of the quantiser that need no model: its numbers, its rules and its memory.

    python quantize_check.py [--graphs DIR]

Made-up graphs go through quantize.py's own code, and onnxruntime must multiply with exactly what nbits.py says that it wrote. Ends with status 1 and the
first check that fails. With --graphs it leaves a graph of each kind of weight in DIR, for a look at other execution providers.
"""

import argparse
import itertools
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from nbits import Scheme, dequantize, quantize
from quantize import Settings, quantize_part
from quantize_kernels import TARGETS, check_kernels
from quantize_rules import choose
from weight_files import NUMPY, Weights, read_graph

BITS, BLOCKS, SYMMETRIC = (4, 8), (32, 64, 128), (True, False)
KINDS = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}
# What one value may be off, in steps of its block: half a step by rounding, the search may clip the outermost.
HALF_STEP = 0.5 + 1e-3


def settings_of(scheme: Scheme, keep: list[str] | None = None) -> Settings:
    return Settings(scheme, 0, 1, keep or [], "cuda")


def save(file: Path, nodes: list, inputs: list, outputs: list, weights: list, external: bool = False) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    model = helper.make_model(helper.make_graph(nodes, "made-up", inputs, outputs, weights), opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    options = {"save_as_external_data": True, "location": f"{file.stem}.data", "size_threshold": 0} if external else {}
    onnx.save(model, file, **options)


def value(name: str, shape: list, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def random_weight(*shape: int, seed: int = 0) -> np.ndarray:
    # Heavier tails than a normal distribution, as trained weights have them.
    return (np.random.default_rng(seed).standard_t(5, shape) * 0.05).astype(np.float32)


def chain(file: Path, kind: str, inputs: int = 200, width: int = 96) -> None:
    """x + down(tanh(x @ first) * (x @ other)) between casts to `kind`; `down` is a Gemm stored [outputs, inputs] with a shift. Float edges."""
    of = KINDS[kind]
    shapes = {"first": (inputs, width), "other": (inputs, width), "second": (inputs, width), "shift": (inputs,)}
    weights = [numpy_helper.from_array(random_weight(*shape, seed=seed).astype(NUMPY[of]), name) for seed, (name, shape) in enumerate(shapes.items())]
    nodes = [
        helper.make_node("Cast", ["x"], ["x_in"], to=of, name="in"),
        helper.make_node("MatMul", ["x_in", "first"], ["wide"], name="up"),
        helper.make_node("MatMul", ["x_in", "other"], ["gate"], name="gate"),
        helper.make_node("Tanh", ["wide"], ["bent"], name="bend"),
        helper.make_node("Mul", ["bent", "gate"], ["gated"], name="open"),
        helper.make_node("Gemm", ["gated", "second", "shift"], ["narrow"], transB=1, name="down"),
        helper.make_node("Add", ["narrow", "x_in"], ["y_out"], name="residual"),
        helper.make_node("Cast", ["y_out"], ["y"], to=TensorProto.FLOAT, name="out"),
    ]
    save(file, nodes, [value("x", ["n", inputs])], [value("y", ["n", inputs])], weights)


def stored(file: Path) -> dict[str, np.ndarray]:
    model = read_graph(file)
    weights = Weights(file.parent)
    kinds = NUMPY | {TensorProto.UINT8: np.dtype(np.uint8)}
    return {each.name: np.frombuffer(weights.bytes_of(each), kinds[each.data_type]).reshape(tuple(each.dims)) for each in model.graph.initializer}


def check_numbers() -> str:
    """No value is farther off than half a step of its block; the search never makes a block worse; codes survive packing."""
    weight = random_weight(64, 300)
    for bits, block, symmetric in itertools.product(BITS, BLOCKS, SYMMETRIC):
        errors = []
        for search in (False, True):
            scheme = Scheme(bits, block, symmetric, search)
            codes, scales, zeros = quantize(weight, scheme, np.dtype(np.float32))
            assert codes.shape == (64, scheme.blocks(300), block * bits // 8) and (zeros is None) == symmetric
            gap = np.abs(dequantize(codes, scales, zeros, scheme, 300) - weight)
            steps = gap / np.repeat(np.abs(scales), block, axis=1)[:, :300]
            errors.append((gap**2).sum(axis=1))
            # Symmetric codes reach one step less far on one side.
            assert search or steps.max() < (1 + 1e-3 if symmetric else HALF_STEP), f"{scheme}: {steps.max()} steps"
        assert (errors[1] <= errors[0] * (1 + 1e-6)).all(), f"{bits} bits, blocks of {block}: the search made it worse"
        if bits == 4:
            assert errors[1].sum() < errors[0].sum(), "the search found nothing better"
    for empty in (np.zeros((3, 64), np.float32), np.full((3, 64), 1e-9, np.float32)):
        for kind, symmetric in itertools.product(NUMPY.values(), SYMMETRIC):
            scheme = Scheme(4, 32, symmetric, True)
            assert np.abs(dequantize(*quantize(empty, scheme, kind), scheme, 64)).max() <= 2e-9
    return "numbers: no value is farther off than its step"


def check_library(folder: Path) -> str:
    """onnxruntime's MatMulNBits multiplies with what `dequantize` says, for every kind of weight that its CPU provider takes."""
    x = np.random.default_rng(3).standard_normal((7, 200)).astype(np.float32)
    worst, count = 0.0, 0
    for kind, bits, block, symmetric in itertools.product(KINDS, BITS, BLOCKS, SYMMETRIC):
        scheme = Scheme(bits, block, symmetric, True)
        name = f"{kind}-int{bits}-{block}-{'symmetric' if symmetric else 'zeros'}"
        chain(folder / "float" / f"{name}.onnx", kind)
        made = folder / "made" / f"{name}.onnx"
        if block > 96:
            # The second weight has 96 inputs: shorter than a block.
            assert "short" in choose(read_graph(folder / "float" / f"{name}.onnx"), block, 1, []).kept
        quantize_part(folder / "float" / f"{name}.onnx", made, settings_of(scheme, ["^$"]))
        onnx.checker.check_model(str(made))
        if KINDS[kind] not in TARGETS["cpu"]:
            continue
        weights = stored(made)
        of = NUMPY[KINDS[kind]]

        def matrix(name: str, inputs: int, weights=weights, scheme=scheme) -> np.ndarray:
            if name in weights:
                return weights[name].T.astype(np.float32)
            return dequantize(weights[f"{name}/codes"], weights[f"{name}/scales"], weights.get(f"{name}/zero_points"), scheme, inputs).T

        def rounded(array: np.ndarray, of=of) -> np.ndarray:
            return array.astype(of).astype(np.float32)

        fed = rounded(x)
        gated = rounded(rounded(np.tanh(rounded(fed @ matrix("first", 200)))) * rounded(fed @ matrix("other", 200)))
        expected = rounded(gated @ matrix("second", 96)) + rounded(weights["shift"]) + fed
        actual = onnxruntime.InferenceSession(str(made), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
        gap = float(np.abs(actual - expected).max() / np.abs(expected).max())
        assert gap < (1e-5 if kind == "float32" else 4e-3), f"{name}: onnxruntime's result differs by {gap}"
        worst, count = max(worst, gap), count + 1
    return f"library: {count} kinds of weights, onnxruntime {onnxruntime.__version__} differs by {worst:.1e} of the largest value at most"


def check_rules(folder: Path) -> str:
    """Edges, tables, small and named weights stay, each for its reason; a weight in two branches is quantised once."""
    size = 64
    names = ("edge_in", "inner", "named", "edge_out", "cross_k", "cross_v")
    weights = [numpy_helper.from_array(random_weight(size, size, seed=index), name) for index, name in enumerate(names)]
    weights.append(numpy_helper.from_array(random_weight(10, size), "table"))
    branch = [
        helper.make_node("MatMul", ["mixed", "inner"], ["inside"], name="inside"),
        helper.make_node("Add", ["inside", "mixed"], ["chosen"]),
    ]
    branches = {f"{which}_branch": helper.make_graph(branch, which, [], [value("chosen", None)]) for which in ("then", "else")}
    nodes = [
        helper.make_node("MatMul", ["x", "edge_in"], ["a"], name="a"),
        helper.make_node("Gather", ["table", "ids"], ["b"], name="b"),
        helper.make_node("MatMul", ["states", "cross_k"], ["k"], name="k"),
        helper.make_node("MatMul", ["states", "cross_v"], ["v"], name="v"),
        helper.make_node("Sum", ["a", "b", "k", "v"], ["mixed"], name="mix"),
        helper.make_node("If", ["which"], ["c"], name="if", **branches),
        helper.make_node("MatMul", ["c", "named"], ["d"], name="block.0/norm_out/linear"),
        helper.make_node("MatMul", ["d", "edge_out"], ["e"], name="e"),
        helper.make_node("Reshape", ["e", "shape"], ["y"], name="y"),
    ]
    weights.append(numpy_helper.from_array(np.array([-1, size], np.int64), "shape"))
    inputs = [value("x", ["n", size]), value("states", ["n", size]), value("ids", ["n"], TensorProto.INT64), value("which", [1], TensorProto.BOOL)]
    file = folder / "rules.onnx"
    save(file, nodes, inputs, [value("y", ["n", size])], weights)
    choice = choose(read_graph(file), 32, 1, ["norm_out"])
    assert set(choice.taken) == {"inner", "cross_k", "cross_v"}, f"taken: {sorted(choice.taken)}, left alone: {dict(choice.kept)}"
    expected = {"first projection": ["edge_in"], "last projection": ["edge_out"], "kept": ["named"], "table": ["table"]}
    assert dict(choice.kept) == expected, f"left alone: {dict(choice.kept)}"
    assert len(choice.taken["inner"]) == 2
    small = choose(read_graph(file), 32, size * size + 1, []).kept["small"]
    assert small == ["inner", "named", "cross_k", "cross_v"], f"small: {small}"
    quantize_part(file, folder / "rules-int8.onnx", settings_of(Scheme(8, 32, True, True), ["norm_out"]))
    feeds = {"x": random_weight(5, size), "states": random_weight(5, size), "ids": np.arange(5), "which": np.array([True])}
    before, after = (onnxruntime.InferenceSession(str(each)).run(None, feeds)[0] for each in (file, folder / "rules-int8.onnx"))
    assert 0 < np.abs(before - after).max() / np.abs(before).max() < 0.02
    return "rules: tables, edges, small and named weights stay; a weight of two branches is stored once"


def check_refusals(folder: Path) -> str:
    """A graph that the target has no kernel for, a weight that is no number and a file that is cut are refused, with the name."""

    def refused(expected: str, work) -> None:
        try:
            work()
        except (SystemExit, ValueError) as error:
            assert expected in str(error), f"{expected!r} is not in {error}"
            return
        raise AssertionError(f"it was taken; expected: {expected}")

    made = onnx.load(folder / "made" / "bfloat16-int4-32-symmetric.onnx", load_external_data=False)
    assert check_kernels(made, "cuda") == 3
    refused("first/scales is BFLOAT16, cpu takes FLOAT, FLOAT16", lambda: check_kernels(made, "cpu"))
    for_cpu = Settings(Scheme(4, 32, True, True), 4, 1, [], "cpu")
    floats = folder / "float" / "bfloat16-int4-32-symmetric.onnx"
    refused("first is BFLOAT16, cpu takes FLOAT, FLOAT16", lambda: quantize_part(floats, folder / "bfloat16-int4.onnx", for_cpu))
    for name, number, expected in (("bits", 3, "3 bits"), ("block_size", 48, "blocks of 48"), ("N", 97, "expected [97, 7, 16]")):
        wrong = onnx.ModelProto.FromString(made.SerializeToString())
        node = next(each for each in wrong.graph.node if each.op_type == "MatMulNBits")
        next(each for each in node.attribute if each.name == name).i = number
        refused(expected, lambda wrong=wrong: check_kernels(wrong, "cuda"))
    scheme = settings_of(Scheme(4, 32, True, True))
    broken = random_weight(64, 64)
    broken[3, 5] = np.nan
    edges = [value("x", ["n", 64])], [value("y", ["n", 64])]
    nodes = [
        helper.make_node("MatMul", ["x", "v"], ["z"], name="other"),
        helper.make_node("Add", ["z", "x"], ["q"]),
        helper.make_node("MatMul", ["q", "w"], ["r"], name="product"),
        helper.make_node("Mul", ["r", "q"], ["y"]),
    ]
    weights = [numpy_helper.from_array(broken, "w"), numpy_helper.from_array(random_weight(64, 64), "v")]
    save(folder / "nan.onnx", nodes, *edges, weights, external=True)
    refused("w: not all weights are numbers", lambda: quantize_part(folder / "nan.onnx", folder / "nan-int4.onnx", scheme))
    data, graph = folder / "nan.data", folder / "nan.onnx"
    data.write_bytes(data.read_bytes()[:-100])
    refused("nan.data has", lambda: quantize_part(graph, folder / "cut-int4.onnx", scheme))
    data.unlink()
    refused("nan.data is missing", lambda: quantize_part(graph, folder / "cut-int4.onnx", scheme))
    for content in (b"", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", b"<!DOCTYPE html><html></html>", graph.read_bytes()[:200]):
        (folder / "no-graph.onnx").write_bytes(content)
        refused("no-graph.onnx", lambda: quantize_part(folder / "no-graph.onnx", folder / "cut-int4.onnx", scheme))
    assert not list(folder.glob("*-int4.onnx*")) and not list(folder.glob("*.partial"))
    return "refusals: kernels that are not there, weights that are no numbers, files that are cut"


MEMORY_RUN = """
import sys
from pathlib import Path
from nbits import Scheme
from quantize import Settings, peak_bytes, quantize_part
before = peak_bytes()
done = quantize_part(Path(sys.argv[1]), Path(sys.argv[2]), Settings(Scheme(4, 32, True, True), 0, 1, [], "cuda"))
print(done.bytes_before, done.largest, done.peak - before)
"""


def check_memory(folder: Path) -> str:
    """Six matrices of 67 MB and a table of 67 MB, in the graph's own file and in another: the memory of two of them is the most that may be held."""
    size, count, said = 4096, 6, []
    names = [f"w{index}" for index in range(count)]
    for external in (False, True):
        file = folder / f"large-{external}.onnx"
        weights = [numpy_helper.from_array(random_weight(size, size, seed=index), name) for index, name in enumerate([*names, "table"])]
        nodes = [helper.make_node("Gather", ["table", "ids"], ["x0"])]
        for index, name in enumerate(names):
            nodes += [helper.make_node("MatMul", [f"x{index}", name], [f"y{index}"], name=f"m{index}")]
            nodes += [helper.make_node("Add", [f"y{index}", f"x{index}"], [f"x{index + 1}"])]
        save(file, nodes, [value("ids", ["n"], TensorProto.INT64)], [value(f"x{count}", ["n", size])], weights, external)
        del weights
        run = [sys.executable, "-c", MEMORY_RUN, str(file), str(folder / f"large-{external}-int4.onnx")]
        out = subprocess.run(run, check=True, capture_output=True, text=True, cwd=Path(__file__).parent).stdout
        whole, largest, grown = (int(word) for word in out.splitlines()[-1].split())
        assert whole == (count + 1) * size * size * 4 and largest == size * size * 4
        assert grown < 2 * largest, f"{grown / 1e6:.0f} MB were held for weights of {largest / 1e6:.0f} MB"
        said.append(f"{grown / 1e6:.0f} MB")
        for left in folder.glob("large-*"):
            left.unlink()
    return f"memory: {' and '.join(said)} for {whole / 1e6:.0f} MB of weights, the largest of {largest / 1e6:.0f} MB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graphs", type=Path, help="where the graphs of each kind of weight are left")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        graphs = options.graphs or folder / "kinds"
        for check, where in ((check_library, graphs), (check_rules, folder), (check_refusals, graphs), (check_memory, folder)):
            print(f"quantize check: {check(where)}", flush=True)
        print(f"quantize check: {check_numbers()}")


if __name__ == "__main__":
    main()
