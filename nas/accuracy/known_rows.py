"""Networks of the rows of published data sets, as `nas.accuracy.sources` reads them."""

from __future__ import annotations

import re
from dataclasses import replace

from nas.arch.arch import Arch
from nas.arch.block import Block
from nas.references.table import reference, reference_names
from nas.system.errors import InputError

Line = dict[str, str]  # cells by column
_B0_STAGES = ((16, 1), (24, 2), (40, 2), (80, 2), (112, 1), (192, 2), (320, 1))  # channels, stride
_V3_STAGES = (  # channels, stride, squeeze-and-excitation, activation
    (24, 2, 0.0, "relu"),
    (40, 2, 0.25, "relu"),
    (80, 2, 0.0, "h_swish"),
    (112, 1, 0.25, "h_swish"),
    (160, 2, 0.25, "h_swish"),
)
_FIRST_NUMBER = re.compile(r"\d+(?:\.\d+)?", re.ASCII)


def whole_cell(line: Line, name: str, low: int, high: int) -> int:
    """The whole number of a cell.

    Raises:
        InputError: the cell holds anything else, or a number out of bounds (both included).
    """
    text = line[name]
    if not re.fullmatch(r"\d{1,6}", text, re.ASCII) or not low <= int(text) <= high:
        raise InputError(f"{name} must be a whole number from {low} to {high}, got {text!r:.40}")
    return int(text)


def _first_number(text: str) -> str:
    """The first number of a cell such as ``71.878 (V1) / 72.154 (V2)``; a text without one as it is."""
    match = _FIRST_NUMBER.match(text)
    return match[0] if match else text


def imagenet_mbconv(line: Line) -> Arch:
    """A network of MnasNet's and EfficientNet-B0's macro-structure; dropout is unknown and left out."""
    rows = [Block("conv", channels=32, kernel=3, stride=2, act="swish")]
    for at, (channels, stride) in enumerate(_B0_STAGES):
        block = Block(
            "mbconv",
            channels=channels,
            kernel=whole_cell(line, f"block{at}_k", 1, 15),
            stride=stride,
            expand=whole_cell(line, f"block{at}_e", 1, 32),
            se=0.25 * whole_cell(line, f"block{at}_se", 0, 1),
            act="swish",
            se_base="input",
            se_gate="sigmoid",
        )
        rows += [block, *[replace(block, stride=1)] * (whole_cell(line, f"block{at}_l", 1, 8) - 1)]
    return Arch((*rows, Block("conv", channels=1280, act="swish"), Block("pool")), 224)


def ofa_mbv3(line: Line) -> Arch:
    """A sub-network of Once-for-all's MobileNetV3. Each stage has four slots, of which the first ones are used."""
    stem = Block("conv", channels=16, kernel=3, stride=2, act="h_swish")
    rows = [stem, Block("mbconv", channels=16, kernel=3, expand=1, act="relu")]
    for stage, (channels, stride, squeeze, act) in enumerate(_V3_STAGES):
        for at in range(whole_cell(line, f"d{stage}", 1, 4)):
            slot = 4 * stage + at
            kernel, expand = whole_cell(line, f"ks{slot}", 1, 15), whole_cell(line, f"e{slot}", 1, 32)
            first = stride if at == 0 else 1
            rows.append(
                Block("mbconv", channels=channels, kernel=kernel, stride=first, expand=expand, se=squeeze, act=act)
            )
    head = (Block("conv", channels=960, act="h_swish"), Block("pool"))
    last = Block("linear", channels=1280, act="h_swish", bias=False)
    return Arch((*rows, *head, last), whole_cell(line, "r", 8, 2048))


_NAMED = {  # rows of the published figures whose variant is neither a width nor a scaled EfficientNet
    ("efficientnet_v2", "s"): ("efficientnet_v2_s", None),
    ("fbnet", "C"): ("fbnet_c", None),
    ("mobilenet_v4", "conv_s"): ("mobilenet_v4_conv_small", None),
    ("mobilenet_v4", "conv_m"): ("mobilenet_v4_conv_medium", None),
    ("proxylessnas", "mobile (R)"): ("proxylessnas_mobile", None),
    ("proxylessnas", "mobile_14 (1.4x)"): ("proxylessnas_mobile", 1.4),
    ("proxylessnas", "cpu"): ("proxylessnas_cpu", None),
    ("proxylessnas", "gpu"): ("proxylessnas_gpu", None),
}


def published(line: Line) -> tuple[Arch, str] | None:
    """A reference; None for networks that are no reference, and for ShuffleNets, whose operators are others."""
    network, variant = line["network"], line["variant"]
    width: float | None = None
    if (network, variant) in _NAMED:
        name, width = _NAMED[network, variant]
    elif network == "efficientnet":
        name = f"{network}_{variant}"
    elif match := re.fullmatch(r"(minimalistic_)?(\d\.\d{1,3})", variant, re.ASCII):
        name, width = network + ("_minimalistic" if match[1] else ""), float(match[2])
    else:
        return None
    if name not in reference_names() or network.startswith("shufflenet"):
        return None
    family = re.sub(r"_(large|small|a1|b1)$", "", network)  # sizes and searches of one macro-structure
    return reference(name, width, whole_cell(line, "input", 8, 2048)), family


def published_top1(line: Line) -> str | None:
    order = ("top1_paper", "top1_released_ckpt", "top1_torchvision", "top1_timm")
    return next((_first_number(line[name]) for name in order if line.get(name)), None)
