"""What an agent agrees to run: an ONNX model whole in itself, of standard operators alone. Needs nothing but Python.

ONNX Runtime would open the files that a model names (external data), load what a vendor's operator asks for, and take
its own binary format for ONNX. So a model's protocol buffers are walked first, without building anything from them:
lengths are checked, tensors kept in other files and operators outside the ONNX standard are refused.
"""

from __future__ import annotations

from collections.abc import Iterator

STANDARD = (b"", b"ai.onnx")
DEEPEST = 64  # messages within messages; a network needs six
MOST_MESSAGES = 300_000  # EfficientNet-B7 has 10,000
MESSAGES = {  # by kind of message and number of field: the kind inside, of those that can hold tensors or operators
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
    ("model", 20): "training graphs are not run",
    ("model", 25): "functions of its own are not run; export it with standard operators",
    ("tensor", 13): "its tensors lie in other files (external data); export it as one file",
}
DOMAIN, DATA_LOCATION = ("node", 7), ("tensor", 14)
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
VARINT_BYTES = 10
MOST_KEY = (1 << 32) - 1  # of a field: what is larger, parsers cut to 32 bits, and find another field than is read here


class Refused(ValueError):
    """A model that is not run; one line says why."""


def check_model(model: bytes) -> None:
    """Raises `Refused` unless `model` can be an ONNX model whole in itself, of standard operators alone."""
    waiting = [("model", 0, len(model), 0)]
    graphs = seen = 0
    while waiting:
        kind, start, stop, depth = waiting.pop()
        if depth > DEEPEST:
            raise Refused(f"its graphs are nested more than {DEEPEST} deep")
        for number, wire, begin, end in _fields(model, start, stop):
            place = (kind, number)
            if place in REFUSED:
                raise Refused(REFUSED[place])
            if place == DOMAIN and model[begin:end] not in STANDARD:
                domain = model[begin : min(end, begin + 60)].decode("ascii", "backslashreplace")
                raise Refused(f"operators of {domain!r} are not run, those of the ONNX standard alone")
            if place == DATA_LOCATION and (wire != VARINT or any(model[begin:end])):
                raise Refused(REFUSED["tensor", 13])
            if place in MESSAGES and wire == BYTES:
                graphs += place == ("model", 7)
                seen += 1
                if seen > MOST_MESSAGES:
                    raise Refused("it has more operators and tensors than any network")
                waiting.append((MESSAGES[place], begin, end, depth + 1))
    if not graphs:
        raise Refused("this is no ONNX model")


def _fields(data: bytes, at: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type, begin and end of the content of each field of a message."""
    while at < stop:
        key, at = _varint(data, at, stop)
        if key > MOST_KEY:
            raise Refused("this is no ONNX model")
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
            raise Refused("this is no ONNX model")
        if number == 0 or at > stop:
            raise Refused("this is no ONNX model, or only a part of one")
        yield number, wire, begin, at


def _varint(data: bytes, at: int, stop: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where it ends."""
    value = 0
    for shift in range(VARINT_BYTES):
        if at >= stop:
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value, at
    raise Refused("this is no ONNX model, or only a part of one")
