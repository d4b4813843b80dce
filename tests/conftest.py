"""What all tests share."""

import os
from collections.abc import Iterator

import pytest

from nas.latency import sampling


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests measure, in a hurry and beside others, is not what this machine usually takes."""
    with pytest.MonkeyPatch.context() as patch:
        if "NAS_CACHE" not in os.environ:
            patch.setenv("NAS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True, scope="module")
def brief_measurements(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tests that need some latency, but do not judge it, do not wait for a quiet machine."""
    with pytest.MonkeyPatch.context() as patch:
        if request.module.__name__ != "tests.test_latency_measure":
            patch.setattr(sampling, "MIN_SECONDS", 0.05)
            patch.setattr(sampling, "FAR_SECONDS", 0.05)
            patch.setattr(sampling, "MAX_SECONDS", 0.6)
            patch.setattr(sampling, "MIN_ROUNDS", 6)
        yield
