"""Large ONNX files, read without their weights and written as a stream.

`read_graph` takes a graph apart while its weights stay on the disk, whether they lie in a file of their own or in the graph's; `Weights` maps
one of them at a time, and `DataFile` writes one after the other. So memory holds the graph's nodes and the weight at hand, however large
the model is. Files: https://onnx.ai/onnx/repo-docs/ExternalData.html and onnx.proto (the field numbers below).
"""

import hashlib
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto

# onnx.proto: ModelProto.graph, GraphProto.initializer, TensorProto.raw_data, .external_data, .data_location
GRAPH, INITIALIZER, RAW_DATA = 7, 5, 9
LENGTH_DELIMITED = 2
# A weight with fewer bytes stays in the graph.
INLINE_LIMIT = 4096
# Weights begin at whole pages, so that they can be mapped.
ALIGNMENT = 4096
PIECE = 16 << 20
NUMPY = {
    TensorProto.FLOAT: np.dtype(np.float32),
    TensorProto.FLOAT16: np.dtype(np.float16),
    TensorProto.BFLOAT16: np.dtype(ml_dtypes.bfloat16),
}


def varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def as_varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def fields(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """The fields of one message: number, where the field begins, where its value begins (after the length, if it has one), where it ends."""
    while at < end:
        begin = at
        key, at = varint(data, at)
        wire, value = key & 7, at
        if wire == 0:
            _, at = varint(data, at)
        elif wire == LENGTH_DELIMITED:
            length, value = varint(data, at)
            at = value + length
        else:
            at += {1: 8, 5: 4}[wire]
        yield key >> 3, begin, value, at


def message(number: int, body: bytes) -> bytes:
    return as_varint(number << 3 | LENGTH_DELIMITED) + as_varint(len(body)) + body


def without_raw_data(data: mmap.mmap, begin: int, end: int, file: str) -> bytes:
    """One TensorProto whose raw data, if they are many, are named by their place in `file`."""
    out = bytearray()
    for number, start, value, stop in fields(data, begin, end):
        if number != RAW_DATA or stop - value < INLINE_LIMIT:
            out += data[start:stop]
            continue
        moved = TensorProto(data_location=TensorProto.EXTERNAL)
        for key, text in (("location", file), ("offset", str(value)), ("length", str(stop - value))):
            moved.external_data.add(key=key, value=text)
        out += moved.SerializeToString()
    return bytes(out)


def read_graph(file: Path) -> onnx.ModelProto:
    """The model with all its nodes; weights of `INLINE_LIMIT` bytes and more are named as external data, also those of the file itself.

    @raises ValueError where the file is not there or is no ONNX graph
    """
    try:
        model = onnx.ModelProto.FromString(without_weights(file))
    except (OSError, ValueError, LookupError, DecodeError) as error:
        raise ValueError(f"{file} cannot be read as an ONNX graph ({error}): fetch or export it again") from error
    if not model.graph.node:
        raise ValueError(f"{file} is no ONNX graph: it has no nodes")
    return model


def without_weights(file: Path) -> bytes:
    out = bytearray()
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as data:
        for number, begin, value, end in fields(data, 0, len(data)):
            if number != GRAPH:
                out += data[begin:end]
                continue
            graph = bytearray()
            for inner, start, inner_value, stop in fields(data, value, end):
                whole = inner != INITIALIZER
                graph += data[start:stop] if whole else message(INITIALIZER, without_raw_data(data, inner_value, stop, file.name))
            out += message(GRAPH, bytes(graph))
    return bytes(out)


def place_of(weight: TensorProto) -> tuple[str, int, int | None]:
    """Name of the file, offset and length (None: to the end) of external data."""
    entries = {entry.key: entry.value for entry in weight.external_data}
    return entries["location"], int(entries.get("offset", 0)), int(entries["length"]) if "length" in entries else None


class Weights:
    """The weights of one graph, where they lie; the pages of a weight go when its turn is over."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.maps: dict[str, mmap.mmap] = {}

    def map_of(self, name: str) -> mmap.mmap:
        if name not in self.maps:
            if not (self.folder / name).is_file():
                raise ValueError(f"{self.folder / name} is missing: weights of a graph beside it lie there; fetch or export it again")
            with (self.folder / name).open("rb") as stream:
                self.maps[name] = mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ)
        return self.maps[name]

    def bytes_of(self, weight: TensorProto) -> memoryview:
        """@raises ValueError when the file ends before the weight does"""
        if weight.data_location != TensorProto.EXTERNAL:
            return memoryview(weight.raw_data if weight.raw_data else onnx.numpy_helper.to_array(weight).tobytes())
        name, offset, length = place_of(weight)
        whole = memoryview(self.map_of(name))
        end = len(whole) if length is None else offset + length
        if end > len(whole):
            raise ValueError(f"{self.folder / name} has {len(whole)} bytes; {weight.name} should end at {end}: fetch or export the file again")
        return whole[offset:end]

    def matrix(self, weight: TensorProto) -> np.ndarray:
        kind = NUMPY[weight.data_type]
        return np.frombuffer(self.bytes_of(weight), kind).reshape(tuple(weight.dims))

    def check(self, graph: onnx.GraphProto) -> None:
        """@raises ValueError where not all weights of the graph are there; reads none of them"""
        for weight in graph.initializer:
            if weight.data_location == TensorProto.EXTERNAL:
                self.bytes_of(weight)

    def forget(self) -> None:
        """Gives all pages that were read back to the system; they can be read again."""
        for data in self.maps.values():
            data.madvise(mmap.MADV_DONTNEED)


class DataFile:
    """A file of weights under a temporary name until `finish`; without it nothing stays. Its digest is made while it is written."""

    def __init__(self, path: Path):
        self.path = path
        self.partial = path.with_name(path.name + ".partial")
        self.stream = self.partial.open("wb")
        self.digest = hashlib.sha256()
        self.at = 0

    def __enter__(self) -> "DataFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()
        self.partial.unlink(missing_ok=True)

    def append(self, data: memoryview | bytes) -> None:
        for start in range(0, len(data), PIECE):
            piece = data[start : start + PIECE]
            self.stream.write(piece)
            self.digest.update(piece)
        self.at += len(data)

    def begin(self) -> int:
        self.append(bytes(-self.at % ALIGNMENT))
        return self.at

    def finish(self) -> tuple[int, str]:
        """@return size in bytes and sha256"""
        self.stream.flush()
        os.fsync(self.stream.fileno())
        self.stream.close()
        self.partial.replace(self.path)
        return self.at, self.digest.hexdigest()


def point_to(weight: TensorProto, file: str, offset: int, length: int) -> None:
    weight.ClearField("raw_data")
    weight.ClearField("float_data")
    weight.ClearField("int32_data")
    weight.ClearField("external_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", file), ("offset", str(offset)), ("length", str(length))):
        weight.external_data.add(key=key, value=value)
