"""Colours, the same in HTML and PNG: hues after Okabe and Ito, which colour-blind readers can tell apart."""

from __future__ import annotations

from collections.abc import Mapping

INK = "#1f2933"
MUTED = "#5f6c7b"
FAINT = "#d5dbe1"
SHADE = "#f4f6f8"
PAPER = "#ffffff"
CANDIDATE = "#9aa5b1"
FRONT = "#0072b2"
REFERENCE = "#c4500a"  # vermillion, darkened so that text is legible on white
INFEASIBLE = "#f3eae4"
ERROR_OPACITY = 0.3  # of error bars, in the colour of their marks

# Light to dark, so that the order survives a grey printer.
ACTS: Mapping[str, str] = {
    "none": "#e6e9ed",
    "relu": "#a9d4f0",
    "relu6": "#7fb5dc",
    "h_swish": "#e69f00",
    "swish": "#8c3b74",
    "gelu": "#2a7f62",
}
DARK_ACTS = frozenset({"swish", "gelu"})
