"""Runs cases, each in a process that is forked from this one, and watches what it does.

This process has imported what commands need, has started no threads of theirs, and runs none of
them itself: a case costs a fork and not four seconds of imports.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from tests.fuzz import guard, processes
from tests.fuzz.case import Bench, Folders, Plan, Stock
from tests.fuzz.judge import LARGEST_MEMORY_BYTES, Ending, Outcome, judge, listing

TICK_S = 0.01
# So many in a row show that memory is really needed.
LOOKS = 4
# So long may what a command has started take to end after it.
GRACE_S = 1.0
LIMIT_S = 60.0
MAKING_LIMIT_S = 120.0
COMPRESS = "compress.cli:main"


def preload() -> None:
    """Imports all that commands import when they need it."""
    sys.dont_write_bytecode = True
    import compress

    for module in pkgutil.walk_packages(compress.__path__, "compress."):
        if module.name.rpartition(".")[2] not in ("__main__", "pytest_plugin"):
            # Extras may be missing.
            with contextlib.suppress(ImportError):
                importlib.import_module(module.name)
    for name in ("onnxruntime", "onnxruntime.quantization", "onnxscript", "torchvision.datasets"):
        importlib.import_module(name)
    importlib.import_module("PIL.Image").init()
    gc.collect()
    gc.freeze()


@dataclass
class Running:
    """A case whose command runs."""

    planned: Plan
    folders: Folders
    words: list[str]
    before: frozenset[str]
    pid: int
    begun_s: float
    seen: set[int] = field(default_factory=set)
    last_bytes: tuple[int, ...] = ()
    most_bytes: int = 0
    hung: bool = False
    too_large: bool = False
    code: int | None = None
    ended_s: float = 0.0


@dataclass(frozen=True)
class Settings:
    """How cases are run.

    Attributes:
        work: the folder that they get folders in.
        jobs: at a time.
        limit_s: a case that takes longer hangs.
        keep: whether their folders stay.
        memory_bytes: a case that has more is ended.
        spawn: whether each gets an interpreter of its own.
        command: what is tried, MODULE:FUNCTION.
    """

    work: Path
    jobs: int = 1
    limit_s: float = LIMIT_S
    memory_bytes: int = LARGEST_MEMORY_BYTES
    keep: bool = False
    spawn: bool = False
    command: str = COMPRESS


class Fault(Exception):
    """A case could not be made, which is a fault of the fuzzer."""


def in_a_child(action: Callable[[], object], limit_s: float = MAKING_LIMIT_S) -> None:
    """Runs something in a forked process and waits for it, so that nothing of it stays here.

    Raises:
        Fault: it failed, and said why on stderr.
    """
    pid = _fork(lambda: _quietly(action))
    until = time.monotonic() + limit_s
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        if time.monotonic() > until:
            processes.end(processes.tree(pid))
            os.waitpid(pid, 0)
            raise Fault("making a file took too long")
        time.sleep(TICK_S / 5)
    if os.waitstatus_to_exitcode(status) != 0:
        raise Fault("making a file failed, see above")


def _quietly(action: Callable[[], object]) -> int:
    import warnings

    warnings.simplefilter("ignore")
    action()
    return 0


def _fork(action: Callable[[], int]) -> int:
    """Forks; the child runs the action and ends with what it gives."""
    sys.stdout.flush()
    sys.stderr.flush()
    import warnings

    with warnings.catch_warnings():
        # None of this process's threads holds a lock that a child waits for.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if not pid:
        _be_child(action)
    return pid


def _be_child(action: Callable[[], int]) -> NoReturn:
    code = 99
    try:
        code = action()
    except BaseException:  # noqa: BLE001 - a child must never go on as its parent
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        os._exit(code)


def run(plans: Sequence[Plan], stock: Stock, settings: Settings) -> Iterator[Outcome]:
    """Runs cases, so many at a time; gives each as it ends.

    Raises:
        Fault: a case could not be made.
    """
    waiting, running = list(reversed(plans)), list[Running]()
    before = frozenset(processes.children(os.getpid()))
    processes.adopt_orphans(True)
    try:
        while waiting or running:
            while waiting and len(running) < settings.jobs:
                running.append(_start(waiting.pop(), stock, settings))
            time.sleep(TICK_S)
            for case in list(running):
                _look(case, settings)
                if case.code is not None and (ending := _ending(case, running, before)) is not None:
                    running.remove(case)
                    yield _judged(case, ending, settings)
    finally:
        processes.adopt_orphans(False)
        for case in running:
            processes.end([*processes.tree(case.pid), *case.seen])
            if case.code is None:
                os.waitpid(case.pid, 0)


def make(planned: Plan, stock: Stock, work: Path) -> tuple[Folders, list[str]]:
    """Writes a case's files; gives its folders and the words of its command.

    Raises:
        Fault: it cannot be made.
    """
    folders = Folders(work / f"case-{planned.seed}-{planned.index}")
    folders.make()
    made = folders.root / "case.json"

    def write() -> None:
        words = [*planned.make(Bench(folders, planned.rng(), stock))]
        made.write_text(json.dumps({"kind": planned.kind, "name": planned.name, "words": words}))

    try:
        in_a_child(write)
    except Fault as error:
        raise Fault(f"{planned.kind}, {planned.name}, index {planned.index}: {error}") from error
    words: list[str] = json.loads(made.read_text())["words"]
    return folders, words


def _start(planned: Plan, stock: Stock, settings: Settings) -> Running:
    folders, words = make(planned, stock, settings.work)
    before = listing(folders.files)
    begun_s = time.monotonic()
    if settings.spawn:
        pid = _fork(lambda: _spawn(folders, settings.command, words))
    else:
        command = guard.command_named(settings.command)
        pid = _fork(lambda: guard.run(folders, command, words))
    return Running(planned, folders, words, before, pid, begun_s)


def _spawn(folders: Folders, command: str, words: Sequence[str]) -> NoReturn:
    os.chdir(guard.REPOSITORY)
    program = [sys.executable, "-m", "tests.fuzz.guard", str(folders.root), command, *words]
    os.execv(sys.executable, program)


def _look(case: Running, settings: Settings) -> None:
    """How a case is now; ends it where it has too much memory or takes too long."""
    if case.code is not None:
        return
    pids = processes.tree(case.pid)
    case.seen.update(pids)
    # One that is being started has its parent's memory for a moment, which is no memory more.
    case.last_bytes = (*case.last_bytes[-LOOKS + 1 :], processes.memory_bytes(pids))
    case.most_bytes = max(case.most_bytes, min(case.last_bytes))
    done, status = os.waitpid(case.pid, os.WNOHANG)
    now_s = time.monotonic()
    if done:
        case.code, case.ended_s = os.waitstatus_to_exitcode(status), now_s
        return
    case.too_large = len(case.last_bytes) == LOOKS and case.most_bytes > settings.memory_bytes
    case.hung = now_s - case.begun_s > settings.limit_s and not case.too_large
    if case.too_large or case.hung:
        with contextlib.suppress(OSError):
            # It says where it is.
            os.kill(case.pid, signal.SIGUSR1)
        time.sleep(0.0 if case.too_large else 0.2)
        processes.end([*processes.tree(case.pid), *pids])
        os.waitpid(case.pid, 0)
        case.code, case.ended_s = -signal.SIGKILL, time.monotonic()


def _ending(case: Running, running: Sequence[Running], before: frozenset[int]) -> Ending | None:
    """How a case ended; None while what it has started may still end by itself."""
    left = [pid for pid in _left(case, running, before) if processes.is_running(pid)]
    killed = case.hung or case.too_large
    if left and not killed and time.monotonic() - case.ended_s < GRACE_S:
        return None
    told = [] if killed else [f"{processes.name_of(pid)} ({pid})" for pid in left]
    processes.end(left)
    for pid in left:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
    for pid in case.seen - set(left):
        # Those that ended by themselves after this process had adopted them.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    memory = [] if killed else [*processes.shared_memory_of(case.seen)]
    return Ending(
        code=-signal.SIGKILL if case.code is None else case.code,
        seconds=case.ended_s - case.begun_s,
        memory_bytes=case.most_bytes,
        hung=case.hung,
        too_large=case.too_large,
        left=(*told, *memory),
    )


def _left(case: Running, running: Sequence[Running], before: frozenset[int]) -> list[int]:
    """Processes of a case whose first one has ended; this process has adopted them.

    Args:
        case: it.
        running: all that run.
        before: this process's children that are no case's.
    """
    others = [each for each in running if each is not case]
    first = {each.pid for each in others}
    adopted = [pid for pid in processes.children(os.getpid()) if pid not in before | first]
    mine = [pid for pid in adopted if _is_of(pid, case, others)]
    return [below for pid in mine for below in processes.tree(pid)]


def _is_of(pid: int, case: Running, others: Sequence[Running]) -> bool:
    """Whether an adopted process is a case's and not another's."""
    root = processes.variable_of(pid, guard.CASE)
    if root is not None:
        return root == str(case.folders.root)
    session = processes.session_of(pid)
    if session == case.pid or pid in case.seen:
        return True
    return not any(session == each.pid or pid in each.seen for each in others)


def _judged(case: Running, ending: Ending, settings: Settings) -> Outcome:
    outcome = judge(case.planned, case.words, case.folders, case.before, ending)
    if not settings.keep:
        shutil.rmtree(case.folders.root, ignore_errors=True)
    return outcome
