r"""Whether `compress profile` and other tools tell the same of the same file in the same session.

    python -m benchmarks.agreement student.onnx wrn-16-2 --trials runs/agreement --threads 1,2 \
        --output benchmarks/results/agreement.md

In rounds, in random order within a round, each tool measures each file once:

- this package;
- ONNX Runtime's own numbers. onnxruntime_perf_test is not in its Python package, so what it does is
  done here: one session, one call first, then calls in a row by the clock until time is up. The
  event "model_run" of its profiler is its own clock. (onnxruntime.tools.onnxruntime_test, which is
  in the package, cannot be told how many threads to use.)
- OpenVINO's benchmark_app, told what this package tells OpenVINO;
- torch.utils.benchmark, calling ONNX Runtime on the file, and the network that the file was made
  from, as it is written and compiled.

What a tool says is compared with what this package says of the same engine: median over rounds of
the ratio, bootstrapped over rounds. Where they differ by more than 5%, a third measurement between
them has to show why: it differs from this package in one thing and from the tool in another. If
one of these makes less than 5%, the difference is the other's, as long as it is on that side. Both
make it where both are on their sides and neither interval has 0 in it. Where a tool and our clock
agree on the same calls, for certain, and the difference from our own sessions is not certain to be
one, it is what these differ by among themselves. Any other difference of more than 5% whose
interval reaches to less, and that nothing explains, is not decided.

Files are ONNX files that this package made (torch's network is built from what they say of
themselves, with weights of its own, which the time does not depend on), or names of networks, which
are exported untrained. Every measurement is a line of a file in the folder of trials, so the
program can be stopped and started.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.benchmark import Timer

from benchmarks.trials import append, read
from compress.exporting.artifact import read_artifact
from compress.exporting.to_onnx import onnx_for_timing
from compress.files import sha256_of, write_text
from compress.models.registry import spec_of
from compress.profiling import protocol
from compress.profiling.estimates import MINIMUM_ROUNDS, ratio_of_rounds
from compress.profiling.inputs import make_input
from compress.profiling.layers import read_onnxruntime_profile
from compress.profiling.machine import fingerprint
from compress.profiling.onnxruntime_cpu import OnnxSession
from compress.profiling.registry import runtime_named, why_not
from compress.profiling.runtime import Input, Runtime, Session, Subject
from compress.results import Estimate
from compress.tradeoff.measure import untrained

TRIALS = "agreement.jsonl"
TASK: dict[str, Any] = {"num_classes": 10, "input_shape": (3, 32, 32)}
ENGINES = ("onnxruntime", "openvino", "torch", "torch-compile")
AGREE = 0.05
# Calls that count, each time this package measures; and of those that two clocks measure.
CALLS, WARM_UP_CALLS = 100, 20

OURS = "compress"
WITH_DISTURBED = "compress, disturbed calls too"
PERF_TEST = "loop of onnxruntime_perf_test"
MODEL_RUN = "ONNX Runtime's profiler, model_run"
OUR_CLOCK = "our clock round those calls"
TIMER = "torch.utils.benchmark of our call"
ONE_BY_ONE = "those calls one by one"
TIMER_NETWORK = "torch.utils.benchmark of the network"
NETWORK_ONE_BY_ONE = "those calls of the network one by one"
BENCHMARK_APP = "benchmark_app"
INNER = "OpenVINO's clock in our calls"


class Cause(NamedTuple):
    """Why one of two measurements is longer than the other, or shorter."""

    text: str
    longer: bool


class Between(NamedTuple):
    """A measurement that has something in common with a tool, and something with this package.

    Attributes:
        name: of it.
        ours: why it differs from this package, which is then why the tool does; None: in nothing
            but that it is another session, and the calls are those that the tool times.
        theirs: why the tool differs from it.
    """

    name: str
    ours: Cause | None
    theirs: Cause | None


PYTHON = Cause("it leaves out what a call from Python costs", longer=False)
BLOCKS = Cause("it times blocks, and a disturbed call makes a block longer", longer=True)

TOOLS: Mapping[str, Between] = {
    PERF_TEST: Between(WITH_DISTURBED, Cause("disturbed calls count there", longer=True), None),
    MODEL_RUN: Between(OUR_CLOCK, Cause("the profiler slows the calls", longer=True), PYTHON),
    TIMER: Between(ONE_BY_ONE, None, BLOCKS),
    TIMER_NETWORK: Between(
        NETWORK_ONE_BY_ONE, Cause("tensors in and out, not arrays", longer=False), BLOCKS
    ),
    BENCHMARK_APP: Between(INNER, PYTHON, None),
}
ORDER = (OURS, WITH_DISTURBED, *(name for tool, row in TOOLS.items() for name in (tool, row.name)))


class Step(NamedTuple):
    """One measurement that is to be made."""

    model: str
    threads: int
    round: int
    engine: str
    way: str


@dataclass(frozen=True)
class Setting:
    """What is measured, and by what.

    Attributes:
        path: the ONNX file.
        network: that it was made from, with other weights.
        images: what it is called with.
        threads: that compute.
        seconds: that a tool is given, where it asks.
        runtimes: engine -> it, kept, because compiling takes long.
    """

    path: Path
    network: torch.nn.Module
    images: Input
    threads: int
    seconds: float
    runtimes: Mapping[str, Runtime]

    def session(self, engine: str) -> Session:
        """A new session of the engine."""
        if self.runtimes[engine].name.startswith("torch"):
            subject = Subject(
                self.path.name,
                module=lambda: self.network,
                input_shape=tuple(self.images.shape[1:]),
            )
        else:
            subject = Subject(self.path.name, path=self.path)
        return self.runtimes[engine].load(subject, threads=self.threads, images=self.images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("models", nargs="+", help="ONNX files or names of networks")
    parser.add_argument("--trials", type=Path, required=True, help="a folder")
    parser.add_argument("--output", type=Path, required=True, help="a Markdown file")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each tool in a round")
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--minutes", type=float, default=math.inf)
    options = parser.parse_args()
    if options.rounds < MINIMUM_ROUNDS:
        sys.exit(f"At least {MINIMUM_ROUNDS} rounds give an interval.")
    end = time.monotonic() + 60 * options.minutes
    engines = options.engines.split(",")
    faults = [fault for engine in engines if (fault := why_not(engine))]
    if faults:
        sys.exit("\n".join(faults))
    options.trials.mkdir(parents=True, exist_ok=True)
    file = options.trials / TRIALS
    about = {"machine": fingerprint().digest, "batch": options.batch, "seconds": options.seconds}
    for each in read(file):
        if any(each[key] != value for key, value in about.items()):
            sys.exit(f"{file} is of another machine, batch or time; name another folder.")
    paths = {path.name: path for path in (model_file(m, options.trials) for m in options.models)}
    hashes = {name: sha256_of(path) for name, path in paths.items()}
    for each in read(file):
        if hashes.get(each["model"], each["sha256"]) != each["sha256"]:
            sys.exit(f"{file} is of another {each['model']}; name another folder.")
    threads = [int(each) for each in options.threads.split(",")]
    settings: dict[tuple[str, int], Setting] = {}
    for step in steps(list(paths), threads, options.rounds, engines, read(file)):
        if time.monotonic() > end:
            break
        key = (step.model, step.threads)
        if key not in settings:
            settings = {key: setting_of(paths[step.model], step.threads, options, engines)}
        found = WAYS[step.engine][step.way](settings[key])
        print(step, {name: f"{1e3 * each:.3f} ms" for name, each in found.items()}, flush=True)
        line = {**about, "sha256": hashes[step.model], **step._asdict(), "found_s": found}
        append(file, line)
    text = "\n".join(markdown(read(file)))
    write_text(options.output, text)
    print(text)


def model_file(model: str, folder: Path) -> Path:
    """An ONNX file; or the one of a network of that name, made now where it is not there yet."""
    if model.endswith(".onnx"):
        return Path(model)
    spec = spec_of(model, **TASK)
    path = folder / f"{spec.name}.onnx"
    if not path.exists():
        onnx_for_timing(untrained(spec), path, spec=spec)
    return path


def setting_of(
    path: Path, threads: int, options: argparse.Namespace, engines: Sequence[str]
) -> Setting:
    """What is needed to measure a file."""
    spec = read_artifact(path).spec
    if spec is None:
        sys.exit(f"{path} does not say which network it is of; torch cannot run it.")
    torch.set_num_threads(threads)
    subject = Subject(path.name, path=path)
    images = make_input(runtime_named("onnxruntime"), subject, batch=options.batch)
    runtimes = {engine: runtime_named(engine) for engine in engines}
    return Setting(path, untrained(spec), images, threads, options.seconds, runtimes)


def steps(
    models: Sequence[str],
    threads: Sequence[int],
    rounds: int,
    engines: Sequence[str],
    done: Sequence[Mapping[str, Any]],
) -> Iterator[Step]:
    """What is not done yet: all rounds of a file and number of threads, each in random order."""
    known = {tuple(each[name] for name in Step._fields) for each in done}
    for model in models:
        for count in threads:
            for place in range(rounds):
                ways = [
                    Step(model, count, place, engine, way)
                    for engine in engines
                    for way in WAYS[engine]
                ]
                random.Random(f"{model} {count} {place}").shuffle(ways)
                yield from (step for step in ways if step not in known)


# --- the tools -----------------------------------------------------------------------------------


def ours(setting: Setting, engine: str) -> dict[str, float]:
    """One round as this package measures it."""
    timing = protocol.measure(
        {OURS: partial(setting.session, engine)},
        {OURS: setting.images},
        min_rounds=1,
        max_rounds=1,
        calls_wanted=CALLS,
        threads=setting.threads,
    )
    return {
        OURS: timing.median(OURS),
        WITH_DISTURBED: float(np.median(timing.calls_s(OURS))),
    }


def perf_test(setting: Setting) -> dict[str, float]:
    """As onnxruntime_perf_test does: one call first, then calls by the clock until time is up."""
    session = OnnxSession(setting.path, threads=setting.threads)
    session.infer(setting.images)
    calls_s: list[float] = []
    until = time.perf_counter() + setting.seconds
    while time.perf_counter() < until:
        calls_s.append(timed(session, setting.images))
    session.close()
    return {PERF_TEST: float(np.median(calls_s))}


def model_run(setting: Setting) -> dict[str, float]:
    """The same calls by ONNX Runtime's profiler and by our clock."""
    with tempfile.TemporaryDirectory(prefix="compress-agreement-") as folder:
        session = OnnxSession(
            setting.path, threads=setting.threads, profile=Path(folder) / "profile"
        )
        calls_s = [timed(session, setting.images) for _ in range(WARM_UP_CALLS + CALLS)]
        written = session.end_profiling()
        session.close()
        events = json.loads(written.read_text(encoding="utf-8"))
    inner_s = [call.time_s for call in read_onnxruntime_profile(events, CALLS).calls]
    return {
        MODEL_RUN: float(np.median(inner_s)),
        OUR_CLOCK: float(np.median(calls_s[WARM_UP_CALLS:])),
    }


