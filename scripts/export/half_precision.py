"""Changes the float type of single nodes of a graph, with a cast wherever two types meet.

onnxruntime's own converter casts back to float16 behind every node that is kept, so that a value beyond 65504 is lost on the way from
one kept node to the next, and knows one other type per graph. Here each node has its type and neighbours of one type stay connected.
"""

from collections.abc import Callable

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

NUMPY = {TensorProto.FLOAT16: np.float16, TensorProto.BFLOAT16: ml_dtypes.bfloat16}
# Inputs whose type the operator fixes.
ALWAYS_FLOAT = {"Resize": (1, 2), "GroupNorm": (1, 2), "SkipGroupNorm": (1, 2)}
INTEGERS = {"Shape", "Size", "NonZero", "ArgMax"}
LOGIC = {"Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "And", "Or", "Not", "IsNaN"}


def attribute(node: onnx.NodeProto, name: str):
    return next((helper.get_attribute_value(entry) for entry in node.attribute if entry.name == name), None)


def output_type(node: onnx.NodeProto, types: dict[str, int]) -> int:
    """The element type of a node's outputs; what is not listed hands on the type of its first input."""
    if node.op_type == "Cast":
        return attribute(node, "to")
    if node.op_type in ("Constant", "ConstantOfShape"):
        value = attribute(node, "value")
        return TensorProto.FLOAT if value is None else value.data_type
    if node.op_type in INTEGERS:
        return TensorProto.INT64
    if node.op_type in LOGIC:
        return TensorProto.BOOL
    return types[node.input[1 if node.op_type == "Where" else 0]]


def float_tensors(graph: onnx.GraphProto) -> set[str]:
    types = {value.name: value.type.tensor_type.elem_type for value in graph.input}
    types |= {weight.name: weight.data_type for weight in graph.initializer}
    for node in graph.node:
        for name in node.output:
            types[name] = output_type(node, types)
    return {name for name, kind in types.items() if kind == TensorProto.FLOAT}


def retype_weight(weight: onnx.TensorProto, kind: int, name: str) -> onnx.TensorProto:
    value = numpy_helper.to_array(weight)
    limit = float(ml_dtypes.finfo(NUMPY[kind]).max)
    return numpy_helper.from_array(np.clip(value, -limit, limit).astype(NUMPY[kind]), name)


def set_types(model: onnx.ModelProto, type_of: Callable[[onnx.NodeProto], int]) -> dict[int, int]:
    """Gives every node the float type that `type_of` names; inputs and outputs of the graph stay float32.

    @return how many nodes got each type
    """
    graph = model.graph
    floats = float_tensors(graph)
    weights = {weight.name: weight for weight in graph.initializer}
    holds = {name: TensorProto.FLOAT for name in floats}
    made: dict[tuple[str, int], str] = {}
    outputs = {value.name for value in graph.output}
    nodes, counts = [], {}

    def as_type(name: str, kind: int) -> str:
        if holds[name] == kind:
            return name
        if (name, kind) not in made:
            made[name, kind] = new = f"{name}/as_{TensorProto.DataType.Name(kind).lower()}"
            if name in weights:
                graph.initializer.append(retype_weight(weights[name], kind, new))
            else:
                nodes.append(helper.make_node("Cast", [name], [new], to=kind, name=new))
        return made[name, kind]

    for node in graph.node:
        kind = type_of(node)
        if not any(name in floats for name in (*node.input, *node.output)):
            nodes.append(node)
            continue
        counts[kind] = counts.get(kind, 0) + 1
        for index, name in enumerate(node.input):
            if name in floats and node.op_type != "Cast":
                node.input[index] = as_type(name, TensorProto.FLOAT if index in ALWAYS_FLOAT.get(node.op_type, ()) else kind)
        for entry in node.attribute:
            if node.op_type == "Cast" and entry.name == "to" and entry.i == TensorProto.FLOAT:
                entry.i = kind
            elif node.op_type in ("Constant", "ConstantOfShape") and entry.name == "value" and kind != TensorProto.FLOAT:
                if entry.t.data_type == TensorProto.FLOAT:
                    entry.t.CopyFrom(retype_weight(entry.t, kind, entry.t.name))
        nodes.append(node)
        for index, name in enumerate(node.output):
            if name not in floats:
                continue
            holds[name] = kind
            if name in outputs and kind != TensorProto.FLOAT:
                node.output[index] = name + "/inside"
                holds[node.output[index]] = kind
                nodes.append(helper.make_node("Cast", [node.output[index]], [name], to=TensorProto.FLOAT, name=name + "/edge"))
                holds[name] = TensorProto.FLOAT

    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    used = {name for node in graph.node for name in node.input}
    kept = [weight for weight in graph.initializer if weight.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return counts
