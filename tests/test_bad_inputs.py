from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bad_inputs import BAD_INPUTS, BadInput, answer, make_files


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("bad")
    make_files(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPRESS_CACHE", str(folder / "cache"))
        yield folder


@pytest.mark.parametrize("bad", BAD_INPUTS, ids=lambda bad: bad.what)
def test_it_is_answered_and_nothing_is_half_written(bad: BadInput, folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    exit_code, said = answer(bad, folder)
    assert exit_code == bad.exit_code, said
    assert "Traceback" not in said
    assert "bug in compress" not in said
    assert bad.says.lower() in said.lower()
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    made = {path for path in after.keys() - before.keys() if path.parent.name != "latency"}
    # A run that was refused while it chose or evaluated has said what it was asked for.
    assert {path.name for path in made} <= {".lock", "run.json", "teacher.onnx"}
    assert {path: after[path] for path in before} == before
    assert not (folder / "harmed").exists()
