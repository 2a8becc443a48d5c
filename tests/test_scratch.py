from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from compress.errors import UsageError
from compress.scratch import scratch_folder

HOLD = """
import sys, time
from compress.scratch import scratch_folder
with scratch_folder("held") as folder:
    (folder / "large").write_bytes(b"x" * 1000)
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def own_tmpdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@contextmanager
def _held() -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Another process that has such a folder, and the folder."""
    with subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        yield other, Path(other.stdout.readline().strip())
        other.kill()


def test_it_is_there_for_the_block_and_gone_behind_it() -> None:
    with scratch_folder("profile") as folder:
        assert folder.is_dir()
        assert folder.name.startswith("profile-")
        (folder / "file").write_text("x")
    assert not folder.exists()


def test_it_is_gone_after_an_error_too() -> None:
    with pytest.raises(KeyError), scratch_folder("profile") as folder:
        raise KeyError("x")
    assert not folder.exists()


def test_all_lie_in_one_folder_for_this_user_alone(own_tmpdir: Path) -> None:
    with scratch_folder("one"), scratch_folder("two"):
        (home,) = own_tmpdir.iterdir()
        assert home.name == f"compress-{os.getuid()}"
        assert home.stat().st_mode & 0o777 == 0o700


def test_what_a_killed_process_left_is_removed_by_the_next() -> None:
    with _held() as (process, left):
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert left.is_dir()
        with scratch_folder("next"):
            assert not left.exists()


def test_what_another_process_uses_stays() -> None:
    with _held() as (_, used), scratch_folder("next"):
        assert (used / "large").is_file()


def test_without_room_it_says_where_and_what_to_do(
    own_tmpdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("compress.scratch.tempfile.mkdtemp", full)
    with pytest.raises(UsageError, match=r"No space left on device\. Free space.*TMPDIR") as raised:
        scratch_folder("profile").__enter__()
    assert str(own_tmpdir) in str(raised.value)


def test_a_link_that_somebody_else_put_there_is_not_followed(own_tmpdir: Path) -> None:
    elsewhere = own_tmpdir / "elsewhere"
    elsewhere.mkdir()
    (own_tmpdir / f"compress-{os.getuid()}").symlink_to(elsewhere)
    with pytest.raises(UsageError, match=r"Remove it, or set TMPDIR"):
        scratch_folder("profile").__enter__()
    assert not list(elsewhere.iterdir())
