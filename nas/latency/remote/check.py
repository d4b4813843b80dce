"""What an agent agrees to run: a self-contained ONNX model of standard operators. Needs nothing but Python.

ONNX Runtime would open the files that a model names (external data), load what a vendor's operator requests, and accept
its own binary format as ONNX. Therefore the protocol buffers of a model are walked first, without building anything
from them: lengths are checked, and tensors in other files and operators outside the ONNX standard are refused.
"""

from __future__ import annotations

from collections.abc import Iterator

STANDARD = (b"", b"ai.onnx")
MAX_DEPTH = 64  # of messages within messages; a network needs six
MAX_MESSAGES = 300_000  # EfficientNet-B7 has 10,000
MESSAGES = {  # by kind of message and field number: the kind inside, where it can hold tensors or operators
    ("model", 7): "graph",
    ("graph", 1): "node",
    ("graph", 5): "tensor",
    ("graph", 15): "sparse",
    ("node", 5): "attribute",
    ("attribute", 5): "tensor",
    ("attribute", 6): "graph",
    ("attribute", 10): "tensor",
    ("attribute", 11): "graph",
    ("attribute", 22): "sparse",
    ("attribute", 23): "sparse",
    ("sparse", 1): "tensor",
    ("sparse", 2): "tensor",
}
REFUSED = {
    ("model", 20): "the model contains training graphs, which are not run; export it for inference",
    ("model", 25): "the model defines functions, which are not run; export it with standard operators",
    ("tensor", 13): "the model keeps tensors in other files (external data); export it as one file",
}
DOMAIN, DATA_LOCATION = ("node", 7), ("tensor", 14)
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_VARINT_BYTES = 10
MAX_KEY = (1 << 32) - 1  # of a field: parsers cut a larger one to 32 bits, and would find another field than this walk


class ModelRefused(ValueError):
    """The model is not run; one line says why."""


def check_model(model: bytes) -> None:
    """Raises `ModelRefused` unless `model` can be a self-contained ONNX model of standard operators."""
    pending = [("model", 0, len(model), 0)]
    graphs = messages = 0
    while pending:
        kind, start, stop, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise ModelRefused(f"the model nests graphs more than {MAX_DEPTH} deep")
        for number, wire, begin, end in _fields(model, start, stop):
            place = (kind, number)
            if place in REFUSED:
                raise ModelRefused(REFUSED[place])
            if place == DOMAIN and model[begin:end] not in STANDARD:
                domain = model[begin : min(end, begin + 60)].decode("ascii", "backslashreplace")
                raise ModelRefused(f"the model has operators of {domain!r}; export it with standard ONNX operators")
            if place == DATA_LOCATION and (wire != VARINT or any(model[begin:end])):
                raise ModelRefused(REFUSED["tensor", 13])
            if place in MESSAGES and wire == BYTES:
                graphs += place == ("model", 7)
                messages += 1
                if messages > MAX_MESSAGES:
                    raise ModelRefused(f"the model has more than {MAX_MESSAGES} operators and tensors")
                pending.append((MESSAGES[place], begin, end, depth + 1))
    if not graphs:
        raise ModelRefused("this is not an ONNX model")


def _fields(data: bytes, at: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
    """For each field of a message: its number, its wire type, and where its content begins and ends."""
    while at < stop:
        key, at = _varint(data, at, stop)
        if key > MAX_KEY:
            raise ModelRefused("this is not an ONNX model")
        number, wire, begin = key >> 3, key & 7, at
        if wire == VARINT:
            _, at = _varint(data, at, stop)
        elif wire == FIXED64:
            at += 8
        elif wire == FIXED32:
            at += 4
        elif wire == BYTES:
            length, begin = _varint(data, at, stop)
            at = begin + length
        else:
            raise ModelRefused("this is not an ONNX model")
        if number == 0 or at > stop:
            raise ModelRefused("this is not a complete ONNX model")
        yield number, wire, begin, at


def _varint(data: bytes, at: int, stop: int) -> tuple[int, int]:
    """A number stored as seven bits a byte, and the position after it."""
    value = 0
    for shift in range(MAX_VARINT_BYTES):
        if at >= stop:
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value, at
    raise ModelRefused("this is not a complete ONNX model")
