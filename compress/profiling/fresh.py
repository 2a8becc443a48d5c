"""Measuring in a fresh process: memory, loading and the first call; a shipped file's budget.

A process that has trained or exported before has its memory, its threads and its caches in a
state that a server's has not. The work is done by ``compress.profiling.child``, which gets a
request on its standard input and answers with JSON on its standard output.
"""

from __future__ import annotations

import os
import pickle
import signal
import site
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from compress import errors, schema
from compress.errors import CompressError, InputError, NothingMeasured
from compress.profiling.inputs import Sample
from compress.profiling.runtime import Subject
from compress.profiling.timing import ModelTiming
from compress.results import Estimate
from compress.scratch import scratch_folder

CHILD = "compress.profiling.child"
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class LoadingRequest:
    """A model whose loading is to be measured; the rest is as for ``time_model``."""

    subject: Subject
    runtime: str = "onnxruntime"
    batch: int = 1
    threads: int = 1
    shape: tuple[int, ...] | None = None
    sample: Sample | None = None
    seed: int = 0


@dataclass(frozen=True)
class TimingRequest:
    """What is to be timed once a model is loaded.

    Attributes:
        loading: of the model.
        against: another model, timed in the same rounds; None where there is none.
        percentile, budget_s, max_s: as for ``time_model``.
        speedup: looking ends when the ratio's interval is clear of it, or within 2%.
    """

    loading: LoadingRequest
    against: Subject | None = None
    percentile: float = 50.0
    budget_s: float | None = None
    speedup: float | None = None
    max_s: float = 30.0


@dataclass(frozen=True)
class Loading:
    """What loading a model took.

    Attributes:
        load_s: creating the session, the runtime being imported.
        first_s: the first call.
        memory_bytes: growth of the high-water mark over loading and five calls; None where the
            system does not tell.
    """

    load_s: float
    first_s: float
    memory_bytes: int | None


@dataclass(frozen=True)
class FreshTiming:
    """What a fresh process found of a model, and of another beside it.

    Attributes:
        loading: of the model.
        model, against: timings in the same rounds.
        speedup: time(against) / time(model), interleaved.
    """

    loading: Loading
    model: ModelTiming
    against: ModelTiming | None = None
    speedup: Estimate | None = None


def time_in_fresh_process(request: TimingRequest) -> FreshTiming:
    """Loads a model and times it, in a process that has done nothing else.

    Raises:
        CompressError: whatever ``time_model`` raises.
        NothingMeasured: the process died.
    """
    return _decode(FreshTiming, ask(CHILD, request, request.loading.subject.name))


def load_in_fresh_process(request: LoadingRequest) -> Loading:
    """Loads a model and calls it five times, in a process that has done nothing else.

    Raises:
        CompressError: what loading and calling it raised there.
        NothingMeasured: the process died.
    """
    return _decode(Loading, ask(CHILD, request, request.subject.name))


def ask(module: str, request: object, name: str, *, limit_s: float | None = None) -> dict[str, Any]:
    """What a module that calls ``compress.profiling.child.serve`` answers, in a fresh process.

    The process and those that it starts end when this function does, whatever ends it.

    Args:
        module: run as a program.
        request: what it is asked, picklable.
        name: of what is measured, for messages.
        limit_s: it is killed after so long; None: never.

    Raises:
        CompressError: what the module raised.
        NothingMeasured: the process died.
        TimeoutError: it did not answer in time.
    """
    with scratch_folder("measuring") as folder:
        process = subprocess.Popen(
            # -P: whatever lies in the current folder is not imported in a package's place.
            [sys.executable, "-P", "-m", module, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # What was compiled here earlier would make loading look quicker than it is elsewhere.
            env=_environment() | {"TORCHINDUCTOR_CACHE_DIR": str(folder)},
            start_new_session=True,
        )
        try:
            said, complaint = process.communicate(pickle.dumps(request), timeout=limit_s)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError from error
        finally:
            _end(process)
    try:
        answer = schema.parse_json(said, "it")
    except InputError:
        tail = complaint.decode(errors="replace").strip().splitlines()[-1:]
        raise NothingMeasured(
            f"The process that measured {name} ended with code {process.returncode} and no "
            f"answer{': ' + tail[0] if tail else ''}. It may have been killed because memory ran "
            "out."
        ) from None
    if "error" in answer:
        kind = getattr(errors, answer["error"], CompressError)
        raise kind(answer["message"])
    return dict(answer)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and its group, if it has not ended, and frees its pipes."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)
            else:  # pragma: no cover - Windows
                process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _decode(kind: type[Answer], answer: dict[str, Any]) -> Answer:
    where = "The measuring process gave a broken answer"
    return schema.decode(kind, answer, where, error=NothingMeasured)


def _environment() -> dict[str, str]:
    """This environment, with the package that runs here importable there too."""
    root = str(Path(errors.__file__).resolve().parents[1])
    # What is installed is found anyway, and site-packages must not come before the standard
    # library, as everything in PYTHONPATH does.
    if root in (*site.getsitepackages(), site.getusersitepackages()):
        return dict(os.environ)
    given = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [given, root]))}
