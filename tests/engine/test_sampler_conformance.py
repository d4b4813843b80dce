"""Optuna's own tests of samplers, run on ours: parameters that are no genes of the space are sampled at random."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import BasicSamplerTestCase, MultiObjectiveSamplerTestCase

from nas.engine.samplers import make_sampler
from tests.engine.search_toys import TINY


@pytest.fixture(params=["auto", "random", "aging-evolution"])
def sampler(request: pytest.FixtureRequest) -> Callable[[], BaseSampler]:
    return lambda: make_sampler(request.param, TINY, seed=0)


class TestBasic(BasicSamplerTestCase):
    @pytest.fixture
    def sampler(self, sampler: Callable[[], BaseSampler]) -> Callable[[], BaseSampler]:
        return sampler


class TestMultiObjective(MultiObjectiveSamplerTestCase):
    @pytest.fixture
    def sampler(self, sampler: Callable[[], BaseSampler]) -> Callable[[], BaseSampler]:
        return sampler
