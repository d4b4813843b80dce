"""A hub of weights, an empty cache to download into, and PyTorch on one thread."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.network.conftest import one_thread as one_thread
from tests.references.hub import Hub, serve


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    with serve() as running:
        yield running
