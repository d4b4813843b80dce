"""Colours and names, the same in HTML and PNG. Hues after Okabe and Ito, told apart by the colour-blind and in grey."""

from __future__ import annotations

from collections.abc import Mapping

INK = "#1f2933"
MUTED = "#5f6c7b"
FAINT = "#d5dbe1"
SHADE = "#f4f6f8"
PAPER = "#ffffff"
CANDIDATE = "#9aa5b1"
FRONT = "#0072b2"
REFERENCE = "#c4500a"  # vermillion, a little darker so that its text is legible on white
INFEASIBLE = "#f3eae4"

# Light to dark, so that the order survives a grey printer: linear, the two ReLUs, the two swishes.
ACTS: Mapping[str, str] = {
    "none": "#e6e9ed",
    "relu": "#a9d4f0",
    "relu6": "#7fb5dc",
    "h_swish": "#e69f00",
    "swish": "#8c3b74",
}
ACT_NAMES: Mapping[str, str] = {
    "none": "linear",
    "relu": "ReLU",
    "relu6": "ReLU6",
    "h_swish": "h-swish",
    "swish": "swish",
}
DARK_ACTS = frozenset({"swish"})

REFERENCE_NAMES: Mapping[str, str] = {
    "mobilenet_v2": "MobileNetV2",
    "mobilenet_v3_large": "MobileNetV3-Large",
    "mobilenet_v3_small": "MobileNetV3-Small",
    "efficientnet_b0": "EfficientNet-B0",
}


def reference_name(name: str) -> str:
    """The paper's spelling; multipliers stay as they were given.

    >>> reference_name("mobilenet_v3_large@width=0.75")
    'MobileNetV3-Large width=0.75'
    """
    base, _, multipliers = name.partition("@")
    return f"{REFERENCE_NAMES.get(base, base)} {multipliers}".strip()
