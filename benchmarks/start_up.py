r"""What a user waits for: the import, the help, the first step, a whole small run; and in silence.

    python -m benchmarks.start_up --trials runs/start_up --output benchmarks/results/start_up.md

Every run is a fresh process. That of `compress distill` (by default what `make demo` runs, with
nothing remembered from before) is followed on its stderr, once as a terminal and once as a pipe:
when its first line came, when the first step was done (a terminal then shows the epoch), and after
which lines nothing new was said for how long. A run is a line of a file in the folder of trials, so
the program can be stopped and started.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.trials import append, read
from compress.profiling.machine import fingerprint

RUNS = "start_up.jsonl"
SHORT = {
    "python, nothing": ["-c", "pass"],
    "import compress": ["-c", "import compress"],
    "compress --help": ["-m", "compress", "--help"],
    "compress distill --help": ["-m", "compress", "distill", "--help"],
    "import compress.pipelines.distill": ["-c", "import compress.pipelines.distill"],
}
# Of the Makefile.
DEMO = (
    "distill --speedup 4 --epochs 12 --batch-size 32 --lr 0.05 --schedule one-cycle --dropout 0 "
    "--crop-padding 2"
)
FOLLOWED = {"terminal": True, "pipe": False}
# A user may wonder after so long.
LONG_S = 2.0
NOTHING = "(nothing was said yet)"
# What a terminal is told beside text: colours, where the cursor goes, the bar.
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|[━╸╺]+ ?")
FIRST_STEP = re.compile(r"epoch 1/")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trials", type=Path, required=True, help="a folder")
    parser.add_argument("--output", type=Path, required=True, help="a Markdown file")
    parser.add_argument("--repeats", type=int, default=10, help="of what is over at once")
    parser.add_argument("--runs", type=int, default=2, help="of distill, each way")
    parser.add_argument("--distill", default=DEMO, help="the subcommand and its options")
    asked = parser.parse_args()
    asked.trials.mkdir(parents=True, exist_ok=True)
    file = asked.trials / RUNS
    machine = fingerprint().digest
    if any(line["machine"] != machine for line in read(file)):
        sys.exit(f"{file} is of another machine; name another folder.")
    for name, arguments in SHORT.items():
        for _ in range(asked.repeats - count(read(file), name)):
            append(file, {"machine": machine, "name": name, "seconds": seconds_of(arguments)})
    for name, terminal in FOLLOWED.items():
        for _ in range(asked.runs - count(read(file), name)):
            found = follow(asked.distill, terminal=terminal)
            print(found, flush=True)
            append(file, {"machine": machine, "name": name, "command": asked.distill, **found})
    text = "\n".join(markdown(read(file)))
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    asked.output.write_text(text, encoding="utf-8")
    print(text)


def count(lines: Sequence[Mapping[str, Any]], name: str) -> int:
    return sum(line["name"] == name for line in lines)


def seconds_of(arguments: Sequence[str]) -> float:
    """A fresh interpreter's, from its start to its end."""
    began_s = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began_s


