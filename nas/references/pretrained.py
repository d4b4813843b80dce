"""Trained weights: from a file, or the published ones of torchvision and timm."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.arch.arch import Arch
from nas.references.download import MAX_BYTES, download, sha256_of
from nas.references.table import reference
from nas.system.errors import InputError
from nas.system.text import one_line

if TYPE_CHECKING:
    from torch import Tensor

LIBRARIES = ("torchvision", "timm")

_NESTED = ("state_dict_ema", "model_ema", "state_dict", "model")  # averaged weights first, as timm reads them
_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")


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
        sha256: SHA-256 of the file they were read from.
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
        return Pretrained(arch, read_state(weights), str(weights), sha256_of(Path(weights)))
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


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file or a PyTorch checkpoint (``.pt``, ``.pth``, ``.bin``).

    A checkpoint may hold its tensors under ``state_dict_ema``, ``model_ema``, ``state_dict`` or ``model``; the first of
    these is used. Nothing in a checkpoint is executed: it is read with ``weights_only=True``.

    Raises:
        InputError: the file does not exist, is too large, or has another format.
    """
    import torch

    path = Path(path)
    remedy = f"give a file ending in {', '.join(_SUFFIXES)}, or one of {', '.join(LIBRARIES)}"
    if path.suffix not in _SUFFIXES or not path.is_file():
        raise InputError(f"no weights at {str(path)!r:.200}; {remedy}")
    try:
        size = path.stat().st_size
        if size <= MAX_BYTES and path.suffix != ".safetensors" and zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:  # PyTorch does not compress, but another program may
                size = sum(entry.file_size for entry in archive.infolist())
        if size > MAX_BYTES:
            raise InputError(f"weights may have at most {MAX_BYTES >> 20} MiB, {path} has {size >> 20}")
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about files that torch did not write: they are read or refused
                content = torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except Exception as error:  # the readers raise types of their own, of pickle, zip and the system
        raise InputError(
            f"cannot read weights from {path} ({type(error).__name__}: {one_line(error, 160)}); {remedy}"
        ) from None
    if isinstance(content, dict):
        content = next((content[name] for name in _NESTED if isinstance(content.get(name), dict)), content)
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path} does not hold tensors by name; {remedy}")
    return dict(content)


def _torchvision_url(model: str) -> tuple[str, str]:
    from nas.system.compat import torchvision

    weights = torchvision().models.get_model_weights(model).DEFAULT
    return weights.url, f"torchvision's {model} ({weights.name})"


def _timm_url(model: str) -> tuple[str, str]:
    return f"https://huggingface.co/timm/{model}/resolve/main/model.safetensors", f"timm's {model}"
