"""YAML read node by node, so that every mistake is told with its file and line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from nas.system.errors import InputError, known

MAX_NODES = 20_000
MAX_OPTIONS = 64


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

    def __str__(self) -> str:
        if isinstance(self.node, yaml.ScalarNode):
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

    def numbers(self, node: Node, name: str, low: float, high: float, whole: bool = False) -> tuple[float, ...]:
        values = []
        for item in self.options(node, name):
            value = item.scalar
            good = isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high
            if not good or (whole and value != int(value)):
                kind = "a whole number" if whole else "a number"
                raise self.fault(item, f"{name} must be {kind} from {low:g} to {high:g}, got {item}")
            values.append(value)
        return self.unique(node, name, values)
