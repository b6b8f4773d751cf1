"""Which weights of a graph go to 4 or 8 bits, and why the others stay.

A weight is quantised when it is the right-hand matrix of every MatMul or Gemm that reads it. These stay as they are:

    table              an embedding: read by a Gather, or by any other operator
    first projection   the only weight behind an input of the graph (latents, time, pooled text, text)
    last projection    an output of the graph is its product, reshaped or shifted at most
    small, short       fewer elements than --min-elements, or fewer inputs than a block
    kept               its name, or that of a node that reads it, is matched by --keep or by the family's list

Vectors (norms, biases) and the kernels of convolutions are no matrices and never touched.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import onnx
from onnx import TensorProto, helper

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)
# What does not mix a value with another one; everything else but the first input says where, how large or in which order.
ROUTES = {"Cast", "Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Gather", "Expand"}
WEIGHTED = {"MatMul", "Gemm", "Conv", "ConvTranspose", "Gather", "FusedMatMul"}
# Time and the last modulation: little memory, and an error in them is in every token of every step.
FAMILY_KEEPS = {"flux": ("time_text_embed", "norm_out"), "ltx-video": ("time_embed",), "whisper": ()}


@dataclass
class Reading:
    """One place where a weight is read."""

    graph: onnx.GraphProto
    node: onnx.NodeProto
    index: int


@dataclass
class Choice:
    # weight -> the nodes that multiply with it
    taken: dict[str, list[onnx.NodeProto]] = field(default_factory=dict)
    # reason -> weights
    kept: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


def attributes(node: onnx.NodeProto) -> dict:
    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}


def graphs_of(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and those inside its nodes (If, Loop)."""
    yield graph
    for node in graph.node:
        for entry in node.attribute:
            for inner in (entry.g,) if entry.type == onnx.AttributeProto.GRAPH else entry.graphs:
                yield from graphs_of(inner)


def readings_of(graph: onnx.GraphProto) -> dict[str, list[Reading]]:
    found = defaultdict(list)
    for each in graphs_of(graph):
        for node in each.node:
            for index, name in enumerate(node.input):
                found[name].append(Reading(each, node, index))
        for value in each.output:
            found[value.name].append(Reading(each, onnx.NodeProto(op_type="the graph's output"), 0))
    return found


def is_matrix_of(reading: Reading) -> bool:
    node = reading.node
    if reading.index != 1 or node.domain not in ("", "ai.onnx"):
        return False
    if node.op_type == "MatMul":
        return True
    given = attributes(node)
    return node.op_type == "Gemm" and given.get("alpha", 1) == 1 and given.get("beta", 1) == 1 and given.get("transA", 0) == 0


def is_turned(node: onnx.NodeProto) -> bool:
    """Whether the weight is stored [outputs, inputs]."""
    return node.op_type == "Gemm" and attributes(node).get("transB", 0) == 1


def constants_of(graph: onnx.GraphProto) -> set[str]:
    made = {name for each in graphs_of(graph) for node in each.node if node.op_type == "Constant" for name in node.output}
    return made | {weight.name for each in graphs_of(graph) for weight in each.initializer}


def first_projections(graph: onnx.GraphProto, weights: set[str], constants: set[str]) -> set[str]:
    """Weights that are the only one behind an input: what is multiplied with them is computed from that input and nothing else."""
    # What each value is computed from: one input of the graph, nothing at all (None), or more than that (absent).
    roots: dict[str, str | None] = {name: None for name in constants}
    roots |= {value.name: value.name for value in graph.input if value.name not in weights}
    behind = defaultdict(set)
    for node in graph.node:
        inputs = [name for name in node.input if name]
        matrix = next((name for name in inputs if name in weights), None) if node.op_type in WEIGHTED else None
        if matrix is not None:
            behind[roots.get(node.input[0])].add(matrix)
            continue
        # The branches of an If read more than the node says.
        branches = any(entry.type == onnx.AttributeProto.GRAPH for entry in node.attribute)
        if branches or any(name not in roots for name in inputs):
            continue
        origins = {roots[name] for name in inputs} - {None}
        if len(origins) < 2:
            roots |= {name: next(iter(origins), None) for name in node.output}
    return {next(iter(matrices)) for root, matrices in behind.items() if root is not None and len(matrices) == 1}


def last_projections(graph: onnx.GraphProto, weights: set[str], constants: set[str]) -> set[str]:
    makers = {name: node for node in graph.node for name in node.output}
    readers = Counter(name for node in graph.node for name in set(node.input))
    found = set()
    for value in graph.output:
        node = makers.get(value.name)
        # What other nodes read as well (keys and values of a decoder) is not the end of the graph.
        while node is not None and readers[node.output[0]] == (node.output[0] != value.name):
            if node.op_type in ("MatMul", "Gemm"):
                found |= {name for name in node.input[1:2] if name in weights}
                break
            computed = [name for name in node.input if name and name not in constants]
            if node.op_type in ROUTES:
                computed = computed[:1]
            node = makers.get(computed[0]) if len(computed) == 1 and node.op_type in ROUTES | {"Add", "Sub", "Mul", "Div"} else None
    return found


def choose(model: onnx.ModelProto, block: int, min_elements: int, keep: list[str]) -> Choice:
    """@param keep regular expressions, searched in the names of a weight and of the nodes that read it"""
    matrices = {each.name: each for each in model.graph.initializer if len(each.dims) == 2 and each.data_type in FLOATS}
    weights = {each.name for each in model.graph.initializer if len(each.dims) > 1}
    readings = readings_of(model.graph)
    constants = constants_of(model.graph)
    rules = (first_projections, last_projections)
    first, last = (set().union(*(rule(graph, weights, constants) for graph in graphs_of(model.graph))) for rule in rules)
    patterns = [re.compile(pattern) for pattern in keep]
    choice = Choice()
    for name, weight in matrices.items():
        read = readings[name]
        names = [name, *(reading.node.name for reading in read)]
        turned = {is_turned(reading.node) for reading in read}
        if not read or not all(is_matrix_of(reading) for reading in read) or len(turned) > 1:
            reason = "table"
        elif any(pattern.search(each) for pattern in patterns for each in names):
            reason = "kept"
        elif name in first or name in last:
            reason = "first projection" if name in first else "last projection"
        elif weight.dims[0] * weight.dims[1] < min_elements:
            reason = "small"
        elif weight.dims[1 if turned.pop() else 0] < block:
            reason = "short"
        else:
            choice.taken[name] = [reading.node for reading in read]
            continue
        choice.kept[reason].append(name)
    return choice
