"""Space files: YAML under ``search_spaces/`` to a `Space`, every mistake told with its file and line."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from nas.arch import CELLS, MAX_RESOLUTION, MAX_ROWS, OPS, check_cell
from nas.errors import InputError, known
from nas.space import Space
from nas.stage import SCALES, Stage

MAX_BYTES = 256 << 10
MAX_NODES = 20_000
MAX_OPTIONS = 64
MAX_BLOCKS = 20_000  # ways to fill one row: its distinct blocks are listed to count and to encode
SUFFIXES = (".yaml", ".yml")

_ARCH_OPTIONS = ("dropout", "bn_eps", "bn_momentum")
_TOP = ("name", "resolution", "width", *_ARCH_OPTIONS, "stem", "stages", "head")
_CELLS = tuple(dict.fromkeys(["op", *(name for cells in CELLS.values() for name in cells)]))
_ROW = (*_CELLS, "repeat", "shared", "choice", "scale")


def spaces_root() -> Path:
    """The folder of the shipped space files: inside the installed package, or beside it in a checkout."""
    packaged = Path(__file__).parent / "search_spaces"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / "search_spaces"


def names(folder: str = "") -> list[str]:
    """The spaces (or with ``reference`` the references) that can be loaded by name."""
    return sorted(path.stem for path in (spaces_root() / folder).glob("*.yaml"))


def load_space(name: str | Path, folder: str = "") -> Space:
    """Read a space.

    Args:
        name: a name under ``search_spaces/``, or a path to a ``.yaml`` file.
        folder: sub-folder of ``search_spaces/`` in which names are looked up.

    Raises:
        InputError: there is no such space, or its file breaks a rule of the grammar (file, line, rule, value).
    """
    path = Path(name)
    if path.suffix not in SUFFIXES and path.name == str(name):
        if str(name) not in names(folder):
            raise InputError(
                f"no space is called {str(name)!r}; {known(names(folder))}; or give a path to a .yaml file"
            )
        path = spaces_root() / folder / f"{name}.yaml"
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: a space file is at most {MAX_BYTES} bytes, got {path.stat().st_size}")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise InputError(f"cannot read space file {path}: {reason}; {known(names(folder))}") from None
    return parse_space(text, str(path))


def parse_space(text: str, origin: str) -> Space:
    """Read a space from YAML text; `origin` stands for the file in error texts.

    Raises:
        InputError: as `load_space`.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        raise InputError(f"{origin}:{line}: broken YAML: {getattr(error, 'problem', None) or error}") from None
    return _Reader(origin, text).space(_Node(root, 1))


