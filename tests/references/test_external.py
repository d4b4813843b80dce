"""Libraries' networks: published counts, the same definitions as ours, one-line errors."""

import re
import sys
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pytest

from nas.arch.cost import Cost
from nas.latency.measure import measure
from nas.network.count import count
from nas.network.serialize.onnx import onnx_bytes
from nas.network.trace import trace
from nas.references.external import LibraryNetwork, is_library, library_cost, library_network, library_parts
from nas.references.table import reference
from nas.system.errors import InputError, NasError

pytestmark = pytest.mark.torch

PUBLISHED = [  # torchvision's parameters; MACs by fvcore in the field's tables
    ("torchvision:googlenet", 6_624_904, 1498),
    ("torchvision:squeezenet1_0", 1_248_424, 819),
    ("torchvision:resnet50", 25_557_032, 4089),
    ("torchvision:alexnet", 61_100_840, 714),
    pytest.param("torchvision:vgg16", 138_357_544, 15470, marks=pytest.mark.slow),
]


@lru_cache(maxsize=4)
def network(name: str) -> LibraryNetwork:
    return library_network(name)


@pytest.mark.parametrize(("name", "params", "macs_m"), PUBLISHED)
def test_counts_are_the_published_ones(name: str, params: int, macs_m: float) -> None:
    """Parameters exact, MACs within half a percent; parts add up."""
    cost = library_cost(network(name))
    assert cost.params == params
    assert cost.macs / 1e6 == pytest.approx(macs_m, rel=0.005)
    for leaves in (False, True):
        parts = [part.cost for part in library_parts(network(name), leaves)]
        assert cost == Cost(
            sum(part.params for part in parts),
            sum(part.macs for part in parts),
            sum(part.memory_bytes for part in parts),
        )


