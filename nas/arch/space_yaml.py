"""Space files: from YAML to a `Space`, with every mistake reported by file and line."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from nas.arch.arch import MAX_RESOLUTION, MAX_ROWS
from nas.arch.block import BOUNDS, CELLS, OPS, check_cell
from nas.arch.genes import every
from nas.arch.rounding import ROUNDINGS
from nas.arch.space import Space
from nas.arch.stage import SCALES, Stage
from nas.arch.yaml_nodes import Node, Reader, compose
from nas.system.errors import InputError, known, nearest

MAX_BYTES = 256 << 10
MAX_BLOCKS = 20_000  # combinations of one row's cells: all of them are listed to count and to encode
SUFFIXES = (".yaml", ".yml")

REFERENCES = "reference"  # sub-folder of spaces that hold exactly one network
_ARCH_OPTIONS = ("dropout", "bn_eps", "bn_momentum", "stochastic_depth")
_SCALING = ("width", "rounding", "depth")
_TOP = ("name", "base", "resolution", *_SCALING, *_ARCH_OPTIONS, "stem", "stages", "head", "published")
_CELLS = tuple(dict.fromkeys(["op", *(name for cells in CELLS.values() for name in cells)]))
_ROW = (*_CELLS, "repeat", "shared", "choice", "scale")


def spaces_root() -> Path:
    """The folder of the shipped space files: inside an installed package, next to the package in a checkout."""
    packaged = Path(__file__).parents[1] / "search_spaces"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "search_spaces"


def names(folder: str = "") -> list[str]:
    """Names of the shipped spaces, or with ``reference`` of the references."""
    return sorted(path.stem for path in (spaces_root() / folder).glob("*.yaml"))


def load_space(name: str | Path, folder: str = "") -> Space:
    """Read a space.

    Args:
        name: name of a shipped space, or path to a ``.yaml`` file.
        folder: sub-folder of ``search_spaces/`` in which names are looked up.

    Raises:
        InputError: there is no such space, or its file breaks a rule; the text has the file, line, rule and value.

    >>> import nas
    >>> space = nas.load_space("mbconv")
    >>> space.name, space.resolution, len(space.genes)
    ('mbconv', (160, 192, 224), 94)
    >>> space.encode(space.sample(0))["resolution"]
    224
    """
    path = space_path(name, folder)
    return parse_space(read_text(path, names(folder)), str(path))


def space_path(name: str | Path, folder: str = "") -> Path:
    """The file of a space; a path to a ``.yaml`` file is returned unchanged.

    Raises:
        InputError: no space has this name.
    """
    path = Path(name).expanduser()
    if path.suffix in SUFFIXES or path.name != str(name):
        return path
    if str(name) not in names(folder):
        what = "reference" if folder == REFERENCES else "space"
        others = nearest(str(name), names(folder))
        raise InputError(f"no {what} is called {str(name)!r}; {others}; or give a path to a .yaml file")
    return spaces_root() / folder / f"{name}.yaml"


def read_text(path: Path, others: list[str]) -> str:
    """The text of a space file.

    Args:
        path: file to read.
        others: known names, for the error.

    Raises:
        InputError: the file cannot be read, or is too large.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: a space file may have at most {MAX_BYTES} bytes, got {path.stat().st_size}")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise InputError(f"cannot read space file {path}: {reason}; {known(others)}") from None


@lru_cache(maxsize=64)
def parse_space(text: str, origin: str) -> Space:
    """Read a space from YAML text. The same text gives the same object, which keeps its genes and its size.

    Args:
        text: text to read.
        origin: name of the file, for errors.

    Raises:
        InputError: as `load_space`.
    """
    return _SpaceReader(origin, text).space(compose(text, origin))


