"""Makes test/fixtures/ort: graphs of a few nodes that test/conformance/runtime.test.ts and its like open.

Run: pip install onnx numpy && python scripts/make-ort-fixtures.py
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper

sys.path.insert(0, str(Path(__file__).resolve().parent / "export"))
from nbits import Scheme, dequantize, quantize

OUT = Path(__file__).resolve().parent.parent / "test/fixtures/ort"
OUT.mkdir(parents=True, exist_ok=True)


def save(name, nodes, inputs, outputs, initializers=(), domains=(), **options):
    graph = h.make_graph(nodes, name, inputs, outputs, list(initializers))
    opsets = [h.make_opsetid("", 17), *(h.make_opsetid(domain, 1) for domain in domains)]
    model = h.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="dryapi")
    onnx.save(model, OUT / f"{name}.onnx", **options)


def value(name, kind, shape=("n",)):
    return h.make_tensor_value_info(name, kind, list(shape))


# One Identity per type that crosses the seam.
kinds = {"float32": T.FLOAT, "float16": T.FLOAT16, "int64": T.INT64, "int32": T.INT32, "int8": T.INT8, "uint8": T.UINT8, "bool": T.BOOL}
save(
    "every-type",
    [h.make_node("Identity", [name], [f"{name}_out"]) for name in kinds],
    [value(name, kind) for name, kind in kinds.items()],
    [value(f"{name}_out", kind) for name, kind in kinds.items()],
)
# Allocates whatever its input asks for.
save("expand", [h.make_node("Expand", ["one", "shape"], ["y"])], [value("one", T.FLOAT, (1,)), value("shape", T.INT64, (1,))], [value("y", T.FLOAT)])
# An operator that few providers but the CPU's have.
save("det", [h.make_node("Det", ["x"], ["y"])], [value("x", T.FLOAT, ("n", "n"))], [value("y", T.FLOAT, ())])
save("double-edge", [h.make_node("Identity", ["x"], ["y"])], [value("x", T.DOUBLE)], [value("y", T.DOUBLE)])
save("bfloat16-edge", [h.make_node("Identity", ["x"], ["y"])], [value("x", T.BFLOAT16)], [value("y", T.BFLOAT16)])
save("unknown-op", [h.make_node("Frobnicate", ["x"], ["y"], domain="nobody.knows")], [value("x", T.FLOAT)], [value("y", T.FLOAT)], domains=["nobody.knows"])
save("string-edge", [h.make_node("Identity", ["words"], ["y"])], [value("words", T.STRING)], [value("y", T.STRING)])
sequence = h.make_tensor_sequence_value_info("rows", T.FLOAT, None)
save("sequence-edge", [h.make_node("SplitToSequence", ["x"], ["rows"], axis=0)], [value("x", T.FLOAT)], [sequence])
# Named, unnamed and fixed sizes, and a scalar.
save("sizes", [h.make_node("Identity", ["x"], ["y"])], [value("x", T.FLOAT, ("batch", None, 3))], [value("y", T.FLOAT, ("batch", None, 3))])
save("scalar", [h.make_node("Identity", ["x"], ["y"])], [value("x", T.FLOAT, ())], [value("y", T.FLOAT, ())])
# What a cache is: the state comes out as large as it went in, or larger.
save("accumulate", [h.make_node("Add", ["state", "x"], ["next"])], [value("state", T.FLOAT), value("x", T.FLOAT)], [value("next", T.FLOAT)])
# Adds one as often as its input says: as long a run as a test needs, on any machine.
one = h.make_tensor("one", T.FLOAT, (1,), [1])
body = h.make_graph(
    [h.make_node("Identity", ["go"], ["go_on"]), h.make_node("Add", ["sum", "one"], ["sum_next"])],
    "body",
    [value("at", T.INT64, ()), value("go", T.BOOL, ()), value("sum", T.FLOAT)],
    [value("go_on", T.BOOL, ()), value("sum_next", T.FLOAT)],
    [one],
)
save("loop", [h.make_node("Loop", ["times", "", "x"], ["y"], body=body)], [value("times", T.INT64, ()), value("x", T.FLOAT)], [value("y", T.FLOAT)])
# onnx appends to the file of data that is there.
(OUT / "external.onnx_data").unlink(missing_ok=True)
weights = numpy_helper.from_array(np.arange(4096, dtype=np.float32), "weights")
save(
    "external",
    [h.make_node("Add", ["x", "weights"], ["y"])],
    [value("x", T.FLOAT, (4096,))],
    [value("y", T.FLOAT, (4096,))],
    [weights],
    save_as_external_data=True,
    location="external.onnx_data",
    size_threshold=100,
)


def turns(name, body, state, weights=()):
    """As many turns of a loop as the sum of `input_ids`, from zeros: a speech model's graph whose run takes as long as its text says."""
    step = h.make_graph(
        [h.make_node("Identity", ["go"], ["go_on"]), *body],
        "turn",
        [value("turn", T.INT64, ()), value("go", T.BOOL, ()), value("x", T.FLOAT, state)],
        [value("go_on", T.BOOL, ()), value("y", T.FLOAT, state)],
    )
    save(
        name,
        [
            h.make_node("ReduceSum", ["input_ids"], ["count"], keepdims=0),
            h.make_node("ConstantOfShape", ["state"], ["zeros"]),
            *weights,
            h.make_node("Loop", ["count", "", "zeros"], ["last"], body=step),
            h.make_node("Reshape", ["last", "sound"], ["waveform"]),
        ],
        [value("input_ids", T.INT64, (1, "n"))],
        [value("waveform", T.FLOAT, (1, "samples"))],
        [numpy_helper.from_array(np.array(state, np.int64), "state"), numpy_helper.from_array(np.array([1, -1], np.int64), "sound")],
    )


