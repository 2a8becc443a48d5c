"""Commands that do what no command may; the runner has to find each out."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path


def _case() -> Path:
    return Path(os.environ["COMPRESS_FUZZ_CASE"])


def _bug() -> int:
    print("error: this is a bug in compress: KeyError: 'x'.", file=sys.stderr)
    return 70


def _raise() -> int:
    raise KeyError("x")


def _crash() -> int:
    ctypes.string_at(0)
    return 0


def _hang() -> int:
    time.sleep(60)
    return 0


def _allocate() -> int:
    held = bytearray(b"x") * (2 << 30)
    time.sleep(10)
    return len(held) and 0


def _execute() -> int:
    (_case() / "EXECUTED").touch()
    return 2


def _call_a_shell() -> int:
    os.system("true")
    return 2


def _write_outside() -> int:
    (_case().parent / "outside.txt").write_text("x")
    return 2


def _write_beside() -> int:
    (_case() / "beside.txt").write_text("x")
    return 2


def _write_through_a_link() -> int:
    link = Path("link")
    link.symlink_to(_case().parent / "linked.txt")
    link.write_text("x")
    return 2


def _leave_a_temporary_file() -> int:
    handle, _ = tempfile.mkstemp()
    os.close(handle)
    return 2


def _leave_an_unfinished_file() -> int:
    Path(".out.onnx.abcd_123.onnx").touch()
    return 2


def _leave_a_lock() -> int:
    Path("run").mkdir()
    Path("run/.lock").touch()
    return 2


def _leave_a_child() -> int:
    program = [sys.executable, "-c", "import time; time.sleep(60)"]
    subprocess.Popen(program, start_new_session=True, stdout=subprocess.DEVNULL)
    return 0


def _ask_the_network() -> int:
    import socket

    try:
        socket.create_connection(("192.0.2.1", 80), timeout=5)
    except OSError:
        return 2
    return 0


def _replace_a_link() -> int:
    link = Path("link")
    link.symlink_to("/dev/zero")
    Path("new").write_text("x")
    Path("new").replace(link)
    return 2


def _refuse() -> int:
    print("error: no.", file=sys.stderr)
    Path("out.txt").write_text("x")
    return 2


def _clean_up() -> int:
    with tempfile.TemporaryDirectory():
        done = subprocess.run([sys.executable, "-c", "print(1)"], check=False, capture_output=True)
    return done.returncode


TOYS: dict[str, Callable[[], int]] = {
    "bug": _bug,
    "raise": _raise,
    "crash": _crash,
    "hang": _hang,
    "allocate": _allocate,
    "execute": _execute,
    "call a shell": _call_a_shell,
    "write outside": _write_outside,
    "write beside": _write_beside,
    "write through a link": _write_through_a_link,
    "leave a temporary file": _leave_a_temporary_file,
    "leave an unfinished file": _leave_an_unfinished_file,
    "leave a lock": _leave_a_lock,
    "leave a child": _leave_a_child,
    "ask the network": _ask_the_network,
    "replace a link": _replace_a_link,
    "refuse": _refuse,
    "clean up": _clean_up,
}


def main(words: Sequence[str]) -> int:
    """Does what the first word says."""
    return TOYS[words[0]]()
