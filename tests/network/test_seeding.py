"""Weights have their own seed; the program's random state does not change, on any device."""

from collections.abc import Callable

import pytest
import torch

from nas.network.build import build
from nas.network.seeding import cpu_seed
from nas.references.external import library_network
from nas.references.table import reference

pytestmark = pytest.mark.torch


def seeded() -> None:
    with cpu_seed(7):
        torch.rand(3)


def interrupted() -> None:
    with pytest.raises(RuntimeError), cpu_seed(7):
        torch.rand(-1)


@pytest.mark.parametrize(
    "use",
    [
        seeded,
        interrupted,
        lambda: build(reference("mobilenet_v3_small"), seed=3),
        lambda: library_network("torchvision:squeezenet1_1"),
    ],
)
def test_no_generator_of_the_program_is_moved(use: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Works without a GPU: the functions that seed GPUs are not called."""
    on_gpus: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", on_gpus.append)
    monkeypatch.setattr(torch.cuda, "manual_seed", on_gpus.append)
    before = torch.get_rng_state()
    use()
    assert torch.equal(torch.get_rng_state(), before)
    assert not on_gpus


def test_the_same_seed_draws_the_same_numbers() -> None:
    def draw(seed: int) -> torch.Tensor:
        with cpu_seed(seed):
            return torch.rand(8)

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