def openvino_clock(setting: Setting) -> dict[str, float]:
    """The same calls by OpenVINO's clock, which benchmark_app reads, and by ours."""
    session: Any = setting.session("openvino")
    inner_s, outer_s = [], []
    for _ in range(WARM_UP_CALLS + CALLS):
        outer_s.append(timed(session, setting.images))
        # The session has no need to tell it; it is asked for what it keeps.
        inner_s.append(session._request.latency / 1e3)
    session.close()
    return {
        INNER: float(np.median(inner_s[WARM_UP_CALLS:])),
        OUR_CLOCK: float(np.median(outer_s[WARM_UP_CALLS:])),
    }


def timed(session: Session, images: Input) -> float:
    """Seconds of a call."""
    start_ns = time.perf_counter_ns()
    session.infer(images)
    return (time.perf_counter_ns() - start_ns) / 1e9


def timer_of_call(setting: Setting, engine: str) -> dict[str, float]:
    """torch.utils.benchmark, calling what this package calls."""
    session = setting.session(engine)
    blocks_s, each_s = by_timer(lambda: session.infer(setting.images), setting)
    session.close()
    return {TIMER: blocks_s, ONE_BY_ONE: each_s}


def timer_of_network(setting: Setting) -> dict[str, float]:
    """torch.utils.benchmark as its users use it: a network and a tensor."""
    images = torch.from_numpy(setting.images)
    with torch.inference_mode():
        blocks_s, each_s = by_timer(lambda: setting.network(images), setting)
    return {TIMER_NETWORK: blocks_s, NETWORK_ONE_BY_ONE: each_s}