class _Node:
    """A YAML node with its line; values are read on demand so that each can be blamed."""

    def __init__(self, node: yaml.Node | None, line: int) -> None:
        self.node = node
        self.line = node.start_mark.line + 1 if node is not None else line

    def items(self) -> list[_Node]:
        assert isinstance(self.node, yaml.SequenceNode)
        return [_Node(item, self.line) for item in self.node.value]

    def pairs(self) -> list[tuple[_Node, _Node]]:
        assert isinstance(self.node, yaml.MappingNode)
        return [(_Node(key, self.line), _Node(value, self.line)) for key, value in self.node.value]

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
class _Reader:
    origin: str
    text: str

    def fault(self, node: _Node, rule: str) -> InputError:
        return InputError(f"{self.origin}:{node.line}: {rule}")

    def space(self, root: _Node) -> Space:
        self._bound(root)
        top = self.mapping(root, _TOP, "a space")
        for name in ("name", "resolution", "stages"):
            if name not in top:
                raise self.fault(root, f"a space needs {name}; {known(_TOP)}")
        if not isinstance(top["name"].scalar, str):
            raise self.fault(top["name"], f"name must be text, got {top['name']}")
        resolution = self.numbers(top["resolution"], "resolution", 8, MAX_RESOLUTION, whole=True)
        width = self.numbers(top["width"], "width", 0.05, 16) if "width" in top else (1.0,)
        options = {name: self.numbers(top[name], name, 0, 1)[0] for name in _ARCH_OPTIONS if name in top}
        space = Space(
            name=top["name"].scalar,
            stages=self.stages(top, root),
            resolution=tuple(int(value) for value in resolution),
            width=width,
            arch_options=options,
            text=self.text,
        )
        if sum(max(stage.repeat) for stage in space.stages) > MAX_ROWS:
            raise self.fault(top["stages"], f"a network has at most {MAX_ROWS} rows; lower a repeat")
        try:  # the rules between rows (one pool, linear rows after it) are Arch's
            space.unfold(lambda gene: gene.options[0])
            space.unfold(lambda gene: gene.options[-1])
        except InputError as error:
            raise self.fault(root, str(error)) from None
        return space

    def _bound(self, root: _Node) -> None:
        todo, seen = [root], 0
        while todo:
            node = todo.pop()
            seen += 1
            if seen > MAX_NODES:
                raise self.fault(root, f"a space file holds at most {MAX_NODES} values, aliases counted each time")
            if node.is_list:
                todo += node.items()
            elif node.is_mapping:
                todo += [item for pair in node.pairs() for item in pair]

    def mapping(self, node: _Node, allowed: tuple[str, ...], what: str) -> dict[str, _Node]:
        if not node.is_mapping:
            raise self.fault(node, f"{what} must be a mapping, got {node}")
        found: dict[str, _Node] = {}
        for key, value in node.pairs():
            if key.scalar not in allowed:
                raise self.fault(key, f"{what} has no {key}; {known(allowed)}")
            if key.scalar in found:
                raise self.fault(key, f"{key.scalar} stands twice in {what}")
            found[key.scalar] = value
        return found

    def options(self, node: _Node, name: str) -> list[_Node]:
        nodes = node.items() if node.is_list else [node]
        if not 1 <= len(nodes) <= MAX_OPTIONS:
            raise self.fault(node, f"{name} lists 1 to {MAX_OPTIONS} options, got {len(nodes)}")
        return nodes

    def unique(self, node: _Node, name: str, values: list[Any]) -> tuple[Any, ...]:
        for at, value in enumerate(values):
            if value in values[:at]:
                raise self.fault(node, f"{name} lists {value!r} twice; options must differ")
        return tuple(values)

    def numbers(self, node: _Node, name: str, low: float, high: float, whole: bool = False) -> tuple[float, ...]:
        values = []
        for item in self.options(node, name):
            value = item.scalar
            good = isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high
            if not good or (whole and value != int(value)):
                kind = "a whole number" if whole else "a number"
                raise self.fault(item, f"{name} must be {kind} from {low:g} to {high:g}, got {item}")
            values.append(value)
        return self.unique(node, name, values)

    def cell(self, node: _Node, name: str, extra: tuple[str, ...] = ()) -> Any:
        value = node.scalar
        if name == "se" and value is False:  # YAML reads `off` as false
            value = 0
        if value in extra:
            return value
        try:
            return check_cell(name, value)
        except InputError as error:
            more = ", ".join(extra)
            raise self.fault(node, f"{error}{', ' + more if more else ''}") from None

    def stages(self, top: Mapping[str, _Node], root: _Node) -> tuple[Stage, ...]:
        stages: list[Stage] = []
        for name, node in self._rows(top, root):
            stages.append(self.stage(node, name, stages[-1] if stages else None))
        if "head" not in top:
            stages.append(Stage("head", {"op": ("pool",)}))
        return tuple(stages)

    def _rows(self, top: Mapping[str, _Node], root: _Node) -> Iterator[tuple[str, _Node]]:
        for part, prefix in (("stem", "stem"), ("stages", "s"), ("head", "head")):
            if part not in top:
                continue
            rows = top[part].items() if top[part].is_list else [top[part]]
            if len(rows) > MAX_ROWS:
                raise self.fault(top[part], f"{part} has at most {MAX_ROWS} rows, got {len(rows)}")
            for at, row in enumerate(rows):
                alone = prefix == "stem" and len(rows) == 1
                yield (prefix if alone else f"{prefix}{at + 1}"), row

    def stage(self, node: _Node, name: str, before: Stage | None) -> Stage:
        found = self.mapping(node, _ROW, f"row {name}")
        repeat: tuple[int, ...] = (1,)
        if "repeat" in found:
            repeat = tuple(int(n) for n in self.numbers(found["repeat"], "repeat", 0, 64, whole=True))
            if max(repeat) == 0:
                raise self.fault(found["repeat"], "repeat must allow at least one block; leave the row out instead")
        cells = {}
        for cell in _CELLS:
            if cell in found:
                extra = ("skip",) if cell == "op" else ()
                values = [self.cell(item, cell, extra) for item in self.options(found[cell], cell)]
                cells[cell] = self.unique(found[cell], cell, values)
        choice = self.choice(found["choice"], name) if "choice" in found else {}
        stage = Stage(
            name=name,
            cells=cells,
            repeat=repeat,
            shared=self.shared(found["shared"], cells) if "shared" in found else frozenset(),
            choice=choice,
            scale=self.scale(found["scale"]) if "scale" in found else "always",
            may_open_with_skip=_keeps_shape(cells, before),
        )
        self._complete(stage, node)
        return stage

    def choice(self, node: _Node, name: str) -> dict[str, dict[str, Any]]:
        if not node.is_list:
            raise self.fault(node, f"choice lists whole rows, one of which may be skip; got {node}")
        rows: dict[str, dict[str, Any]] = {}
        for item in self.options(node, "choice"):
            if item.scalar == "skip":
                row = {"op": "skip"}
            else:
                found = self.mapping(
                    item, tuple(c for c in _CELLS if c not in ("channels", "stride")), f"a choice of {name}"
                )
                row = {cell: self.cell(value, cell) for cell, value in found.items()}
            label = " ".join(
                str(v) if k == "op" else f"{k}={v}" for k, v in sorted(row.items(), key=lambda kv: kv[0] != "op")
            )
            if label in rows:
                raise self.fault(item, f"choice lists {label!r} twice; options must differ")
            rows[label] = row
        return rows

    def shared(self, node: _Node, cells: Mapping[str, Any]) -> frozenset[str]:
        named = [item.scalar for item in self.options(node, "shared")]
        for name in named:
            if name not in cells:
                raise self.fault(node, f"shared names cells of its row, got {name!r}; {known(cells)}")
        return frozenset(named)

    def scale(self, node: _Node) -> str:
        if node.scalar not in SCALES:
            raise self.fault(node, f"scale is not one of the known, got {node}; {known(SCALES)}")
        return str(node.scalar)

    def _complete(self, stage: Stage, node: _Node) -> None:
        """Every op the row can become has its op and channels, and only cells some op of it uses, and not too many."""
        ways = math.prod(len(options) for options in stage.cells.values()) * max(1, len(stage.choice))
        if ways > MAX_BLOCKS:
            raise self.fault(
                node, f"row {stage.name} can be filled in {ways} ways, at most {MAX_BLOCKS}; fix some cells"
            )
        in_choice = [row.get("op") for row in stage.choice.values()]
        ops = {op for op in in_choice if op} | (
            set(stage.cells.get("op", ())) if None in in_choice or not in_choice else set()
        )
        if not ops - {"skip"}:
            raise self.fault(node, f"row {stage.name} needs an op; {known(OPS)}")
        real = sorted(str(op) for op in ops - {"skip"})
        for op in real:
            if "channels" in CELLS[op] and "channels" not in stage.cells:
                raise self.fault(node, f"row {stage.name} ({op}) needs channels")
        used = {"op"} | {name for op in real for name in CELLS[op]}
        for name in (*stage.cells, *(cell for row in stage.choice.values() for cell in row)):
            if name not in used:
                raise self.fault(
                    node, f"row {stage.name} ({', '.join(real)}) has no cell {name!r}; {known(sorted(used))}"
                )


def _keeps_shape(cells: Mapping[str, tuple[Any, ...]], before: Stage | None) -> bool:
    width = cells.get("channels", ())
    same = before is not None and len(width) == 1 and before.cells.get("channels") == width
    return same and cells.get("stride", (1,)) == (1,)
