"""The features of accuracy models in words, for people."""

from __future__ import annotations

from collections.abc import Sequence

PLACES = {
    "1": "1/2",
    "2": "1/4",
    "3": "1/8",
    "4a": "1/16",
    "4b": "1/16, wider",
    "5a": "1/32",
    "5b": "1/32, wider",
}
"""Size of the feature maps of each slot, as a share of the image's side."""
_PLAIN = {
    "n": "number of blocks",
    "e": "expansion",
    "e1": "blocks without expansion",
    "k5": "5×5 kernels",
    "k7": "kernels of 7×7 or larger",
    "se": "squeeze-and-excitation",
    "act": "h_swish, swish or gelu",
    "w": "channels",
    "params": "parameters",
    "macs": "MACs",
    "memory": "memory access",
    "side": "resolution",
    "depth": "number of blocks",
    "other": "operators other than depthwise separable and inverted residual blocks",
}
_MOST = 3  # places that are listed one by one


def in_words(name: str) -> str:
    """A feature in words; products are not for people and stay as they are.

    >>> in_words("1.k7"), in_words("4b.n>=2"), in_words("params")
    ('kernels of 7×7 or larger at 1/2', 'at least 2 blocks at 1/16, wider', 'parameters')
    """
    slot, _, plain = name.rpartition(".")
    return _what(plain) + (f" at {PLACES[slot]}" if slot in PLACES else "")


def listed(names: Sequence[str]) -> str:
    """Features in words, those of several places together.

    >>> listed(["2.e", "1.k7", "3.e", "4a.e", "5a.e", "side"])
    'expansion at 4 sizes of feature maps; kernels of 7×7 or larger at 1/2; resolution'
    >>> listed(["2.e", "4b.e"])
    'expansion at 1/4 and at 1/16, wider'
    """
    places: dict[str, list[str]] = {}
    for name in names:
        slot, _, plain = name.rpartition(".")
        places.setdefault(_what(plain), []).extend([PLACES[slot]] if slot in PLACES else [])
    texts = []
    for what, where in places.items():
        at = f" at {len(where)} sizes of feature maps" if len(where) > _MOST else ""
        texts.append(what + (at or "".join(f" and at {place}" for place in where).removeprefix(" and")))
    return "; ".join(texts)


def _what(plain: str) -> str:
    name, _, least = plain.partition(">=")
    return f"at least {least} block{'s' if least != '1' else ''}" if least else _PLAIN.get(name, plain)