# x becomes cos(x): after n turns the cosine has been taken n times, which a test can reckon for itself.
turns("cosines", [h.make_node("Cos", ["x"], ["y"])], (1, 8000))
# The size of a layer of a large model: a node takes tens of milliseconds.
layer = h.make_node("ConstantOfShape", ["side"], ["layer"], value=h.make_tensor("value", T.FLOAT, [1], [1 / 2048]))
side = h.make_node("Constant", [], ["side"], value=h.make_tensor("value", T.INT64, [2], [2048, 2048]))
turns("layers", [h.make_node("MatMul", ["x", "layer"], ["m"]), h.make_node("Cos", ["m"], ["y"])], (512, 2048), [side, layer])

# A product with weights of 4 and of 8 bits, each beside that with the same weights in float: y4 is z4, y8 is z8. 72 inputs: the last block is not full.
nodes, weights = [], []
for scheme in (Scheme(4, 32, True, True), Scheme(8, 64, False, True)):
    of = scheme.bits
    matrix = np.random.default_rng(of).standard_normal((8, 72)).astype(np.float32)
    codes, scales, zeros = quantize(matrix, scheme, np.dtype(np.float32))
    parts = {"codes": codes, "scales": scales} | ({} if zeros is None else {"zeros": zeros})
    weights += [numpy_helper.from_array(part, f"{name}{of}") for name, part in parts.items()]
    weights.append(numpy_helper.from_array(np.ascontiguousarray(dequantize(codes, scales, zeros, scheme, 72).T), f"matrix{of}"))
    given = {"K": 72, "N": 8, "bits": of, "block_size": scheme.block}
    nodes.append(h.make_node("MatMulNBits", ["x", *(f"{name}{of}" for name in parts)], [f"y{of}"], domain="com.microsoft", **given))
    nodes.append(h.make_node("MatMul", ["x", f"matrix{of}"], [f"z{of}"]))
outputs = [value(f"{name}{bits}", T.FLOAT, ("rows", 8)) for bits in (4, 8) for name in "yz"]
save("few-bits", nodes, [value("x", T.FLOAT, ("rows", 72))], outputs, weights, domains=["com.microsoft"])
