"""YAML read node by node, to report every mistake with its file and line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

from nas.arch.block import check_number
from nas.system.errors import InputError, known
from nas.system.text import one_line

MAX_NODES = 20_000
MAX_OPTIONS = 64
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+|[-+]\.\d+", re.ASCII)


def compose(text: str, origin: str) -> Node:
    """The root node of a YAML text.

    Args:
        text: text to read.
        origin: name of the file, for errors.

    Raises:
        InputError: the text is not YAML.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        raise InputError(
            f"{origin}:{line}: broken YAML: {one_line(getattr(error, 'problem', None) or error)}"
        ) from None
    return Node(root, 1)


class Node:
    """A YAML node with its line. Its value is read on demand, so an error can name the node."""

    def __init__(self, node: yaml.Node | None, line: int) -> None:
        self.node = node
        self.line = node.start_mark.line + 1 if node is not None else line

    def items(self) -> list[Node]:
        assert isinstance(self.node, yaml.SequenceNode)
        return [Node(item, self.line) for item in self.node.value]

    def pairs(self) -> list[tuple[Node, Node]]:
        assert isinstance(self.node, yaml.MappingNode)
        return [(Node(key, self.line), Node(value, self.line)) for key, value in self.node.value]

    @property
    def is_scalar(self) -> bool:
        return isinstance(self.node, yaml.ScalarNode)

    @property
    def is_list(self) -> bool:
        return isinstance(self.node, yaml.SequenceNode)

    @property
    def is_mapping(self) -> bool:
        return isinstance(self.node, yaml.MappingNode)

    @property
    def scalar(self) -> Any:
        """The value of a scalar. If a tag or a date cannot be read, this is its text, which no rule accepts."""
        if not isinstance(self.node, yaml.ScalarNode):
            return None
        try:
            return yaml.SafeLoader("").construct_object(self.node)
        except (yaml.YAMLError, ValueError):
            return str(self.node.value)

    @property
    def number(self) -> Any:
        """The value where a number is expected: plain text such as ``1e-05`` is one, as in YAML 1.2. PyYAML reads YAML
        1.1, which wants a point and a signed exponent, ``1.0e-05``."""
        value = self.scalar
        plain = isinstance(self.node, yaml.ScalarNode) and self.node.style is None
        return float(value) if plain and isinstance(value, str) and _NUMBER.fullmatch(value) else value

    def __str__(self) -> str:
        if self.is_scalar:
            return repr(self.scalar)
        return "a list" if self.is_list else "a mapping" if self.is_mapping else "nothing"


@dataclass
class Reader:
    """Reads values out of nodes. A value that breaks a rule is an `InputError` with file, line, rule and value."""

    origin: str

    def fault(self, node: Node, rule: str) -> InputError:
        """The error that `node` breaks `rule`."""
        return InputError(f"{self.origin}:{node.line}: {rule}")

    def bound(self, root: Node) -> None:
        """Refuse a file with too many values. Aliases count each time, because they are read each time."""
        todo, seen = [root], 0
        while todo:
            node = todo.pop()
            seen += 1
            if seen > MAX_NODES:
                raise self.fault(root, f"a file may hold at most {MAX_NODES} values; each use of an alias counts")
            if node.is_list:
                todo += node.items()
            elif node.is_mapping:
                todo += [item for pair in node.pairs() for item in pair]

    def mapping(self, node: Node, allowed: tuple[str, ...], what: str) -> dict[str, Node]:
        """The entries of a mapping by key; `what` names the mapping in errors."""
        if not node.is_mapping:
            raise self.fault(node, f"{what} must be a mapping, got {node}")
        entries: dict[str, Node] = {}
        for key, value in node.pairs():
            if key.scalar not in allowed:
                raise self.fault(key, f"{what} has no {key}; {known(allowed)}")
            if key.scalar in entries:
                raise self.fault(key, f"{what} has {key.scalar} twice")
            entries[key.scalar] = value
        return entries

    def options(self, node: Node, name: str) -> list[Node]:
        """The items of a list, or a single value as one item."""
        nodes = node.items() if node.is_list else [node]
        if not 1 <= len(nodes) <= MAX_OPTIONS:
            raise self.fault(node, f"{name} must list 1 to {MAX_OPTIONS} options, got {len(nodes)}")
        return nodes

    def unique(self, node: Node, name: str, values: list[Any]) -> tuple[Any, ...]:
        """The values, which must differ."""
        for at, value in enumerate(values):
            if value in values[:at]:
                raise self.fault(node, f"{name} lists {value!r} twice; options must differ")
        return tuple(values)

    def number(self, node: Node, name: str, low: float, high: float, whole: bool = False) -> float:
        """One number within bounds. ``1.0`` stays a float: keys of spaces depend on it."""
        value = node.number
        try:
            check_number(name, value, low, high, whole, repr(value) if node.is_scalar else str(node))
        except InputError as error:
            raise self.fault(node, str(error)) from None
        return float(value) if isinstance(value, float) else int(value)

    def whole(self, node: Node, name: str, low: int, high: int) -> int:
        """One whole number within bounds."""
        return int(self.number(node, name, low, high, whole=True))

    def numbers(self, node: Node, name: str, low: float, high: float) -> tuple[float, ...]:
        """One number, or a list of different ones."""
        return self.unique(node, name, [self.number(item, name, low, high) for item in self.options(node, name)])

    def wholes(self, node: Node, name: str, low: int, high: int) -> tuple[int, ...]:
        """One whole number, or a list of different ones."""
        return self.unique(node, name, [self.whole(item, name, low, high) for item in self.options(node, name)])