def by_timer(call: Callable[[], object], setting: Setting) -> tuple[float, float]:
    """Seconds as torch's timer tells them, and the median of the same calls one by one."""
    calls_s: list[float] = []

    def timed_call() -> None:
        start_ns = time.perf_counter_ns()
        call()
        calls_s.append((time.perf_counter_ns() - start_ns) / 1e9)

    timer = Timer("timed_call()", globals={"timed_call": timed_call}, num_threads=setting.threads)
    timer.timeit(WARM_UP_CALLS)
    calls_s.clear()
    blocks_s = float(timer.blocked_autorange(min_run_time=setting.seconds).median)
    return blocks_s, float(np.median(calls_s))


# Where disturbed calls make its mean longer than a millisecond, it prints hundredths of one, which
# are 4% of a short call; here it always prints microseconds.
BENCHMARK_APP_IN_US = """
from openvino.tools.benchmark import main
main.format_console_latency = lambda value_ms, _: f"{1000 * value_ms:.2f} us"
main.main()
"""


def benchmark_app(setting: Setting) -> dict[str, float]:
    """OpenVINO's own program in a process of its own."""
    done = subprocess.run(
        [
            *(sys.executable, "-c", BENCHMARK_APP_IN_US),
            *("-m", str(setting.path), "-d", "CPU", "-api", "sync", "-hint", "none"),
            *("-nstreams", "1", "-nthreads", str(setting.threads), "-pin", "NO"),
            *("-infer_precision", "f32", "-shape", str(list(setting.images.shape))),
            *("-t", str(max(1, round(setting.seconds)))),
        ],
        check=True,
        capture_output=True,
        text=True,
        # In continuous integration it sends no telemetry.
        env=os.environ | {"CI": "true"},
    )
    return {BENCHMARK_APP: median_told(done.stdout)}


