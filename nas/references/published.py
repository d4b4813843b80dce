"""Published figures of the references: parameters, MACs, top-1 and latency on phones, each with its source.

They are under ``published:`` in each ``search_spaces/reference/*.yaml``; those of libraries' networks are in
``search_spaces/published/libraries.yaml``. ``left_out.yaml`` next to it lists networks that cannot be built, and why.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from nas.arch.arch import MAX_RESOLUTION, Arch
from nas.arch.space_yaml import REFERENCES, read_text, space_path, spaces_root
from nas.arch.yaml_nodes import Node, Reader, compose
from nas.references.table import reference

UNKNOWN = "cause unknown"  # the words for a difference that nobody can explain
TOLERANCE = 0.005  # a larger relative difference between a published and a counted figure needs an explanation
MAX_ENTRIES = 200
MAX_LATENCIES = 64
MAX_LABELS = 16
_ENTRY = ("width", "resolution", "params_m", "macs_m", "top1", "latency", "source", "differs")
_LATENCY = ("device", "ms", "source")
_PRINTED = re.compile(r"\+?(\d+)(?:\.(\d+))?(?:[eE]([-+]?\d))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Figure:
    """A number as it was printed. Its last digit shows how it was rounded.

    Args:
        value: value of the number.
        slack: half a unit of its last printed digit: 3.4 may be anything from 3.35 to 3.45.
        text: text of the number, without exponent.
    """

    value: float
    slack: float
    text: str

    @staticmethod
    def of(text: str) -> Figure | None:
        """Read a number with an optional point and exponent; None if `text` is anything else. Without a point all
        digits are significant, so a rounded 4.2 billion is written as ``4.2e+3`` million.

        >>> Figure.of("3.4").slack, Figure.of("300").slack, Figure.of("4.2e+3").slack
        (0.05, 0.5, 50.0)
        """
        match = _PRINTED.fullmatch(text)
        if match is None or len(text) > 20:
            return None
        value, last = float(text), int(match[3] or 0) - len(match[2] or "")
        return Figure(value, 0.5 * 10.0**last, f"{value:.{max(0, -last)}f}" if match[3] else text)

    def difference(self, counted: float) -> float:
        """How far `counted` is from the numbers that round to this figure, relative to its value: 0.0 if it is one of
        them, positive above, negative below.

        >>> round(Figure.of("3.4").difference(3.5), 4), Figure.of("3.4").difference(3.44)
        (0.0147, 0.0)
        """
        low, high = self.value - self.slack, self.value + self.slack
        beyond = counted - high if counted > high else min(counted - low, 0.0)
        return beyond / self.value


@dataclass(frozen=True, slots=True)
class PhoneLatency:
    """A published latency with its source, since sources give different figures for the same network.

    Args:
        device: name of the device in the source.
        ms: milliseconds for one image, unless `device` says otherwise.
        source: publication and its version.
    """

    device: str
    ms: float
    source: str


@dataclass(frozen=True, slots=True)
class Difference:
    """A published figure that differs from what we count.

    Args:
        quantity: ``params`` or ``macs``.
        published: published figure in millions.
        counted: counted figure in millions.
        relative: counted divided by published, minus 1.
        source: source of the published figure.
        explanation: reason for the difference, or `UNKNOWN`; None if none is given.
    """

    quantity: str
    published: Figure
    counted: float
    relative: float
    source: str
    explanation: str | None

    @property
    def unknown(self) -> bool:
        """Whether the reason is unknown."""
        return self.explanation is None or UNKNOWN in self.explanation


@dataclass(frozen=True, slots=True)
class Published:
    """The figures of one source for one size of a network.

    Args:
        width: width multiplier; None for the network's own.
        resolution: side of the input in pixels; None for the network's own.
        params_m: millions of parameters.
        macs_m: millions of multiply-accumulates.
        top1: ImageNet top-1 accuracy in percent by publisher: ``paper``, ``torchvision V2``, ``timm``.
        latency: latencies on phones and other devices.
        source: source of parameters, MACs and top-1.
        differs: reason why parameters or MACs differ by more than `TOLERANCE` from what we count; None if they do not.
    """

    width: float | None
    resolution: int | None
    params_m: Figure | None
    macs_m: Figure | None
    top1: dict[str, float]
    latency: tuple[PhoneLatency, ...]
    source: str
    differs: str | None

    def differences(self, params: int, macs: int) -> tuple[Difference, ...]:
        """The figures that differ from the counted ones by more than `TOLERANCE`."""
        differences = []
        for quantity, figure, counted in (("params", self.params_m, params), ("macs", self.macs_m, macs)):
            if figure is not None and abs(figure.difference(counted / 1e6)) > TOLERANCE:
                relative = counted / 1e6 / figure.value - 1
                differences.append(Difference(quantity, figure, counted / 1e6, relative, self.source, self.differs))
        return tuple(differences)


def published(name: str) -> tuple[Published, ...]:
    """The published figures of a network in all sizes, in the order in which they are to be shown.

    Args:
        name: name or ``.yaml`` file of a reference, without multipliers; or ``torchvision:NAME``, ``timm:NAME``.

    Raises:
        InputError: no reference has this name, or an entry breaks a rule (file, line, rule, value).
    """
    if ":" in name and not name.endswith((".yaml", ".yml")):
        return _libraries().get(name, ())
    path = space_path(name, REFERENCES)
    reader = _PublishedReader(str(path))
    section = reader.sections(read_text(path, [])).get("published")
    return () if section is None else reader.entries(section)


def published_top1(name: str, arch: Arch) -> dict[str, float]:
    """Published ImageNet top-1 of the reference `name` at the width and resolution of `arch`, in percent by publisher:
    the paper first.

    Raises:
        InputError: as `published`.
    """
    figures: dict[str, float] = {}
    for entry in published(name):
        if entry.top1 and reference(name, entry.width, entry.resolution) == arch:
            figures = entry.top1 | figures  # the first source of a publisher counts
    return dict(sorted(figures.items(), key=lambda figure: figure[0] != "paper"))


def published_libraries() -> list[str]:
    """Names of the libraries' networks with published figures, e.g. ``torchvision:vgg16``."""
    return list(_libraries())


