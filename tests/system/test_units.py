"""Units: every accepted form means the same, everything else is refused with the forms."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.system.errors import InputError
from nas.system.units import clock, milliseconds, seconds


@given(st.floats(1e-3, 1e6))
def test_all_forms_of_a_latency_agree(ms: float) -> None:
    forms = [ms, f"{ms!r}ms", f"{ms!r}", f"{ms * 1e3!r}us", f"{ms / 1e3!r} s"]
    assert all(math.isclose(milliseconds(form), ms, rel_tol=1e-9, abs_tol=1e-9) for form in forms)


@pytest.mark.parametrize(
    "text", ["fast", "", "0", "-5ms", "nan", "inf", "66 m", "66mss", "6 6", 0, -1.0, math.nan, math.inf, None, True]
)
def test_anything_else_is_refused_with_the_accepted_forms(text: object) -> None:
    with pytest.raises(InputError, match=r"accepted: 66ms, 66, 0\.066s, 66000us"):
        milliseconds(text)  # type: ignore[arg-type]


@pytest.mark.parametrize(("text", "expected"), [("10m", 600), ("1.5h", 5400), ("90", 90), ("90s", 90), (30, 30)])
def test_durations(text: str, expected: float) -> None:
    assert seconds(text) == expected


@given(st.floats(0, 3599))
def test_clock_keeps_minutes_and_seconds(duration: float) -> None:
    text = clock(duration)
    if text.endswith("min"):
        minutes, rest = text.split()[0].split(":")
        assert int(minutes) * 60 + int(rest) == round(duration)