def median_told(said: str) -> float:
    """Seconds, of what benchmark_app prints."""
    found = re.search(r"Median:\s+([\d.]+) (us|ms)", said)
    if found is None:
        sys.exit(f"benchmark_app told no median:\n{said}")
    return float(found[1]) / {"us": 1e6, "ms": 1e3}[found[2]]


# Engine -> way -> what measures it; one may give several figures.
WAYS: Mapping[str, Mapping[str, Callable[[Setting], dict[str, float]]]] = {
    "onnxruntime": {
        OURS: partial(ours, engine="onnxruntime"),
        PERF_TEST: perf_test,
        MODEL_RUN: model_run,
        TIMER: partial(timer_of_call, engine="onnxruntime"),
    },
    "openvino": {
        OURS: partial(ours, engine="openvino"),
        BENCHMARK_APP: benchmark_app,
        INNER: openvino_clock,
    },
    "torch": {
        OURS: partial(ours, engine="torch"),
        TIMER: partial(timer_of_call, engine="torch"),
        TIMER_NETWORK: timer_of_network,
    },
    "torch-compile": {
        OURS: partial(ours, engine="torch-compile"),
        TIMER: partial(timer_of_call, engine="torch-compile"),
    },
}


# --- report --------------------------------------------------------------------------------------


def heading() -> str:
    """Date, machine and engines."""
    machine = fingerprint()
    engines = ", ".join(f"{name} {version}" for name, version in machine.engines.items())
    return (
        f"{time.strftime('%Y-%m-%d')}, {machine.cpu}, {machine.cpus} of {machine.machine_cpus} "
        f"CPUs, {' '.join(machine.isa)}; {engines}."
    )


