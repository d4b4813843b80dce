"""Display names of activations, operators and published networks."""

from __future__ import annotations

from collections.abc import Mapping

ACT_NAMES: Mapping[str, str] = {
    "none": "linear",
    "relu": "ReLU",
    "relu6": "ReLU6",
    "h_swish": "h-swish",
    "swish": "swish",
    "gelu": "GELU",
}
OP_NAMES: Mapping[str, str] = {
    "conv": "convolution",
    "dwsep": "depthwise separable",
    "spatial_sep": "spatially separable",
    "mbconv": "MBConv",
    "fused_mbconv": "fused MBConv",
    "uib": "universal inverted bottleneck",
    "shuffle_v1": "ShuffleNetV1 unit",
    "shuffle_v2": "ShuffleNetV2 unit",
    "max_pool": "max pooling",
    "linear": "fully connected",
}
NORM_NAMES: Mapping[str, str] = {"batch": "batch norm", "group": "group norm", "none": "no norm"}
REFERENCE_NAMES: Mapping[str, str] = {
    "mobilenet_v1": "MobileNetV1",
    "mobilenet_v2": "MobileNetV2",
    "mobilenet_v3_large": "MobileNetV3-Large",
    "mobilenet_v3_small": "MobileNetV3-Small",
    "mobilenet_v3_large_minimalistic": "MobileNetV3-Large minimalistic",
    "mobilenet_v3_small_minimalistic": "MobileNetV3-Small minimalistic",
    "mobilenet_v4_conv_small": "MobileNetV4-Conv-S",
    "mobilenet_v4_conv_medium": "MobileNetV4-Conv-M",
    "mnasnet_a1": "MnasNet-A1",
    "mnasnet_b1": "MnasNet-B1",
    "mnasnet_small": "MnasNet-Small",
    "fbnet_c": "FBNet-C",
    "proxylessnas_cpu": "ProxylessNAS-CPU",
    "proxylessnas_gpu": "ProxylessNAS-GPU",
    "proxylessnas_mobile": "ProxylessNAS-Mobile",
    "efficientnet_v2_s": "EfficientNetV2-S",
    **{f"efficientnet_b{size}": f"EfficientNet-B{size}" for size in range(8)},
    "shufflenet_v2": "ShuffleNetV2",
    **{f"shufflenet_v1_g{groups}": f"ShuffleNetV1 g={groups}" for groups in (1, 2, 3, 4, 8)},
}


def reference_name(name: str) -> str:
    """Spell a published network as its paper does; multipliers stay as given.

    >>> reference_name("mobilenet_v3_large@width=0.75")
    'MobileNetV3-Large width=0.75'
    """
    base, _, multipliers = name.partition("@")
    return f"{REFERENCE_NAMES.get(base, base)} {multipliers}".strip()
