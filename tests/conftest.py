"""What all tests share."""

import os
from collections.abc import Iterator

# Before torch is loaded: on a busy core its second thread spins, and a training of 8 s took 174 s.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from nas.latency import sampling


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests measure, in a hurry and beside others, is not what this machine usually takes."""
    with pytest.MonkeyPatch.context() as patch:
        if "NAS_CACHE" not in os.environ:
            patch.setenv("NAS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


BRIEF = {"MIN_SECONDS": 0.05, "FAR_SECONDS": 0.05, "MAX_SECONDS": 0.6, "MIN_ROUNDS": 6}  # of nas.latency.sampling


def _hurry(patch: pytest.MonkeyPatch) -> None:
    for name, value in BRIEF.items():
        patch.setattr(sampling, name, value)


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Does not wait for a quiet machine: for tests that need some latency, but do not judge it."""
    _hurry(monkeypatch)


@pytest.fixture(autouse=True, scope="module")
def brief_modules(request: pytest.FixtureRequest) -> Iterator[None]:
    """The same for all tests, but for those of sampling."""
    with pytest.MonkeyPatch.context() as patch:
        if request.module.__name__ != "tests.latency.test_measure":
            _hurry(patch)
        yield
