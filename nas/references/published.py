"""What others publish for the fixed builds: parameters, MACs, top-1, latency on phones, each with its source.

It stands under ``published:`` in each ``search_spaces/reference/*.yaml``, and for the networks of libraries in
``search_spaces/published/libraries.yaml``. ``left_out.yaml`` beside it names networks that cannot be built, and why.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from nas.arch.arch import MAX_RESOLUTION
from nas.arch.space_yaml import REFERENCES, read_text, space_path, spaces_root
from nas.arch.yaml_nodes import Node, Reader, compose

UNKNOWN = "cause unknown"  # says an explanation of a difference that nobody can explain
TOLERANCE = 0.005  # a larger difference between a published and a counted figure wants an explanation
MAX_ENTRIES = 200
MAX_LATENCIES = 64
MAX_LABELS = 16
_ENTRY = ("width", "resolution", "params_m", "macs_m", "top1", "latency", "source", "differs")
_LATENCY = ("device", "ms", "source")
_PRINTED = re.compile(r"\+?(\d+)(?:\.(\d+))?(?:[eE]([-+]?\d))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Figure:
    """A number as it was printed; its last digit tells how far it was rounded.

    Args:
        value: the number.
        slack: half a unit of its last printed digit: 3.4 stands for anything from 3.35 to 3.45.
        text: as printed.
    """

    value: float
    slack: float
    text: str

    @staticmethod
    def of(text: str) -> Figure | None:
        """Read digits, a point, an exponent; None if it is anything else. Without a point all digits count, so a
        rounded 4.2 billion is written ``4.2e+3`` where the unit is a million.

        >>> Figure.of("3.4").slack, Figure.of("300").slack, Figure.of("4.2e+3").slack
        (0.05, 0.5, 50.0)
        """
        found = _PRINTED.fullmatch(text)
        if found is None or len(text) > 20:
            return None
        value, last = float(text), int(found[3] or 0) - len(found[2] or "")
        return Figure(value, 0.5 * 10.0**last, f"{value:.{max(0, -last)}f}" if found[3] else text)

    def difference(self, counted: float) -> float:
        """How far `counted` lies beyond what the printed digits allow, relative to the value; 0.0 within, else signed.

        >>> round(Figure.of("3.4").difference(3.5), 4), Figure.of("3.4").difference(3.44)
        (0.0147, 0.0)
        """
        low, high = self.value - self.slack, self.value + self.slack
        beyond = counted - high if counted > high else min(counted - low, 0.0)
        return beyond / self.value


@dataclass(frozen=True, slots=True)
class PhoneLatency:
    """A published latency; never without its source, since the same network bears different figures in different ones.

    Args:
        device: as the source names it.
        ms: milliseconds, for one image unless `device` says otherwise.
        source: where it stands, with the version.
    """

    device: str
    ms: float
    source: str


@dataclass(frozen=True, slots=True)
class Difference:
    """A published figure that is not ours.

    Args:
        quantity: ``params`` or ``macs``.
        published: in millions.
        counted: in millions.
        relative: counted to published, minus 1.
        source: of the published figure.
        explanation: why, or that the `UNKNOWN` cause has not been found; None if nobody has told.
    """

    quantity: str
    published: Figure
    counted: float
    relative: float
    source: str
    explanation: str | None

    @property
    def unknown(self) -> bool:
        """Nobody knows why."""
        return self.explanation is None or UNKNOWN in self.explanation


@dataclass(frozen=True, slots=True)
class Published:
    """The figures of one source for one size of a network.

    Args:
        width: multiplier; None is the network's own.
        resolution: input side in pixels; None is the network's own.
        params_m: millions of parameters.
        macs_m: millions of multiply-accumulates.
        top1: ImageNet top-1 in percent by who states it: ``paper``, ``torchvision V2``, ``timm``.
        latency: on phones and other devices.
        source: of params, MACs and top-1.
        differs: why params or MACs are not ours, where they differ by more than 0.5 % beyond their printed digits.
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
        """The figures that differ from what was counted by more than `TOLERANCE`."""
        found = []
        for quantity, figure, counted in (("params", self.params_m, params), ("macs", self.macs_m, macs)):
            if figure is not None and abs(figure.difference(counted / 1e6)) > TOLERANCE:
                relative = counted / 1e6 / figure.value - 1
                told = self.differs
                found.append(Difference(quantity, figure, counted / 1e6, relative, self.source, told))
        return tuple(found)


