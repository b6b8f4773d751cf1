"""What onnxruntime 1.30's kernels of MatMulNBits take, and whether a graph keeps to it.

The types are those that the kernels register (onnxruntime/contrib_ops/{cpu,cuda}/quantization/matmul_nbits.cc); sizes and shapes are those that
matmul_nbits_helper.h checks at every run. `scripts/verify quantize` holds the table to the libraries themselves.
"""

from collections.abc import Iterator

import onnx
from onnx import TensorProto

from quantize_rules import attributes, graphs_of

# Element types of activations and scales. Zero points are uint8 here on both.
TARGETS = {
    "cuda": {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16},
    "cpu": {TensorProto.FLOAT, TensorProto.FLOAT16},
}
BITS = (4, 8)
# The CUDA provider multiplies straight from blocks of these sizes; others it writes out in full first.
BLOCKS = (16, 32, 64, 128)


def kind_fault(weight: TensorProto, kinds: set[int], target: str) -> str | None:
    if weight.data_type in kinds:
        return None
    names = ", ".join(sorted(TensorProto.DataType.Name(kind) for kind in kinds))
    return f"{weight.name} is {TensorProto.DataType.Name(weight.data_type)}, {target} takes {names}"


def check_kinds(weights: list[TensorProto], target: str) -> None:
    """@raises SystemExit for the first of these float weights whose type the target cannot multiply with"""
    for weight in weights:
        if fault := kind_fault(weight, TARGETS[target], target):
            raise SystemExit(f"onnxruntime 1.30 has no kernel for it: {fault}; export the model in one of these types, or give another --target")


def faults_of(node: onnx.NodeProto, weights: dict[str, TensorProto], target: str) -> Iterator[str]:
    given = attributes(node)
    inputs, outputs, bits, block = (given[name] for name in ("K", "N", "bits", "block_size"))
    if bits not in BITS:
        yield f"{bits} bits, expected one of {BITS}"
    if block not in BLOCKS:
        yield f"blocks of {block}, expected one of {BLOCKS}"
        return
    blocks = -(-inputs // block)
    shapes = {1: [outputs, blocks, block * bits // 8], 2: [outputs, blocks], 3: [outputs, -(-blocks * bits // 8)]}
    kinds = {1: {TensorProto.UINT8}, 2: TARGETS[target], 3: {TensorProto.UINT8}}
    for index, name in enumerate(node.input):
        if index == 0:
            continue
        if index not in shapes or name not in weights:
            yield f"input {index} is {name}, expected a weight of the graph in one of the places 1 to 3"
            continue
        weight = weights[name]
        if list(weight.dims) != shapes[index]:
            yield f"{name} is {list(weight.dims)}, expected {shapes[index]}"
        if fault := kind_fault(weight, kinds[index], target):
            yield fault


def check_kernels(model: onnx.ModelProto, target: str) -> int:
    """@return how many nodes were checked. @raises SystemExit that names the first node without a kernel, and why it has none"""
    weights = {weight.name: weight for weight in model.graph.initializer}
    checked = 0
    for graph in graphs_of(model.graph):
        for node in graph.node:
            if node.op_type != "MatMulNBits":
                continue
            for fault in faults_of(node, weights, target):
                raise SystemExit(f"onnxruntime 1.30 has no kernel for {node.name} on {target}: {fault}")
            checked += 1
    return checked