@dataclass
class _SpaceReader(Reader):
    text: str

    def space(self, root: Node) -> Space:
        top = self.top(root)
        for name in ("name", "resolution", "stages"):
            if name not in top:
                raise self.fault(root, f"a space needs {name}; {known(_TOP)}")
        if not isinstance(top["name"].scalar, str):
            raise self.fault(top["name"], f"name must be text, got {top['name']}")
        resolution = self.wholes(top["resolution"], "resolution", 8, MAX_RESOLUTION)
        width = self.numbers(top["width"], "width", 0.05, 16) if "width" in top else (1.0,)
        options = {name: self.number(top[name], name, 0, 1) for name in _ARCH_OPTIONS if name in top}
        space = Space(
            name=top["name"].scalar,
            stages=self.stages(top, width),
            resolution=resolution,
            width=width,
            arch_options=options,
            text=self.text,
        )
        if sum(max(stage.repeat) for stage in space.stages) > MAX_ROWS:
            raise self.fault(top["stages"], f"a network may have at most {MAX_ROWS} rows; lower a repeat")
        try:  # Arch has the rules between rows: one pool, linear rows after it
            space.realise(lambda gene: gene.options[0])
            space.realise(lambda gene: gene.options[-1])
        except InputError as error:
            raise self.fault(root, str(error)) from None
        return space

    def top(self, root: Node) -> dict[str, Node]:
        """The entries of the file, and of its base those that the file does not replace."""
        self.bound(root)
        own = self.mapping(root, _TOP, "a space")
        if "base" not in own:
            return own
        name = own["base"].scalar
        if name not in names(REFERENCES):
            raise self.fault(own["base"], f"base must be the name of a reference, got {own['base']}")
        path = spaces_root() / REFERENCES / f"{name}.yaml"
        base = Reader(str(path)).mapping(compose(read_text(path, []), str(path)), _TOP, "a space")
        if "base" in base:
            raise self.fault(own["base"], f"base must have its own table, but {name} has a base itself")
        base.pop("published", None)
        return base | own

    def cell(self, node: Node, name: str, extra: tuple[str, ...] = ()) -> Any:
        value = node.number if name in BOUNDS else node.scalar
        if name == "se" and value is False:  # YAML reads `off` as false
            value = 0
        if value in extra:
            return value
        try:
            return check_cell(name, value)
        except InputError as error:
            more = ", ".join(extra)
            raise self.fault(node, f"{error}{', ' + more if more else ''}") from None

    def stages(self, top: Mapping[str, Node], widths: tuple[float, ...]) -> tuple[Stage, ...]:
        rounding = self.one_of(top["rounding"], "rounding", ROUNDINGS) if "rounding" in top else ROUNDINGS[0]
        depth = self.numbers(top["depth"], "depth", 0.1, 16) if "depth" in top else (1.0,)
        if len(depth) > 1:
            raise self.fault(top["depth"], "depth must be one number; list the options of repeat instead")
        stages: list[Stage] = []
        for name, node in self._rows(top):
            stage = replace(self.stage(node, name, stages[-1] if stages else None), rounding=rounding)
            if name.startswith("s") and name != "stem":  # stem and head are not deepened (arXiv 1905.11946)
                stage = replace(stage, repeat=tuple(dict.fromkeys(math.ceil(depth[0] * n) for n in stage.repeat)))
            self._fits(stage, node, widths)
            stages.append(stage)
        if "head" not in top:
            stages.append(Stage("head", {"op": ("pool",)}))
        return tuple(stages)

    def _rows(self, top: Mapping[str, Node]) -> Iterator[tuple[str, Node]]:
        for part, prefix in (("stem", "stem"), ("stages", "s"), ("head", "head")):
            if part not in top:
                continue
            rows = top[part].items() if top[part].is_list else [top[part]]
            if len(rows) > MAX_ROWS:
                raise self.fault(top[part], f"{part} may have at most {MAX_ROWS} rows, got {len(rows)}")
            for at, row in enumerate(rows):
                alone = prefix == "stem" and len(rows) == 1
                yield (prefix if alone else f"{prefix}{at + 1}"), row

    def stage(self, node: Node, name: str, before: Stage | None) -> Stage:
        entries = self.mapping(node, _ROW, f"row {name}")
        repeat: tuple[int, ...] = (1,)
        if "repeat" in entries:
            repeat = self.wholes(entries["repeat"], "repeat", 0, 64)
            if max(repeat) == 0:
                raise self.fault(entries["repeat"], "repeat must allow at least one block, got 0; remove the row")
        cells: dict[str, tuple[Any, ...]] = {}
        channels_at = self.channels_at(entries["channels"]) if "channels" in entries else {}
        for cell in _CELLS:
            if cell == "channels" and channels_at:
                cells[cell] = (channels_at[1],)
            elif cell in entries:
                extra = ("skip",) if cell == "op" else ()
                values = [self.cell(item, cell, extra) for item in self.options(entries[cell], cell)]
                cells[cell] = self.unique(entries[cell], cell, values)
        choice = self.choice(entries["choice"], name) if "choice" in entries else {}
        stage = Stage(
            name=name,
            cells=cells,
            repeat=repeat,
            shared=self.shared(entries["shared"], cells) if "shared" in entries else frozenset(),
            choice=choice,
            scale=self.one_of(entries["scale"], "scale", SCALES) if "scale" in entries else "always",
            channels_at=channels_at,
        )
        self._complete(stage, node)
        return replace(stage, may_open_with_skip=_keeps_shape(stage, before))

    def choice(self, node: Node, name: str) -> dict[str, dict[str, Any]]:
        if not node.is_list:
            raise self.fault(node, f"choice must list whole rows, one of which may be skip, got {node}")
        rows: dict[str, dict[str, Any]] = {}
        for item in self.options(node, "choice"):
            if item.scalar == "skip":
                row = {"op": "skip"}
            else:
                entries = self.mapping(
                    item, tuple(c for c in _CELLS if c not in ("channels", "stride")), f"a choice of {name}"
                )
                row = {cell: self.cell(value, cell) for cell, value in entries.items()}
            label = " ".join(
                str(v) if k == "op" else f"{k}={v}" for k, v in sorted(row.items(), key=lambda kv: kv[0] != "op")
            )
            if label in rows:
                raise self.fault(item, f"choice lists {label!r} twice; options must differ")
            rows[label] = row
        return rows

    def shared(self, node: Node, cells: Mapping[str, Any]) -> frozenset[str]:
        shared = [item.scalar for item in self.options(node, "shared")]
        for name in shared:
            if name not in cells:
                raise self.fault(node, f"shared must name cells of its row, got {name!r}; {known(cells)}")
        return frozenset(shared)

    def channels_at(self, node: Node) -> dict[float, int]:
        """Channels by width multiplier, for families that state them: ``{0.5: 48, 1.0: 116}``."""
        if not node.is_mapping:
            return {}
        channels: dict[float, int] = {}
        for key, value in node.pairs():
            channels[self.number(key, "a width", 0.05, 16)] = self.cell(value, "channels")
        if 1 not in channels:
            raise self.fault(node, "channels by width must include width 1.0, from which other widths are scaled")
        return channels

    def one_of(self, node: Node, name: str, options: tuple[str, ...]) -> str:
        if node.scalar not in options:
            raise self.fault(node, f"unknown {name} {node}; {known(options)}")
        return str(node.scalar)

    def _fits(self, stage: Stage, node: Node, widths: tuple[float, ...]) -> None:
        """Check that every row the stage can produce keeps the rules of `nas.arch.block.Block`."""
        try:
            for _, _, settled in every(stage.settle):
                for width in widths:
                    for at in range(min(max(stage.repeat), 2)):  # all blocks after the first have the same options
                        for _ in every(lambda choose: stage.block(at, settled, width, choose)):  # noqa: B023
                            pass
        except InputError as error:
            raise self.fault(node, f"row {stage.name}: {error}") from None

    def _complete(self, stage: Stage, node: Node) -> None:
        """Check that the row has an op and channels, no cell that none of its ops uses, and not too many options."""
        combinations = math.prod(len(options) for options in stage.cells.values()) * max(1, len(stage.choice))
        if combinations > MAX_BLOCKS:
            raise self.fault(
                node, f"row {stage.name} may have at most {MAX_BLOCKS} combinations, got {combinations}; fix some cells"
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


def _keeps_shape(stage: Stage, before: Stage | None) -> bool:
    """Whether a stage keeps the size and, at any width, the channels of the stage before, which must not be empty."""
    if before is None or min(before.repeat) == 0:
        return False
    width = stage.cells.get("channels", ())
    alike = (stage.scale, stage.channels_at) == (before.scale, before.channels_at)
    return (
        alike and len(width) == 1 and before.cells.get("channels") == width and stage.cells.get("stride", (1,)) == (1,)
    )
