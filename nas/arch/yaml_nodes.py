"""YAML read node by node, so that every mistake is told with its file and line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

from nas.arch.block import check_number
from nas.system.errors import InputError, known

MAX_NODES = 20_000
MAX_OPTIONS = 64
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+|[-+]\.\d+", re.ASCII)


def compose(text: str, origin: str) -> Node:
    """The root of a YAML text; `origin` stands for the file in error texts.

    Raises:
        InputError: broken YAML.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        raise InputError(f"{origin}:{line}: broken YAML: {getattr(error, 'problem', None) or error}") from None
    return Node(root, 1)


class Node:
    """A YAML node with its line; values are read on demand so that each can be blamed."""

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
        """The value; of a tag or a date that cannot be read, its text, which no rule accepts."""
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
    """Reads values out of nodes; what breaks a rule is an `InputError` that names file, line, rule and value."""

    origin: str

    def fault(self, node: Node, rule: str) -> InputError:
        return InputError(f"{self.origin}:{node.line}: {rule}")

    def bound(self, root: Node) -> None:
        todo, seen = [root], 0
        while todo:
            node = todo.pop()
            seen += 1
            if seen > MAX_NODES:
                raise self.fault(root, f"a file holds at most {MAX_NODES} values, aliases counted each time")
            if node.is_list:
                todo += node.items()
            elif node.is_mapping:
                todo += [item for pair in node.pairs() for item in pair]

    def mapping(self, node: Node, allowed: tuple[str, ...], what: str) -> dict[str, Node]:
        if not node.is_mapping:
            raise self.fault(node, f"{what} must be a mapping, got {node}")
        found: dict[str, Node] = {}
        for key, value in node.pairs():
            if key.scalar not in allowed:
                raise self.fault(key, f"{what} has no {key}; {known(allowed)}")
            if key.scalar in found:
                raise self.fault(key, f"{key.scalar} stands twice in {what}")
            found[key.scalar] = value
        return found

    def options(self, node: Node, name: str) -> list[Node]:
        nodes = node.items() if node.is_list else [node]
        if not 1 <= len(nodes) <= MAX_OPTIONS:
            raise self.fault(node, f"{name} lists 1 to {MAX_OPTIONS} options, got {len(nodes)}")
        return nodes

    def unique(self, node: Node, name: str, values: list[Any]) -> tuple[Any, ...]:
        for at, value in enumerate(values):
            if value in values[:at]:
                raise self.fault(node, f"{name} lists {value!r} twice; options must differ")
        return tuple(values)

    def number(self, node: Node, name: str, low: float, high: float, whole: bool = False) -> float:
        """One number within bounds, as it was written: ``1.0`` stays a float, for keys of spaces depend on it."""
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
