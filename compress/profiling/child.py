"""The fresh process of ``compress.profiling.fresh``: a pickled request in, JSON out.

The request comes from the parent alone, through a pipe, as in ``multiprocessing``; no file is
unpickled here.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import pickle
import re
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from compress.errors import CompressError, UnknownName
from compress.profiling.estimates import calls_needed
from compress.profiling.fresh import FreshTiming, Loading, LoadingRequest, TimingRequest
from compress.profiling.inputs import inputs_of
from compress.profiling.protocol import Timing
from compress.profiling.registry import runtime_named
from compress.profiling.timing import is_clear, is_decided, summarise, time_in_rounds

CALLS = 5
# The option of prctl(2) that asks for a signal when the parent ends.
PR_SET_PDEATHSIG = 1


def main() -> None:
    """Reads the request, measures, answers."""
    serve(lambda request: asdict(measure(request)))


def serve(answer_to_request: Callable[[Any], dict[str, Any]]) -> None:
    """Answers the one request that ``compress.profiling.fresh.ask`` sends.

    Args:
        answer_to_request: gives plain values; what it raises of this package's errors is raised
            again where it was asked.
    """
    _end_with_parent()
    # Only the answer may go to stdout; whatever libraries print goes to stderr.
    answer_to = os.dup(1)
    os.dup2(2, 1)
    request = pickle.load(sys.stdin.buffer)
    try:
        answer = answer_to_request(request)
    except CompressError as error:
        # An unknown name is built from other arguments than its message.
        kind = "UsageError" if isinstance(error, UnknownName) else type(error).__name__
        answer = {"error": kind, "message": str(error)}
    with os.fdopen(answer_to, "w", encoding="utf-8") as out:
        json.dump(answer, out)


def _end_with_parent() -> None:
    """Has Linux kill this process when the one that asked is killed, which cannot end it then."""
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):  # it was killed before this took effect
        os.kill(os.getpid(), signal.SIGKILL)


def measure(request: LoadingRequest | TimingRequest) -> Loading | FreshTiming:
    """What was asked for.

    Raises:
        CompressError: as ``time_model``.
    """
    if isinstance(request, LoadingRequest):
        return loading(request)
    return timed(request, loading(request.loading))


def loading(request: LoadingRequest) -> Loading:
    """Loads a model and calls it."""
    runtime, subject = runtime_named(request.runtime), request.subject
    (images, *_) = inputs_of(
        runtime,
        subject,
        batch=request.batch,
        shape=request.shape,
        seed=request.seed,
        sample=request.sample,
    )(0)
    for name in subject.imports:
        importlib.import_module(name)
    before = _reset_high_water()
    start = time.perf_counter()
    session = runtime.load(subject, threads=request.threads, images=images)
    load_s = time.perf_counter() - start
    start = time.perf_counter()
    session.infer(images)
    session.synchronize()
    first_s = time.perf_counter() - start
    for _ in range(CALLS - 1):
        session.infer(images)
    session.synchronize()
    after = _high_water()
    session.close()
    return Loading(
        load_s, first_s, None if before is None or after is None else max(0, after - before)
    )


def timed(request: TimingRequest, found: Loading) -> FreshTiming:
    """Times a model, beside another one where there is one."""
    asked, against = request.loading, request.against
    runtime = runtime_named(asked.runtime)
    models = {"model": (runtime, asked.subject)}
    if against is not None:
        models["against"] = (runtime, against)

    def decided(timing: Timing) -> bool:
        known = is_decided(timing, "model", request.percentile, request.budget_s)
        if not known or against is None:
            return known
        return is_clear(timing.ratio("against", "model"), request.speedup)

    timing = time_in_rounds(
        models,
        decided,
        batch=asked.batch,
        threads=asked.threads,
        shape=asked.shape,
        sample=asked.sample,
        max_s=request.max_s,
        seed=asked.seed,
        calls_wanted=0 if request.percentile == 50 else calls_needed(request.percentile),
    )
    model = summarise(timing, "model", request.percentile)
    if against is None:
        return FreshTiming(found, model)
    # The other model is there for the ratio of medians; it may be too slow for a percentile.
    other = summarise(timing, "against", 50.0)
    return FreshTiming(found, model, other, timing.ratio("against", "model"))


def _reset_high_water() -> int | None:
    """Makes the high-water mark start from here where the system can; gives where it stands."""
    with contextlib.suppress(OSError):
        # Importing a runtime may have needed more for a moment than it keeps.
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _high_water()


def _high_water() -> int | None:
    """Most memory that this process ever had, in bytes.

    Linux's ru_maxrss is not asked: a new process inherits there what its parent had.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        status = ""
    found = re.search(r"^VmHWM:\s*(\d+) kB", status, re.MULTILINE)
    if found:
        return int(found[1]) * 1024
    if sys.platform == "darwin":
        import resource  # not on Windows

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes there
    return None


if __name__ == "__main__":
    main()
