"""What all tests share."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

FUZZ = Path(__file__).parent / "fuzz"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The fuzzer's tests come first: they fork.

    A process that is forked after PyTorch has computed with several threads has none of them, and
    waits for them without end at its first parallel loop.
    """
    items.sort(key=lambda item: FUZZ not in item.path.parents)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps what earlier runs and measurements of this machine showed apart from the tests'."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COMPRESS_CACHE", raising=False)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def interrupts_are_heard() -> Iterator[None]:
    """A process that was started in the background may ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
