"""Graph rewrites that onnxruntime's transformer optimizer does not do on what torch 2.13 and diffusers 0.39 export.

Its Flux patterns (onnxruntime 1.32) were made for older exporters: a square written as Mul ends in a TypeError in its RMSNorm fusion,
and no attention of the transformer is recognised. `normalise` runs before it, `fuse_attention` in its stead.
"""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from half_precision import attribute


class Wiring:
    """Who makes and who uses each tensor of a graph, as it was when this was built."""

    def __init__(self, graph: onnx.GraphProto):
        self.makers = {name: node for node in graph.node for name in node.output}
        self.users: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self.users.setdefault(name, []).append(node)

    def maker(self, name: str, kind: str, permutation: list[int] | None = None) -> onnx.NodeProto | None:
        """The node behind a tensor, if it is of that kind (and permutes so)."""
        node = self.makers.get(name)
        if node is None or node.op_type != kind or (permutation and attribute(node, "perm") != permutation):
            return None
        return node


def constant(graph: onnx.GraphProto, name: str, value: np.ndarray) -> str:
    if not any(weight.name == name for weight in graph.initializer):
        graph.initializer.append(numpy_helper.from_array(value, name))
    return name


def normalise(graph: onnx.GraphProto) -> None:
    """Writes the squares inside RMSNorm as Pow. Those of the GELU stay: there it is the Mul that onnxruntime looks for."""
    users = Wiring(graph).users
    for node in graph.node:
        squares = node.op_type == "Mul" and node.input[0] == node.input[1]
        if squares and any(user.op_type == "ReduceMean" for user in users.get(node.output[0], [])):
            node.op_type = "Pow"
            node.input[1] = constant(graph, "exponent_2", np.array(2, dtype=np.float32))


def drop_idle_casts(model: onnx.ModelProto) -> None:
    """Removes casts of float32 to float32: a later change to half precision would keep them as real ones."""
    graph = model.graph
    floats = {value.name for value in graph.input if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    floats |= {weight.name for weight in graph.initializer if weight.data_type == onnx.TensorProto.FLOAT}
    same_type = {"Add", "Concat", "Div", "MatMul", "Mul", "Neg", "Pow", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze", "Gather"}
    same_type |= {"LayerNormalization", "SimplifiedLayerNormalization", "FastGelu", "Identity", "Sigmoid", "Split", "Sqrt", "Cos", "Sin"}
    replaced: dict[str, str] = {}
    for node in list(graph.node):
        for index, name in enumerate(node.input):
            node.input[index] = replaced.get(name, name)
        if node.op_type == "Cast" and attribute(node, "to") == onnx.TensorProto.FLOAT:
            if node.input[0] in floats and not any(value.name == node.output[0] for value in graph.output):
                replaced[node.output[0]] = node.input[0]
                graph.node.remove(node)
            floats.add(node.output[0])
        elif node.op_type in same_type and node.input[0] in floats:
            floats.update(node.output)


def attention_inputs(wiring: Wiring, softmax: onnx.NodeProto) -> tuple[str, str, str] | None:
    """Query, key and value [batch, tokens, heads, width] of softmax((q * s) @ (k * s)^T), s the fourth root of 1 / width; or nothing."""
    scores = wiring.maker(softmax.input[0], "MatMul")
    scaled = scores and [wiring.maker(name, "Mul") for name in scores.input]
    weighted = wiring.users.get(softmax.output[0], [])
    if not scaled or None in scaled or len(weighted) != 1 or weighted[0].op_type != "MatMul":
        return None
    query = wiring.maker(scaled[0].input[0], "Transpose", [0, 2, 1, 3])
    key = wiring.maker(scaled[1].input[0], "Transpose", [0, 2, 3, 1])
    value = wiring.maker(weighted[0].input[1], "Transpose", [0, 2, 1, 3])
    scales = [wiring.maker(half.input[1], "Sqrt") for half in scaled]
    if None in (query, key, value, *scales) or not same_scale(wiring, scales):
        return None
    return query.input[0], key.input[0], value.input[0]


def same_scale(wiring: Wiring, scales: list[onnx.NodeProto]) -> bool:
    """Both factors come from one tensor, over casts."""
    roots = []
    for scale in scales:
        name = scale.input[0]
        while (cast := wiring.maker(name, "Cast")) is not None:
            name = cast.input[0]
        roots.append(name)
    return roots[0] == roots[1]


def fuse_attention(graph: onnx.GraphProto, heads: int) -> int:
    """Replaces scaled dot product attention by com.microsoft.MultiHeadAttention, which has flash attention on CUDA.

    @return how many were replaced; the nodes that are no longer needed are left for the optimizer to remove
    """
    wiring, count = Wiring(graph), 0
    for softmax in [node for node in graph.node if node.op_type == "Softmax"]:
        found = attention_inputs(wiring, softmax)
        if found is None:
            continue
        product = wiring.users[softmax.output[0]][0]
        turned = [node for node in wiring.users.get(product.output[0], []) if attribute(node, "perm") == [0, 2, 1, 3]]
        joined = [node for node in wiring.users.get(turned[0].output[0], []) if node.op_type == "Reshape"] if turned else []
        if len(joined) != 1:
            continue
        shape = constant(graph, "join_heads", np.array([0, 0, -1], dtype=np.int64))
        name = product.name.removesuffix("MatMul_1") + "MultiHeadAttention"
        flat = [f"{name}/{role}" for role in ("query", "key", "value")]
        nodes = [helper.make_node("Reshape", [old, shape], [new], name=new + "/Reshape") for old, new in zip(found, flat)]
        nodes.append(helper.make_node("MultiHeadAttention", flat, joined[0].output, name=name, domain="com.microsoft", num_heads=heads))
        at = list(graph.node).index(joined[0])
        graph.node.remove(joined[0])
        for node in reversed(nodes):
            graph.node.insert(at, node)
        count += 1
    return count