def follow(command: str, *, terminal: bool) -> dict[str, Any]:
    """A subcommand that makes a run, with nothing remembered: when it said what."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [
            *shlex.split(command),
            *("--out", f"{folder}/run", "--outputs-dir", f"{folder}/outputs", "--no-cache"),
        ]
        said = list(heard([sys.executable, "-m", "compress", *arguments], terminal=terminal))
    *texts, (seconds, _) = said
    news = list(news_of(texts))
    steps = [at_s for at_s, text in texts if FIRST_STEP.search(CONTROL.sub("", text))]
    return {
        "seconds": seconds,
        "first_line_s": news[0][0] if news else seconds,
        "first_step_s": steps[0] if steps else None,
        "silences": silences(news, seconds),
    }


def heard(command: Sequence[str], *, terminal: bool) -> Iterator[tuple[float, str]]:
    """(seconds since the start, text) as it comes on stderr; last the end, without text.

    Raises:
        CalledProcessError: the command failed.
    """
    reader, writer = os.openpty() if terminal else os.pipe()
    began_s = time.perf_counter()
    said = []
    wide = {**os.environ, "COLUMNS": "200"}  # so that a line stays one
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=writer, env=wide) as process:
        os.close(writer)
        while chunk := read_chunk(reader):
            text = chunk.decode("utf-8", "replace")
            said.append(text)
            yield time.perf_counter() - began_s, text
        os.close(reader)
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, command, stderr="".join(said))
    yield time.perf_counter() - began_s, ""


def read_chunk(reader: int) -> bytes:
    """What there is; nothing at the end."""
    try:
        return os.read(reader, 1 << 16)
    except OSError:  # how a terminal says that nobody writes to it any more
        return b""


def news_of(texts: Iterable[tuple[float, str]]) -> Iterator[tuple[float, str]]:
    """(seconds, the last new line) of what shows a line that was not there before."""
    seen = set()
    for at_s, text in texts:
        shown = (line.strip() for line in re.split(r"[\r\n]+", CONTROL.sub("", text)))
        new = [line for line in shown if line not in seen and any(map(str.isalpha, line))]
        if new:
            seen.update(new)
            yield at_s, new[-1]


def silences(news: Sequence[tuple[float, str]], seconds: float) -> list[dict[str, Any]]:
    """Those longer than LONG_S, the longest first: how long, since when, after and before what."""
    moments = [(0.0, NOTHING), *news, (seconds, "(the end)")]
    found = [
        {"seconds": then_s - at_s, "at_s": at_s, "after": after, "before": before}
        for (at_s, after), (then_s, before) in itertools.pairwise(moments)
        if then_s - at_s > LONG_S
    ]
    return sorted(found, key=lambda each: -float(each["seconds"]))


def markdown(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """The page, of whatever runs there are."""
    machine = fingerprint()
    page = [
        "# What a user waits for",
        "",
        f"{time.strftime('%Y-%m-%d')}, {machine.cpu}, {machine.cpus} CPUs, Python "
        f"{machine.python}; `python -m benchmarks.start_up`. Fresh processes, files in the "
        "system's cache.",
        "",
        "| what | s, median | fastest, slowest | times |",
        "|---|---|---|---|",
    ]
    for name in SHORT:
        page += row(f"`{name}`" if " " in name else name, lines, name, "seconds")
    for name in FOLLOWED:
        for key, what in (
            ("first_line_s", "first line"),
            ("first_step_s", "first step"),
            ("seconds", "whole run"),
        ):
            page += row(f"distill, {name}: {what}", lines, name, key)
    commands = {line["command"] for line in lines if "command" in line}
    page += ["", *(f"distill: `compress {command} --no-cache`" for command in sorted(commands))]
    for name in FOLLOWED:
        runs = [line for line in lines if line["name"] == name]
        if runs:
            page += ["", f"## {LONG_S:g} s and more without anything new, on a {name}", ""]
            page += silence_table(runs)
    return [*page, ""]


def row(title: str, lines: Sequence[Mapping[str, Any]], name: str, key: str) -> list[str]:
    """What runs of a name took; nothing where there are none."""
    values = [line[key] for line in lines if line["name"] == name and line.get(key) is not None]
    if not values:
        return []
    ends = f"{min(values):.2f}, {max(values):.2f}"
    return [f"| {title} | {statistics.median(values):.2f} | {ends} | {len(values)} |"]


def silence_table(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of all runs, the longest first."""
    found = [(silence, number) for number, run in enumerate(runs, 1) for silence in run["silences"]]
    if not found:
        return ["None."]
    found.sort(key=lambda each: -float(each[0]["seconds"]))
    return [
        "| run | s | from | the line before it | the next |",
        "|---|---|---|---|---|",
        *(
            f"| {number} | {each['seconds']:.1f} | {each['at_s']:.1f} | {cell(each['after'])} | "
            f"{cell(each['before'])} |"
            for each, number in found
        ),
    ]


def cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    main()