def markdown(done: list[dict[str, Any]]) -> list[str]:
    """The page, of whatever there is."""
    rows, verdicts = [], []
    for (model, threads, engine), found in grouped(done).items():
        for name, found_s in found.items():
            difference, verdict = "", ""
            ratio = compared(found_s, found.get(OURS, {}))
            if name != OURS and ratio is not None:
                difference = percent(ratio)
            if name in TOOLS:
                verdict = judged(name, found)
                verdicts.append(verdict)
            median = 1e3 * float(np.median(list(found_s.values())))
            rows.append(
                f"| {model} | {threads} | {engine} | {name} | {median:.3f} | {difference} | "
                f"{verdict} |"
            )
    batches = ", ".join(map(str, sorted({each["batch"] for each in done})))
    return [
        "# The same files by other tools",
        "",
        heading(),
        f"float32, batch {batches}; {rounds_of(done)} rounds with every tool in each; "
        "`python -m benchmarks.agreement`.",
        "",
        "Difference: time by the tool / time by `compress profile` - 1, median over rounds with "
        "its 95% interval. Medians are those of the rounds.",
        "",
        "| file | threads | engine | by | median, ms | difference | within 5% |",
        "|---|---:|---|---|---:|---|---|",
        *rows,
        "",
        f"Of {len(verdicts)} comparisons {sum(each == 'yes' for each in verdicts)} are within 5%; "
        f"{sum(each.startswith('no:') for each in verdicts)} are not, and a third measurement "
        f"shows why; {sum(each.startswith('not decided') for each in verdicts)} are not decided; "
        f"{sum(each.startswith('NO') for each in verdicts)} are not explained.",
        "",
    ]


def rounds_of(done: list[dict[str, Any]]) -> str:
    """How many rounds files have: '20', or '20 to 50'."""
    counts = {len(found.get(OURS, {})) for found in grouped(done).values()}
    return " to ".join(map(str, sorted({min(counts, default=0), max(counts, default=0)})))


Found = dict[str, dict[int, float]]


def grouped(done: list[dict[str, Any]]) -> dict[tuple[str, int, str], Found]:
    """(file, threads, engine) -> name -> round -> seconds, in the order in which names are told."""
    found: dict[tuple[str, int, str], Found] = {}
    for each in done:
        engine = found.setdefault((each["model"], each["threads"], each["engine"]), {})
        for name, seconds in each["found_s"].items():
            engine.setdefault(name, {})[each["round"]] = seconds
    return {
        key: {name: engine[name] for name in sorted(engine, key=ORDER.index)}
        for key, engine in sorted(found.items())
    }


def compared(numerator: Mapping[int, float], denominator: Mapping[int, float]) -> Estimate | None:
    """The ratio, of the rounds that both have; None where these are too few."""
    both = sorted(numerator.keys() & denominator.keys())
    if len(both) < MINIMUM_ROUNDS:
        return None
    above, below = (np.array([each[place] for place in both]) for each in (numerator, denominator))
    return ratio_of_rounds(above, below)


def judged(tool: str, found: Found) -> str:
    """'yes'; 'no:' and what shows why; 'not decided'; or 'NO, not explained'."""
    between = TOOLS[tool]
    ratio = compared(found[tool], found.get(OURS, {}))
    ours = compared(found.get(between.name, {}), found.get(OURS, {}))
    theirs = compared(found[tool], found.get(between.name, {}))
    if ratio is None or ours is None or theirs is None:
        return "not known yet"
    if agrees(ratio):
        return "yes"
    shown = f"({between.name}: {percent(ours)}; the tool beside that: {percent(theirs)})"
    for cause, factor, rest in ((between.ours, ours, theirs), (between.theirs, theirs, ours)):
        if cause is not None and agrees(rest) and (factor.value > 1) == cause.longer:
            return f"no: {cause.text} {shown}"
    both = [
        cause.text
        for cause, factor in ((between.ours, ours), (between.theirs, theirs))
        if cause is not None and (factor.low > 1 if cause.longer else factor.high < 1)
    ]
    if len(both) == 2:
        return f"no: {' and '.join(both)} {shown}"
    same_calls = between.ours is None and 1 - AGREE <= theirs.low <= theirs.high <= 1 + AGREE
    if same_calls and ratio.low <= 1 <= ratio.high:
        low_ms, high_ms = 1e3 * np.quantile(list(found[OURS].values()), (0.25, 0.75))
        return (
            "no: our clock tells the same of those calls, and it is another session (the middle "
            f"half of ours: {low_ms:.3f} to {high_ms:.3f} ms) {shown}"
        )
    if ratio.low <= 1 + AGREE and ratio.high >= 1 - AGREE:
        return f"not decided {shown}"
    return f"NO, not explained {shown}"


def agrees(ratio: Estimate) -> bool:
    return abs(ratio.value - 1) <= AGREE


def percent(ratio: Estimate) -> str:
    return f"{ratio.value - 1:+.1%} ({ratio.low - 1:+.1%} to {ratio.high - 1:+.1%})"


if __name__ == "__main__":
    main()
