"""The closed form of file sizes against files that are really written."""

import numpy as np
import pytest

from nas.arch.arch import Arch
from nas.arch.file_size import file_sizes
from nas.arch.space_yaml import load_space
from nas.artifacts.quantize import Int8Images, int8_onnx
from nas.network.build import build
from nas.network.serialize.onnx import onnx_bytes
from nas.references.table import reference

pytestmark = pytest.mark.torch

SIDE = 32
NAMES = ("mobilenet_v2", "mobilenet_v3_small", "mobilenet_v4_conv_small", "shufflenet_v2", "mnasnet_small")


def noise() -> Int8Images:
    images = np.random.default_rng(0).integers(0, 255, (8, SIDE, SIDE, 3), dtype=np.uint8)
    labels = np.zeros(8, dtype=np.int64)
    return Int8Images("noise", 10, images, images, labels, lambda x: np.float32(x.transpose(0, 3, 1, 2) / 255), "")


@pytest.mark.parametrize("name", [*NAMES, *(f"space:{name}" for name in ("mbconv", "efficientnet", "shufflenet"))])
def test_no_float_file_is_larger_than_computed_nor_more_than_a_percent_smaller(name: str) -> None:
    space = name.removeprefix("space:")
    arch = reference(name, resolution=SIDE) if space == name else load_space(space).sample(5).scaled(1, SIDE)
    real = len(onnx_bytes(build(arch).eval(), SIDE, batch=None))
    assert real <= file_sizes([arch])[0, 0] <= 1.01 * real


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "shufflenet_v2"])
def test_no_int8_file_is_larger_than_computed_nor_more_than_three_percent_smaller(name: str) -> None:
    arch: Arch = reference(name, resolution=SIDE)
    real = len(int8_onnx(onnx_bytes(build(arch).eval(), SIDE, batch=None), noise()))
    assert real <= file_sizes([arch])[0, 1] <= 1.03 * real