def published(name: str) -> tuple[Published, ...]:
    """What is published for a network, all its sizes, the entry to be shown first standing first.

    Args:
        name: a reference or a path to the ``.yaml`` file of one, without multipliers; or ``torchvision:NAME``,
            ``timm:NAME``.

    Raises:
        InputError: no reference has this name, or an entry breaks a rule (file, line, rule, value).
    """
    if ":" in name and not name.endswith((".yaml", ".yml")):
        return _libraries().get(name, ())
    path = space_path(name, REFERENCES)
    reader = _PublishedReader(str(path))
    section = reader.sections(read_text(path, [])).get("published")
    return () if section is None else reader.entries(section)


def published_libraries() -> list[str]:
    """The networks of libraries something is published for, as ``torchvision:vgg16``."""
    return list(_libraries())


def left_out() -> dict[str, str]:
    """Networks a reader will look for that cannot be built, and why."""
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
        found = self.mapping(node, _ENTRY, "a published entry")
        if "source" not in found:
            raise self.fault(node, "a published entry needs its source")
        width = float(self.number(found["width"], "width", 0.05, 16)) if "width" in found else None
        side = self.whole(found["resolution"], "resolution", 8, MAX_RESOLUTION) if "resolution" in found else None
        entry = Published(
            width=width,
            resolution=side,
            params_m=self.figure(found["params_m"], "params_m") if "params_m" in found else None,
            macs_m=self.figure(found["macs_m"], "macs_m") if "macs_m" in found else None,
            top1=self.top1(found["top1"]) if "top1" in found else {},
            latency=self.latencies(found["latency"]) if "latency" in found else (),
            source=self.text(found["source"], "source"),
            differs=self.text(found["differs"], "differs", 400) if "differs" in found else None,
        )
        if not (entry.params_m or entry.macs_m or entry.top1 or entry.latency):
            raise self.fault(node, f"a published entry needs params_m, macs_m, top1 or latency, got {node!s:.60}")
        return entry

    def top1(self, node: Node) -> dict[str, float]:
        if not node.is_mapping or len(node.pairs()) > MAX_LABELS:
            raise self.fault(node, f"top1 is a mapping of at most {MAX_LABELS} figures by their source, got {node}")
        labels = [self.text(key, "the source of a top-1", 40) for key, _ in node.pairs()]
        self.unique(node, "top1", labels)
        values = [float(self.number(value, "top1", 0, 100)) for _, value in node.pairs()]
        return dict(zip(labels, values, strict=True))

    def latencies(self, node: Node) -> tuple[PhoneLatency, ...]:
        if not node.is_list or len(node.items()) > MAX_LATENCIES:
            raise self.fault(node, f"latency lists at most {MAX_LATENCIES} figures, got {node}")
        return tuple(self.latency(item) for item in node.items())

    def latency(self, node: Node) -> PhoneLatency:
        found = self.mapping(node, _LATENCY, "a published latency")
        for name in _LATENCY:
            if name not in found:
                raise self.fault(node, f"a published latency needs its {name}")
        ms = float(self.number(found["ms"], "ms", 1e-3, 1e6))
        return PhoneLatency(self.text(found["device"], "device", 60), ms, self.text(found["source"], "source"))

    def figure(self, node: Node, name: str) -> Figure:
        # The text itself: YAML drops the last zero of 3.40 and takes 2e+2 for a word.
        figure = None if node.is_list or node.is_mapping or node.node is None else Figure.of(str(node.node.value))
        if figure is None or not 1e-3 <= figure.value <= 1e7:
            raise self.fault(node, f"{name} must be millions as printed, such as 3.4 or 4.2e+3, got {node}")
        return figure

    def text(self, node: Node, name: str, most: int = 200) -> str:
        value = node.scalar
        if not isinstance(value, str) or not 1 <= len(value) <= most or not value.isprintable():
            raise self.fault(node, f"{name} must be a text of 1 to {most} characters on one line, got {node!s:.60}")
        return value
