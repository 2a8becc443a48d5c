"""python -m tests.fuzz --seed 0 --count 2000"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.fuzz import report
from tests.fuzz.case import by_hand, plan
from tests.fuzz.judge import Outcome

SINGLE = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs cases and prints what came of them; 1 where there are faults, 2 where one cannot run."""
    asked = _parser().parse_args(arguments)
    # Before numpy and torch are imported: a process with threads cannot be forked safely.
    os.environ.update(dict.fromkeys(SINGLE, "1"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names need not be text
    from tests.fuzz.kinds.registry import KINDS
    from tests.fuzz.runner import Fault, Settings, preload, run
    from tests.fuzz.stock import FileStock

    if asked.list:
        for kind in KINDS:
            print(kind.name)
            for hostile in kind.hostile:
                print(f"  {hostile.name}{'' if hostile.refused else ' (may pass)'}")
        return 0
    unknown = sorted(set(asked.kind) - {kind.name for kind in KINDS})
    if unknown:
        print(f"There is no kind {', '.join(unknown)}; --list names them.", file=sys.stderr)
        return 2
    indices = [*range(asked.start, asked.start + asked.count)]
    if asked.by_hand:
        indices = by_hand(KINDS)
    if asked.only:
        indices = asked.only
    plans = [plan(KINDS, asked.seed, index) for index in indices]
    plans = [
        each
        for each in plans
        if (not asked.kind or each.kind in asked.kind) and asked.name in each.name
    ]
    begun_s, outcomes, failed = time.monotonic(), list[Outcome](), False
    with _folder(asked.keep) as folder:
        work = folder.resolve()
        stock = FileStock(asked.stock.resolve() if asked.stock else work / "stock")
        settings = Settings(
            work,
            jobs=asked.jobs,
            limit_s=asked.limit_s,
            keep=asked.keep is not None,
            spawn=asked.spawn,
        )
        preload()
        try:
            for outcome in run(plans, stock, settings):
                outcomes.append(outcome)
                _tell(outcome, len(outcomes), len(plans))
        except Fault as error:
            print(f"error: {error}", file=sys.stderr)
            failed = True
        except KeyboardInterrupt:
            print("Interrupted; this is what there is.", file=sys.stderr)
    seconds = time.monotonic() - begun_s
    if asked.json:
        print(json.dumps(report.to_dict(outcomes, asked.seed, seconds), indent=1))
    else:
        for line in report.lines(outcomes, seconds):
            print(line)
    return 2 if failed else int(any(each.faults for each in outcomes))


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """What the cases get folders in: one that stays, or one that is removed in the end."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.absolute()
        return
    # Not tempfile.TemporaryDirectory, which every forked process would remove at its own exit.
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _tell(outcome: Outcome, done: int, count: int) -> None:
    if outcome.faults:
        fault = f"{outcome.kind}, {outcome.name}: {outcome.faults[0][:120]}"
        print(f"{done}/{count} index {outcome.index}: {fault}", file=sys.stderr)
    elif done % 100 == 0:
        print(f"{done}/{count}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description="Gives damaged and hostile files to the real commands. A case follows from "
        "the seed and its index alone. Ends with 1 where a command crashes, hangs, needs more "
        "than 4 GB, executes something, or leaves anything behind.",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=200, help="cases [default: 200]")
    parser.add_argument("--start", type=int, default=0, help="the first index")
    parser.add_argument("--only", type=int, action="append", help="run this index; repeatable")
    parser.add_argument("--by-hand", action="store_true", help="each hostile file once")
    parser.add_argument("--kind", action="append", default=[], help="only these; repeatable")
    parser.add_argument("--name", default="", help="only cases with this in their name")
    parser.add_argument("--jobs", type=int, default=1, help="at a time")
    parser.add_argument("--limit-s", type=float, default=60.0, help="longer is a hang")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the cases' folders there")
    parser.add_argument(
        "--stock", type=Path, metavar="FOLDER", help="keep the valid files there for other runs"
    )
    parser.add_argument("--spawn", action="store_true", help="a new interpreter for each case")
    parser.add_argument("--list", action="store_true", help="name the kinds and hostile files")
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
