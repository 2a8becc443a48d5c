from __future__ import annotations

from pathlib import Path

import pytest

from tests.exporting import networks


@pytest.fixture(scope="session")
def floats(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A float32 file of every family."""
    folder = tmp_path_factory.mktemp("floats")
    return networks.Made(lambda name: networks.exported(name, folder))