def left_out() -> dict[str, str]:
    """Well-known networks that cannot be built, and why."""
    path = spaces_root() / "published" / "left_out.yaml"
    reader = _PublishedReader(str(path))
    return {name: reader.text(node, name, 400) for name, node in reader.sections(read_text(path, [])).items()}


def _libraries() -> dict[str, tuple[Published, ...]]:
    path = spaces_root() / "published" / "libraries.yaml"
    reader = _PublishedReader(str(path))
    return {name: reader.entries(node) for name, node in reader.sections(read_text(path, [])).items()}


class _PublishedReader(Reader):
    def sections(self, text: str) -> dict[str, Node]:
        root = compose(text, self.origin)
        self.bound(root)
        if not root.is_mapping:
            raise self.fault(root, f"the file must be a mapping, got {root}")
        return {str(key.scalar): value for key, value in root.pairs()}

    def entries(self, node: Node) -> tuple[Published, ...]:
        if not node.is_list or len(node.items()) > MAX_ENTRIES:
            raise self.fault(node, f"published must be a list of at most {MAX_ENTRIES} entries, got {node}")
        return tuple(self.entry(item) for item in node.items())

    def entry(self, node: Node) -> Published:
        given = self.mapping(node, _ENTRY, "a published entry")
        if "source" not in given:
            raise self.fault(node, "a published entry needs its source")
        width = float(self.number(given["width"], "width", 0.05, 16)) if "width" in given else None
        side = self.whole(given["resolution"], "resolution", 8, MAX_RESOLUTION) if "resolution" in given else None
        entry = Published(
            width=width,
            resolution=side,
            params_m=self.figure(given["params_m"], "params_m") if "params_m" in given else None,
            macs_m=self.figure(given["macs_m"], "macs_m") if "macs_m" in given else None,
            top1=self.top1(given["top1"]) if "top1" in given else {},
            latency=self.latencies(given["latency"]) if "latency" in given else (),
            source=self.text(given["source"], "source"),
            differs=self.text(given["differs"], "differs", 400) if "differs" in given else None,
        )
        if not (entry.params_m or entry.macs_m or entry.top1 or entry.latency):
            raise self.fault(node, f"a published entry needs params_m, macs_m, top1 or latency, got {node!s:.60}")
        return entry

    def top1(self, node: Node) -> dict[str, float]:
        if not node.is_mapping or len(node.pairs()) > MAX_LABELS:
            raise self.fault(node, f"top1 must map at most {MAX_LABELS} sources to figures, got {node}")
        labels = [self.text(key, "the source of a top-1", 40) for key, _ in node.pairs()]
        self.unique(node, "top1", labels)
        values = [float(self.number(value, "top1", 0, 100)) for _, value in node.pairs()]
        return dict(zip(labels, values, strict=True))

    def latencies(self, node: Node) -> tuple[PhoneLatency, ...]:
        if not node.is_list or len(node.items()) > MAX_LATENCIES:
            raise self.fault(node, f"latency must list at most {MAX_LATENCIES} figures, got {node}")
        return tuple(self.latency(item) for item in node.items())

    def latency(self, node: Node) -> PhoneLatency:
        given = self.mapping(node, _LATENCY, "a published latency")
        for name in _LATENCY:
            if name not in given:
                raise self.fault(node, f"a published latency needs its {name}")
        ms = float(self.number(given["ms"], "ms", 1e-3, 1e6))
        return PhoneLatency(self.text(given["device"], "device", 60), ms, self.text(given["source"], "source"))

    def figure(self, node: Node, name: str) -> Figure:
        # The text itself: as a number, 3.40 would lose its last zero.
        figure = None if node.is_list or node.is_mapping or node.node is None else Figure.of(str(node.node.value))
        if figure is None or not 1e-3 <= figure.value <= 1e7:
            raise self.fault(node, f"{name} must be in millions, as printed, such as 3.4 or 4.2e+3, got {node}")
        return figure

    def text(self, node: Node, name: str, most: int = 200) -> str:
        value = node.scalar
        if not isinstance(value, str) or not 1 <= len(value) <= most or not value.isprintable():
            raise self.fault(node, f"{name} must be one line of 1 to {most} characters, got {node!s:.60}")
        return value
