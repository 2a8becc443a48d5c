"""Runs a case's command in this process, and writes down what it must not do.

python -m tests.fuzz.guard ROOT compress WORDS...      the same in a process of its own
"""

from __future__ import annotations

import atexit
import concurrent.futures.thread
import faulthandler
import json
import os
import resource
import signal
import sys
import tempfile
import threading
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.fuzz.case import Folders

#: The variable that all processes of a case have.
CASE = "COMPRESS_FUZZ_CASE"
LARGEST_FILE_BYTES = 4 << 30
REPOSITORY = Path(__file__).resolve().parents[2]
#: Writing to them leaves nothing behind.
NOWHERE = ("/dev/null/", "/dev/tty/", "/proc/")
#: What the tool may start, by the name of the program.
PROGRAMS = ("nvidia-smi", "uname", "lscpu", "ldconfig", Path(sys.executable).name)
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
#: Events of Python's audit hooks, and which of their arguments are paths that change.
CHANGES = {
    "os.mkdir": (0,),
    "os.rename": (0, 1),
    "os.remove": (0,),
    "os.rmdir": (0,),
    "os.link": (1,),
    "os.symlink": (1,),
    "os.truncate": (0,),
    "os.chmod": (0,),
}
RUNS = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen")
PROGRAM_AT = {"os.spawn": 1}
NETWORK = ("socket.connect", "socket.getaddrinfo", "urllib.Request")

Command = Callable[[Sequence[str]], int]


def enter(folders: Folders) -> None:
    """Makes this process the case's: its folders, output, group, limits, and the guard.

    There is no way back.
    """
    os.setsid()
    os.environ.update(environment(folders))
    os.chdir(folders.files)
    tempfile.tempdir = None  # which may have been looked up before TMPDIR was set
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    for place, path in enumerate(folders.said, start=1):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(opened, place)
        os.close(opened)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", errors="strict", closefd=False)
    sys.stderr = os.fdopen(
        2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False
    )
    _forget_the_parent()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.enable(file=2)
    faulthandler.register(signal.SIGUSR1, file=2, all_threads=True)
    _guard(folders)


def _forget_the_parent() -> None:
    """Makes a forked process one that has just begun: nothing to do at its exit, usual warnings.

    What the process that it was forked from would remove at its exit is not this one's.
    """
    atexit._clear()
    finalizers: Any = weakref.finalize
    finalizers._registry.clear()
    finalizers._registered_with_atexit = False
    warnings.resetwarnings()
    for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", category)


def environment(folders: Folders) -> dict[str, str]:
    """What a case's command finds in its environment."""
    return {
        "HOME": str(folders.home),
        "TMPDIR": str(folders.temporary),
        "COMPRESS_CACHE": str(folders.cache / "compress"),
        "XDG_CACHE_HOME": str(folders.cache),
        CASE: str(folders.root),
        "TORCHINDUCTOR_CACHE_DIR": str(folders.cache / "inductor"),
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(REPOSITORY),
        "COLUMNS": "100",
    }


def run(folders: Folders, command: Command, words: Sequence[str]) -> int:
    """Runs a command as a program would, what happens at its exit among it; gives its exit code."""
    enter(folders)
    try:
        code = command(words)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter does, which it stands in for
        sys.excepthook(*sys.exc_info())
        code = 1
    concurrent.futures.thread._python_exit()
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            code = code or 120  # as the interpreter does
    return code


def _guard(folders: Folders) -> None:
    """Has every path that is written to and every program that is started looked at."""
    inside = os.path.realpath(folders.root) + os.sep
    events = os.open(folders.events, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    busy = threading.local()

    def note(what: str, which: object) -> None:
        line = json.dumps({"what": what, "which": str(which)[:500]}) + "\n"
        os.write(events, line.encode(errors="backslashreplace"))

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            _, _, flags = arguments
            if isinstance(flags, int) and flags & WRITES and _outside(arguments[0], inside):
                note("wrote outside", arguments[0])
        elif event in CHANGES:
            for place in CHANGES[event]:
                if _outside(arguments[place], inside, followed=False):
                    note("wrote outside", f"{event} {arguments[place]!r}")
        elif event in RUNS:
            program = arguments[PROGRAM_AT.get(event, 0)]
            if event == "os.system" or Path(os.fsdecode(program)).name not in PROGRAMS:
                note("executed", f"{event} {arguments!r}")
        elif event in NETWORK and not _is_local(event, arguments):
            note("network", f"{event} {arguments!r}")
            raise OSError(101, "there is no network here")

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if getattr(busy, "now", False):
            return
        busy.now = True
        try:
            look(event, arguments)
        finally:
            busy.now = False

    sys.addaudithook(hook)


def _outside(path: object, inside: str, *, followed: bool = True) -> bool:
    """Whether a path is outside of the case's folder.

    Args:
        path: as a system call gets it.
        inside: the case's folder.
        followed: whether a link at its end is; what is renamed or removed is the link itself.
    """
    if not isinstance(path, (str, bytes, os.PathLike)):
        return False  # an open file
    try:
        given = Path(os.fsdecode(path)).absolute()
        name = str(given if followed else given.parent)
        name = os.path.realpath(name) + ("" if followed else f"/{given.name}")
    except (OSError, ValueError):
        return False  # which cannot be opened either
    return not f"{name}/".startswith((inside, *NOWHERE))


def _is_local(event: str, arguments: tuple[Any, ...]) -> bool:
    """Whether two processes of this machine talk."""
    address = arguments[1] if event == "socket.connect" else arguments[0]
    if isinstance(address, (str, bytes)) and event == "socket.connect":
        return True  # a Unix socket
    host = address[0] if isinstance(address, tuple) else address
    return str(host) in ("localhost", "127.0.0.1", "::1")


def command_named(name: str, debug: Mapping[str, str] = os.environ) -> Command:
    """The command that is tried: the tool's own, or a toy of the tests, MODULE:FUNCTION."""
    import importlib

    module, _, function = name.partition(":")
    found: Command = getattr(importlib.import_module(module), function)
    return found


def main() -> None:
    """Runs one case in this process."""
    root, name, *words = sys.argv[1:]
    command = command_named(name)
    code = run(Folders(Path(root)), command, words)
    os._exit(code)


if __name__ == "__main__":
    main()
