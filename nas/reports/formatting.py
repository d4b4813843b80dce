"""Numbers and phrases as text, one way for every page."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from nas.engine.run.record import Candidate
from nas.latency.record import Latency

NONE = "–"
_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
_UNIT = re.compile(r"(?<=\d) (?=%|(?:ms|px|points?|M|MB)\b|× 10)")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]|#~])")


@dataclass(frozen=True, slots=True)
class Score:
    """Name and format of the score of a run.

    Args:
        percent: whether it is an accuracy 0..1, shown in percent; otherwise it is any real number from the caller's own
            function.
        task: what an estimated accuracy is of; empty if scores are observed.
        proxy: whether it is the accuracy after the short training of a search.
    """

    percent: bool
    task: str = ""
    proxy: bool = True

    @property
    def name(self) -> str:
        if not self.percent:
            return "score"
        return f"{'estimated ' if self.task else ''}{'proxy ' if self.proxy else ''}accuracy"

    @property
    def title(self) -> str:
        """The name, with what an estimate is of, as a heading."""
        return self.name.capitalize() + (f" ({self.task})" if self.task else "")

    def shown(self, value: float) -> float:
        """`value` as the axis of a plot shows it."""
        return 100 * value if self.percent else value

    def text(self, value: float | None, sd: float | None = None) -> str:
        if value is None:
            return NONE
        if not self.percent:
            return f"{value:.4g}".replace("-", "−")
        spread = "" if sd is None else f" ± {100 * sd:.1f}"
        return f"{100 * value:.1f}{spread} %".replace("-", "−")

    def of(self, candidate: Candidate) -> str:
        """The score of a network, an estimate with its standard deviation."""
        return self.text(candidate.score, None if candidate.estimate is None else candidate.estimate.sd)

    def with_name(self, candidate: Candidate) -> str:
        """The score of a network and its name, for a heading."""
        text = self.of(candidate)
        return f"{text} {self.name}" if self.percent else f"{self.name.capitalize()} {text}"

    def difference(self, value: float) -> str:
        return signed(f"{100 * value:+.1f} points" if self.percent else f"{value:+.3g}")

    def distance(self, value: float) -> str:
        """A difference without its sign."""
        return f"{100 * value:.1f} points" if self.percent else f"{value:.3g}"


def signed(text: str) -> str:
    """Use a true minus sign, and no sign before zero.

    >>> signed("-1.5 %"), signed("-0.0 %")
    ('−1.5 %', '0.0 %')
    """
    sign, digits = text[0], text[1:].split()[0]
    return text[1:] if float(digits) == 0 else text.replace("-", "−") if sign == "-" else text


def ms(value: float) -> str:
    """Milliseconds without the unit, to about three digits.

    >>> ms(0.0123), ms(5.4321), ms(66.04), ms(123.4)
    ('0.0123', '5.43', '66.0', '123')
    """
    if value < 1:
        return f"{value:.3g}"
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def measured_ms(latency: Latency) -> str:
    """A measured latency, with the bound for further measurements if there is one: ``5.43 (≤ 5.52)``."""
    return ms(latency.ms) + ("" if latency.holds_ms is None else f" (≤ {ms(latency.holds_ms)})")


def target(value: float) -> str:
    """A latency target as the user gave it, without needless digits.

    >>> target(66.0), target(7.25)
    ('66 ms', '7.25 ms')
    """
    return f"{value:.6g} ms"


def millions(value: float) -> str:
    """
    >>> millions(5_483_032), millions(219_000_000), millions(950)
    ('5.48 M', '219 M', '950')
    """
    if value < 10_000:
        return f"{value:.0f}"
    scaled = value / 1e6
    return f"{scaled:.0f} M" if scaled >= 99.5 else f"{scaled:.1f} M" if scaled >= 9.95 else f"{scaled:.2f} M"


def megabytes(value: float) -> str:
    """
    >>> megabytes(41_234_567)
    '41.2 MB'
    """
    return f"{value / 1e6:.1f} MB"


def percent(value: float | None, digits: int = 0) -> str:
    """A share 0..1 in percent."""
    return NONE if value is None else f"{100 * value:.{digits}f} %"


def chance(value: float | None) -> str:
    """A probability; never certain.

    >>> chance(0.934), chance(0.999), chance(0.001)
    ('0.93', '> 0.99', '< 0.01')
    """
    if value is None:
        return NONE
    return "> 0.99" if value > 0.99 else "< 0.01" if value < 0.01 else f"{value:.2f}"


def relative(value: float | None) -> str:
    """A relative error in percent, with its sign."""
    return NONE if value is None else signed(f"{100 * value:+.1f} %")


def large_number(value: int) -> str:
    """A count that may have dozens of digits.

    >>> large_number(1200), large_number(13_200_000_000_000)
    ('1,200', '1.3 × 10¹³')
    """
    if value < 10_000_000:
        return f"{value:,}"
    power = len(str(value)) - 1
    mantissa = value / 10**power
    return f"{mantissa:.1f} × 10{str(power).translate(_SUPERSCRIPT)}"


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """
    >>> counted(1, "network"), counted(3, "network")
    ('1 network', '3 networks')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def is_or_are(number: int) -> str:
    """The verb after a count."""
    return "is" if number == 1 else "are"


def and_list(items: Iterable[str]) -> str:
    """
    >>> and_list(["a", "b", "c"])
    'a, b and c'
    """
    *first, last = list(items) or [""]
    return f"{', '.join(first)} and {last}" if first else last


def date_time(iso: str) -> str:
    """A time in ISO 8601, for people.

    >>> date_time("2026-11-26T05:56:24+00:00")
    '2026-11-26 05:56:24 UTC'
    """
    return iso.replace("T", " ").replace("+00:00", " UTC")


def conditions(latency: Latency) -> str:
    """Where a latency holds: device, runtime, threads, batch."""
    parts = [latency.device, latency.runtime or "runtime unknown"]
    parts.append(counted(latency.threads, "thread") if latency.threads else "threads unknown")
    return ", ".join([*parts, f"batch {latency.batch}"])


def standard_error(share: float, count: int) -> float:
    """Standard error of a share (0..1) of `count` held-out images: binomial, by Agresti and Coull, never zero."""
    adjusted = (share * count + 2) / (count + 4)
    return math.sqrt(adjusted * (1 - adjusted) / (count + 4))


def escape_html(text: object) -> str:
    """Plain text for HTML, also inside attributes. A number and its unit stay on one line."""
    return html.escape(_UNIT.sub("\u00a0", str(text)), quote=True)


def escape_markdown(text: object) -> str:
    """Plain text for one line of Markdown: it cannot turn into HTML, a table or emphasis."""
    flat = " ".join(str(text).split())
    return _MARKDOWN.sub(r"\\\1", flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))
