"""Exports of models of any size without their weights: the graph is Optimum's, the weights are listed and filled in elsewhere.

A transformer of 12 billion parameters is traced in 20 seconds and 3 GB: all parameters are views of one block of zeros, and torch's
exporter is told to leave them out of the file (`export_params=False`), out of its search for equal weights and out of its shape inference,
each of which would copy every one of them. What comes out names the weights as inputs; `attach_weights` makes them initializers whose values lie
in a file of their own, and lists them in weights.json for scripts/bench/gpu/fill-weights.ts.
"""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import onnx
import torch
from accelerate import init_empty_weights
from onnx import TensorProto
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel
from optimum.exporters.onnx.base import OnnxConfig

BYTES = {"float32": 4, "float16": 2}
# File offsets of external data: a page each, so that the library can map them.
ALIGNMENT = 4096


def hollow(make: Callable[[], torch.nn.Module]) -> torch.nn.Module:
    """A model whose parameters are all views of the same zeros."""
    with init_empty_weights(include_buffers=False):
        model = make()
    largest = max(parameter.numel() for parameter in model.parameters())
    zeros = torch.zeros(largest)
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                view = zeros[: parameter.numel()].view(parameter.shape)
                module._parameters[name] = torch.nn.Parameter(view, requires_grad=False)
    model.tie_weights() if hasattr(model, "tie_weights") else None
    return model.eval()


@contextmanager
def without_weights() -> Iterator[None]:
    """While it lasts torch.onnx.export, as Optimum calls it, writes graphs alone."""
    export, core = torch.onnx.export, torch._C
    graph_shapes, node_shapes = core._jit_pass_onnx_graph_shape_type_inference, core._jit_pass_onnx_node_shape_type_inference

    def export_graph(*arguments, **options):
        return export(*arguments, **{**options, "export_params": False, "do_constant_folding": False})

    with (
        patch.object(torch.onnx, "export", export_graph),
        patch.object(core, "_jit_pass_onnx_deduplicate_initializers", lambda graph, weights, training: weights),
        patch.object(core, "_jit_pass_onnx_graph_shape_type_inference", lambda graph, weights, opset: graph_shapes(graph, {}, opset)),
        patch.object(core, "_jit_pass_onnx_node_shape_type_inference", lambda node, weights, opset: node_shapes(node, {}, opset)),
        # It would run each graph, with drawn weights, to name the sizes of outputs.
        patch.object(OnnxConfig, "fix_dynamic_axes", lambda *arguments, **options: None),
    ):
        yield


def nodes_of(graph: onnx.GraphProto) -> Iterator[tuple[onnx.GraphProto, onnx.NodeProto]]:
    """All nodes with the graph that they are in, those of branches included."""
    for node in graph.node:
        yield graph, node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from nodes_of(attribute.g)


def turned(graph: onnx.GraphProto, weights: set[str]) -> set[str]:
    """Matrices that are only used transposed: they are stored so, and the Transpose nodes go. onnxruntime would keep both."""
    uses: dict[str, list[tuple[onnx.GraphProto, onnx.NodeProto]]] = {}
    for owner, node in nodes_of(graph):
        for name in node.input:
            if name in weights:
                uses.setdefault(name, []).append((owner, node))
    found = set()
    for name, users in uses.items():
        if any(node.op_type != "Transpose" or list(node.attribute[0].ints) != [1, 0] for _, node in users):
            continue
        found.add(name)
        for owner, node in users:
            replace(owner, node.output[0], name)
            owner.node.remove(node)
    return found


def replace(graph: onnx.GraphProto, old: str, new: str) -> None:
    for _, node in nodes_of(graph):
        for index, name in enumerate(node.input):
            if name == old:
                node.input[index] = new


def spread(name: str, shape: list[int]) -> tuple[float, float]:
    """Mean and standard deviation that keep the values of a deep network of this size neither tiny nor endless."""
    if len(shape) >= 2:
        return 0.0, 0.02 if "relative_attention_bias" in name else 0.7 / math.sqrt(math.prod(shape[1:]))
    return (1.0, 0.05) if "norm" in name.lower() and name.endswith("weight") else (0.0, 0.01)


def halve(path: Path, inputs: set[str]) -> None:
    """Makes a graph and its weights float16. Its inputs and outputs stay float32, but for keys and values, which never leave the device."""
    model = onnx.load(str(path), load_external_data=False)
    edges = [value.name for value in model.graph.input if value.name in inputs] + [value.name for value in model.graph.output]
    kept = [name for name in edges if not name.startswith(("past_key_values.", "present."))]
    model = convert_float_to_float16(model, keep_io_types=kept)
    # The casts of the inputs come last otherwise.
    OnnxModel.graph_topological_sort(model.graph)
    onnx.save(model, str(path))


def attach_weights(path: Path, inputs: set[str]) -> list[dict]:
    """Makes every input of a graph that is not among `inputs` a weight in `<file>_data`. The weights, in the order of the file."""
    model = onnx.load(str(path), load_external_data=False)
    graph = model.graph
    shapes = {
        value.name: [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in graph.input
        if value.name not in inputs
    }
    types = {value.name: value.type.tensor_type.elem_type for value in graph.input}
    transposed = turned(graph, set(shapes))
    listed, offset = [], 0
    for name, shape in shapes.items():
        stored = shape[::-1] if name in transposed else shape
        kind = "float16" if types[name] == TensorProto.FLOAT16 else "float32"
        length = math.prod(stored) * BYTES[kind]
        mean, deviation = spread(name, shape)
        tensor = onnx.TensorProto(name=name, data_type=types[name], dims=stored, data_location=TensorProto.EXTERNAL)
        for key, value in {"location": f"{path.name}_data", "offset": offset, "length": length}.items():
            tensor.external_data.add(key=key, value=str(value))
        graph.initializer.append(tensor)
        listed.append(
            {"name": name, "shape": stored, "transposed": name in transposed, "type": kind, "offset": offset, "mean": mean, "deviation": deviation}
        )
        offset += -(-length // ALIGNMENT) * ALIGNMENT
    kept = [value for value in graph.input if value.name in inputs]
    del graph.input[:], graph.value_info[:]
    graph.input.extend(kept)
    onnx.save(model, str(path))
    return listed


def write_weights(folder: Path, files: dict[str, list[dict]]) -> None:
    listed = [{"file": f"{file}_data", "weights": weights} for file, weights in files.items()]
    (folder / "weights.json").write_text(json.dumps(listed) + "\n", encoding="utf-8")
