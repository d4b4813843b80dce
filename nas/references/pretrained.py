"""Trained weights: from a file, or the published ones of torchvision and timm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nas.arch.arch import Arch
from nas.references.checkpoint import read_checkpoint
from nas.references.checkpoint import read_state as read_state
from nas.references.download import download, sha256_of
from nas.references.table import reference
from nas.system.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

LIBRARIES = ("torchvision", "timm")


@dataclass(frozen=True, slots=True)
class Twin:
    """A network of a library that computes what a reference computes.

    Args:
        model: name in the library; for timm with the tag of its weights.
        bn_eps: epsilon of its norms; None for the reference's.
        act: activation in place of the reference's ReLU; None for ReLU.
        normalisation: how its images are scaled, one of `nas.data.pixels.NORMALISATIONS`.
    """

    model: str
    bn_eps: float | None = None
    act: str | None = None
    normalisation: str = "imagenet"

    def as_trained(self, arch: Arch) -> Arch:
        """The reference with the twin's epsilon and activation."""
        rows = arch.rows
        if self.act:
            rows = tuple(replace(row, act=self.act) if row.act == "relu" else row for row in rows)
        return replace(arch, rows=rows, bn_eps=arch.bn_eps if self.bn_eps is None else self.bn_eps)


# The tests compare each line with its library, with random weights. Left out: timm's tf_ models, which pad on one side
# only, as TensorFlow does; mobilenetv3_small_050 and the thin MobileNetV4s, whose stem is not scaled.
TORCHVISION: Mapping[str, Twin] = {
    "mobilenet_v2": Twin("mobilenet_v2"),
    "mobilenet_v3_large": Twin("mobilenet_v3_large"),
    "mobilenet_v3_small": Twin("mobilenet_v3_small"),
    "mnasnet_b1@width=0.5": Twin("mnasnet0_5"),
    "mnasnet_b1@width=0.75": Twin("mnasnet0_75"),
    "mnasnet_b1": Twin("mnasnet1_0"),
    "mnasnet_b1@width=1.3": Twin("mnasnet1_3"),
    **{f"efficientnet_b{size}": Twin(f"efficientnet_b{size}") for size in range(8)},
    "efficientnet_v2_s": Twin("efficientnet_v2_s"),
    "shufflenet_v2@width=0.5": Twin("shufflenet_v2_x0_5"),
    "shufflenet_v2": Twin("shufflenet_v2_x1_0"),
    "shufflenet_v2@width=1.5": Twin("shufflenet_v2_x1_5"),
    "shufflenet_v2@width=2": Twin("shufflenet_v2_x2_0"),
}
TIMM: Mapping[str, Twin] = {
    "mobilenet_v1": Twin("mobilenetv1_100.ra4_e3600_r224_in1k", act="relu6", normalisation="half"),
    "mobilenet_v2@width=0.5": Twin("mobilenetv2_050.lamb_in1k"),
    "mobilenet_v2": Twin("mobilenetv2_100.ra_in1k"),
    "mobilenet_v2@width=1.4": Twin("mobilenetv2_140.ra_in1k"),
    "mobilenet_v3_large": Twin("mobilenetv3_large_100.ra_in1k", bn_eps=1e-5),
    "mobilenet_v3_small": Twin("mobilenetv3_small_100.lamb_in1k", bn_eps=1e-5),
    "mobilenet_v3_small@width=0.75": Twin("mobilenetv3_small_075.lamb_in1k", bn_eps=1e-5),
    "mnasnet_a1": Twin("semnasnet_100.rmsp_in1k", bn_eps=1e-5),
    "mnasnet_a1@width=0.75": Twin("semnasnet_075.rmsp_in1k", bn_eps=1e-5),
    "mnasnet_b1": Twin("mnasnet_100.rmsp_in1k"),
    "mnasnet_small": Twin("mnasnet_small.lamb_in1k", bn_eps=1e-5),
    "fbnet_c": Twin("fbnetc_100.rmsp_in1k"),
    "efficientnet_b0": Twin("efficientnet_b0.ra_in1k"),
    "efficientnet_b1": Twin("efficientnet_b1.ft_in1k"),
    "efficientnet_b2": Twin("efficientnet_b2.ra_in1k"),
    "efficientnet_b3": Twin("efficientnet_b3.ra2_in1k"),
    "efficientnet_b4": Twin("efficientnet_b4.ra2_in1k"),
    "mobilenet_v4_conv_small": Twin("mobilenetv4_conv_small.e2400_r224_in1k"),
    "mobilenet_v4_conv_medium": Twin("mobilenetv4_conv_medium.e500_r256_in1k"),
}


@dataclass(frozen=True, slots=True)
class Pretrained:
    """Trained weights for a network.

    Args:
        arch: network as these weights were trained, with their epsilon and activation.
        state_dict: tensors by name, for `nas.load_weights`.
        source: description of their origin.
        sha256: SHA-256 of the file they were read from; for shards, of the index and its shards one after the other.
        normalisation: how the images they were trained on were scaled; for a file, ImageNet's is assumed.
    """

    arch: Arch
    state_dict: Mapping[str, Tensor]
    source: str
    sha256: str
    normalisation: str = "imagenet"


def find_weights(arch: Arch, weights: str | Path) -> Pretrained:
    """The weights of a file, or published weights of a library, which are downloaded once.

    Args:
        arch: network to find weights for; its resolution does not matter.
        weights: ``torchvision``, ``timm``, or a path as `read_state` takes it.

    Raises:
        InputError: the library has no weights for this network, or the file cannot be read.
        NasError: the weights could not be downloaded.
    """
    if str(weights) not in LIBRARIES:
        found = read_checkpoint(weights)
        source = f"{weights} ({found.note})" if found.note else str(weights)
        return Pretrained(arch, found.tensors, source, sha256_of(*found.files))
    library = str(weights)
    twin = twin_of(arch, library)
    url, what = _torchvision_url(twin.model) if library == "torchvision" else _timm_url(twin.model)
    file = download(url)
    return Pretrained(twin.as_trained(arch), read_state(file.path), what, file.sha256, twin.normalisation)


def twin_of(arch: Arch, library: str) -> Twin:
    """The network of a library that equals `arch`, at any resolution.

    Raises:
        InputError: the library has none. The text lists the networks it has.
    """
    table = TORCHVISION if library == "torchvision" else TIMM
    for name, twin in table.items():
        if reference(name, resolution=arch.resolution) == arch:
            return twin
    raise InputError(f"{library} has no weights for this network; it has them for {', '.join(table)}")


def _torchvision_url(model: str) -> tuple[str, str]:
    from nas.system.compat import torchvision

    weights = torchvision().models.get_model_weights(model).DEFAULT
    return weights.url, f"torchvision's {model} ({weights.name})"


def _timm_url(model: str) -> tuple[str, str]:
    return f"https://huggingface.co/timm/{model}/resolve/main/model.safetensors", f"timm's {model}"