@pytest.mark.parametrize("name", ["torchvision:squeezenet1_0", "torchvision:googlenet", "torchvision:alexnet"])
def test_onnx_computes_what_pytorch_computes(name: str) -> None:
    _compare_onnx(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torchvision:resnet50", "torchvision:vgg16"])
def test_onnx_computes_what_pytorch_computes_for_large_ones(name: str) -> None:
    _compare_onnx(name)


def _compare_onnx(name: str) -> None:
    """Within 1e-4 of the spread of the logits, on noise."""
    import onnxruntime
    import torch

    net = network(name)
    images = np.random.default_rng(1).standard_normal((1, 3, net.resolution, net.resolution), dtype=np.float32)
    session = onnxruntime.InferenceSession(onnx_bytes(net.network, net.resolution), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = net.network(torch.from_numpy(images)).numpy()
    assert expected.std() > 0
    np.testing.assert_allclose(session.run(None, {"image": images})[0], expected, atol=1e-4 * max(1, expected.std()))


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_large", "efficientnet_b0"])
def test_a_reference_costs_what_its_twin_costs(name: str) -> None:
    """torchvision's twin of a reference: parameters, MACs and bytes, exactly."""
    assert library_cost(library_network(f"torchvision:{name}")) == count(reference(name))


def test_attention_counts_both_its_products() -> None:
    """ViT-B/16 by hand: 197 tokens of width 768; 12 layers of four projections, two products and an MLP of 4."""
    cost = library_cost(library_network("torchvision:vit_b_16"))
    tokens, width = 197, 768
    layer = tokens * width * width * 4 + 2 * tokens * tokens * width + 2 * tokens * width * 4 * width
    assert cost.params == 86_567_656
    assert cost.macs == 12 * layer + 196 * width * 3 * 16 * 16 + width * 1000


def test_resolution_and_classes_can_be_chosen() -> None:
    """MACs of a convolutional network grow with the area; the classifier follows its classes."""
    small = library_network("torchvision:resnet18@resolution=64", 10)
    assert small.resolution == 64
    large = library_cost(library_network("torchvision:resnet18@resolution=128", 10))
    head = 512 * 10
    assert large.macs - head == 4 * (library_cost(small).macs - head)
    assert large.params == 11_689_512 - 513 * 990
    assert library_network("torchvision:inception_v3", 10).resolution == 299
    assert library_cost(library_network("torchvision:vit_b_32@resolution=64", 10)).macs > 0


def test_weights_are_the_same_each_time_and_leave_the_global_state() -> None:
    import torch

    before = torch.random.get_rng_state()
    one, other = (library_network("torchvision:squeezenet1_1") for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert not one.network.training
    for left, right in zip(one.network.parameters(), other.network.parameters(), strict=True):
        assert torch.equal(left, right)


@pytest.mark.timing
@pytest.mark.parametrize(
    "runtime", ["onnxruntime", "torch", "openvino", pytest.param("executorch", marks=pytest.mark.slow)]
)
def test_they_are_measured(runtime: str) -> None:
    """A network without `features` or `classifier`, in every runtime."""
    assert measure(library_network("torchvision:resnet18@resolution=32"), runtime).ms > 0


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("torchvision:vgg61", r"'vgg61'; did you mean .*vgg16"),
        ("torchvision:zzzzzzzzzzzzz", r"none of the \d+ known"),
        ("torchvision:fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn"),
        ("torchvision:vgg16@width=2", "'width'; known: resolution"),
        ("torchvision:vgg16@resolution=1e3", "from 8 to 2048"),
        ("torchvision:vgg16@resolution=4", "from 8 to 2048"),
        ("torchvision:vit_b_16@resolution=100", "vit_b_16@resolution=100"),
        ("keras:vgg16", "'keras'; known: torchvision, timm"),
    ],
)
def test_what_cannot_be_built_is_one_line_with_the_name(name: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        library_network(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("classes", [0, -1, True, 10**9, 2.0])
def test_classes_are_bounded(classes: int) -> None:
    with pytest.raises(InputError, match="num_classes"):
        library_network("torchvision:alexnet", classes)


@pytest.mark.parametrize("use", [library_cost, library_parts, measure])
def test_images_that_are_too_small_are_refused(use: Callable[[LibraryNetwork], object]) -> None:
    with pytest.raises(InputError, match="16 px"):
        use(library_network("torchvision:alexnet@resolution=16"))


def test_names_of_libraries() -> None:
    assert [is_library(name) for name in ("timm:x", "torchvision:", "torchvision", "mobilenet_v2", "c:/x.yaml")] == [
        *(True, True, False, False, False)
    ]


def test_an_absent_timm_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=re.escape("pip install 'mbconv-nas[timm]'")):
        library_network("timm:legacy_xception")


@pytest.mark.parametrize(
    ("name", "resolution", "params", "macs_m"),
    [
        ("timm:legacy_xception", 299, 22_855_952, 8357),
        ("timm:mobilenetv3_large_100", 224, 5_483_032, 216.59),
        pytest.param("timm:nasnetalarge", 331, 88_753_150, 23_783, marks=pytest.mark.slow),
    ],
)
def test_counts_of_timm(name: str, resolution: int, params: int, macs_m: float) -> None:
    """Xception and NASNet-A as published: 22.9 M and 8.4 G, 88.9 M and 23.8 G."""
    _need_timm()
    net = library_network(name)
    cost = library_cost(net)
    assert (net.resolution, cost.params) == (resolution, params)
    assert cost.macs / 1e6 == pytest.approx(macs_m, rel=0.001)


def test_timm_never_downloads() -> None:
    """Names that timm would download are unknown here."""
    _need_timm()
    for name in ("timm:hf-hub:someone/something", "timm:local-dir:/tmp", "timm:", "timm:xceptoin41"):
        with pytest.raises(InputError, match=r"^timm "):
            library_network(name)


def _need_timm() -> None:
    from importlib.util import find_spec

    if find_spec("timm") is None:
        pytest.skip("timm is not installed")


def test_padding_by_name_counts_as_padding_by_number() -> None:
    import torch

    traced = [
        trace(torch.nn.Sequential(torch.nn.Conv2d(3, 6, 5, padding=padding, groups=3)), 10) for padding in (2, "same")
    ]
    assert traced[0] == traced[1]
    assert traced[0].macs == 25 * 6 * 100


def test_an_operator_without_a_rule_is_named_and_the_mode_restored() -> None:
    """Also in a library's network, where its resolution is not to blame."""
    import torch

    class Odd(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cumsum(self.conv(x), 1)

    with pytest.raises(NasError, match="cumsum"):
        library_cost(LibraryNetwork("odd", Odd(), 8))
    odd = Odd().train()
    with pytest.raises(NasError):
        trace(odd, 8)
    assert odd.training
