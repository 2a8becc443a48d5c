"""A run's folder: what it was asked for, how far it is, what came out.

run.json            the resolved configuration, versions, machine, hashes; written first
metrics.jsonl       a line an epoch
last.ckpt           everything that resuming needs, and previous.ckpt the state before
result.json         written last: a folder that has it is finished
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

from compress.errors import InputError, RunFolderError, UsageError
from compress.files import (
    clear_up,
    read_json,
    read_text,
    sha256_of,
    try_lock,
    write_json,
    write_text,
)
from compress.results import SCHEMA_VERSION
from compress.schema import decode, parse_json
from compress.schema.rules import Epochs
from compress.training.option_names import option_of, shown

RUN, METRICS, RESULT = "run.json", "metrics.jsonl", "result.json"
# Entries of run.json: hashes of the files that the run has made, and by what and where it went on.
FILES, CONTINUED = "files", "continued"
# What a file is called besides that lies in the place of one that the run made.
REPLACED = ".replaced"
# What the bits of a training depend on, of a machine.
OF_BITS = ("cpu", "isa", "gpu")
# What a run writes before its training has saved anything.
BEFORE_TRAINING = (RUN, "choice.json", "tradeoff.csv", "teacher.onnx")
RECORDED_PACKAGES = (
    "compress-distill",
    "torch",
    "torchvision",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "openvino",
)


T = TypeVar("T")

_MEND = "Give --out another folder."


@dataclass(frozen=True)
class _RunFile:
    """What run.json has to have."""

    config: dict[str, Any]


@dataclass(frozen=True)
class _Epoch:
    """What a line of metrics.jsonl has to have."""

    epoch: Epochs


class RunFolder:
    """One run's folder, opened for one configuration.

    Nothing is written or removed before ``begin``.

    Args:
        path: the folder itself.
        config: everything that the result depends on, JSON values only. An existing run with
            another configuration is not touched, unless it never came to save any training.

    Raises:
        RunFolderError: the folder holds another run, or files that are no run's.
        UsageError: the folder cannot be read.
    """

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        self.path = path
        self.config = json.loads(json.dumps(config))
        try:
            held = {entry.name for entry in path.iterdir()} if path.exists() else set()
        except OSError as error:
            raise UsageError(
                f"Cannot use {path} as a run folder: {error.strerror or error}."
            ) from error
        held = {name for name in held if not name.startswith(".")}
        self._outdated: set[str] = set()
        self.existed = RUN in held
        if self.existed:
            self._compare(held)
        elif held:
            some = ", ".join(sorted(held)[:3])
            raise RunFolderError(
                f"{path} is not a run folder: it has no {RUN} but holds {some}. "
                "Give --out a new or empty folder."
            )

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return (self.path / RESULT).exists()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keeps other processes out of the folder for as long as the block lasts.

        Raises:
            RunFolderError: another process is at this run.
            UsageError: the folder cannot be written to.
        """
        with try_lock(self.path) as mine:
            if not mine:
                raise RunFolderError(
                    f"Another process uses the run folder {self.path}. Wait for it, or give --out "
                    "another folder."
                )
            clear_up(self.path)
            yield

    def begin(self, facts: Mapping[str, Any]) -> str:
        """Writes run.json, once: the configuration, and ``facts`` that explain the result.

        A run that goes on by other versions, or on another processor, may end with other bits than
        one that does not. That is added to run.json, each time that it happens.

        Returns:
            a sentence that says so; empty where nothing has changed.
        """
        if self.existed:
            return self._go_on(facts)
        # What holds anything has to hold run.json; that one is replaced below.
        for name in self._outdated - {RUN}:
            (self.path / name).unlink(missing_ok=True)
        write_json(
            self.path / RUN,
            {
                "schema_version": SCHEMA_VERSION,
                "started": datetime.now(UTC).isoformat(timespec="seconds"),
                "config": self.config,
                "versions": installed_versions(),
                **facts,
            },
        )
        self.existed = True
        return ""

    def _go_on(self, facts: Mapping[str, Any]) -> str:
        run = self.facts()
        earlier = run.get(CONTINUED)
        earlier = earlier if isinstance(earlier, list) else []
        last = earlier[-1] if earlier and isinstance(earlier[-1], dict) else run
        now = {"versions": installed_versions(), "machine": facts.get("machine")}
        changed = list(_changes(last, now))
        if not changed:
            return ""
        when = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(self.path / RUN, run | {CONTINUED: [*earlier, {"when": when, **now}]})
        return (
            f"{self.path} resumes with {'; '.join(changed)}, so its student may differ in the "
            f"last bits from that of an uninterrupted run. {RUN} records both."
        )

    def keep(self, *names: str) -> None:
        """Notes in run.json the hashes of files that are whole now; needs ``begin``."""
        run = self.facts()
        known = run.get(FILES)
        known = known if isinstance(known, dict) else {}
        now = {name: sha256_of(self.path / name) for name in names}
        write_json(self.path / RUN, run | {FILES: known | now})

    def is_whole(self, name: str) -> bool:
        """Whether a file is there and is the one that ``keep`` noted."""
        known = self.facts().get(FILES)
        path = self.path / name
        return isinstance(known, dict) and path.is_file() and known.get(name) == sha256_of(path)

    def reopen(self, names: Sequence[str]) -> str:
        """Makes a finished run one that goes on, where files of it are not what they were.

        A file that is another one is kept under another name. Needs ``alone``.

        Args:
            names: of files that ``keep`` has noted.

        Returns:
            what was found, a sentence; empty where all are whole, and then nothing is changed.
        """
        found = []
        for name in (name for name in names if not self.is_whole(name)):
            path = self.path / name
            if path.is_file() and path.stat().st_size:
                aside = path.with_name(f"{name}{REPLACED}")
                path.replace(aside)
                found.append(f"{name} is not the file that the run made (it is now {aside.name})")
            else:
                found.append(f"{name} is {'empty' if path.is_file() else 'missing'}")
                path.unlink(missing_ok=True)
        if not found:
            return ""
        # What it says of those files is not true any more.
        (self.path / RESULT).unlink(missing_ok=True)
        return f"{self.path} is finished, but {', '.join(found)}. It is made again."

    def note(self, name: str, value: Mapping[str, Any]) -> None:
        """Adds to run.json what was decided in the course of the run; needs ``begin``."""
        write_json(self.path / RUN, self.facts() | {name: dict(value)})

    def facts(self) -> dict[str, Any]:
        """What run.json says.

        Raises:
            RunFolderError: it is damaged.
        """
        path = self.path / RUN
        values: dict[str, Any] = read_json(path, error=RunFolderError)
        where = f"{path} does not describe a run"
        decode(_RunFile, values, where, error=RunFolderError, mend=_MEND, beside=("*",))
        return values

    def write_metrics(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Writes metrics.jsonl, one line an epoch."""
        lines = (json.dumps(metrics) + "\n" for metrics in history)
        write_text(self.path / METRICS, "".join(lines))

    def finish(self, result: Mapping[str, Any]) -> None:
        """Writes result.json."""
        write_json(self.path / RESULT, {"schema_version": SCHEMA_VERSION, **result})

    def result(self, layout: type[T], *, beside: Sequence[str] = ("schema_version",)) -> T:
        """What result.json says.

        Args:
            layout: what it has to have, a dataclass.
            beside: keys that it may have besides; "*" for any.

        Raises:
            RunFolderError: it is damaged.
        """
        path = self.path / RESULT
        values = read_json(path, error=RunFolderError)
        where = f"{path} does not describe a result"
        return decode(layout, values, where, error=RunFolderError, mend=_MEND, beside=beside)

    def _compare(self, held: set[str]) -> None:
        was = self.facts()["config"]
        changed = list(_differences(was, self.config))
        if not changed:
            return
        if held <= set(BEFORE_TRAINING):
            # It was refused or stopped before there was anything to lose.
            self._outdated = held
            self.existed = False
            return
        raise RunFolderError(
            f"{self.path} holds a run with another configuration: {'; '.join(changed)}. Give "
            "--out another folder, or the same options to resume."
        )


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl, up to one that is damaged; none where there is no file."""
    found: list[dict[str, Any]] = []
    try:
        for line in read_text(path, "a file of metrics").splitlines():
            values = parse_json(line, "it")
            decode(_Epoch, values, "it", beside=("*",))
            found.append(decode(dict[str, float | str | None], values, "it"))
    except InputError:
        return found
    return found


def _differences(there: Any, asked: Any, name: str = "") -> Iterator[str]:
    """What differs between two configurations, a phrase each: '--lr: 0.1 there, 0.2 asked for'."""
    if isinstance(there, dict) and isinstance(asked, dict):
        for key in sorted(there.keys() | asked.keys()):
            below = f"{name}.{key}" if name else key
            if key in there and key in asked:
                yield from _differences(there[key], asked[key], below)
            elif key in there:
                there_is = shown(below, there[key])
                yield f"{option_of(below)}: {there_is} there, unknown to this version"
            else:
                wanted = shown(below, asked[key])
                yield f"{option_of(below)}: not set there, {wanted} here"
    elif there != asked:
        told = option_of(name)
        yield f"{told}: {shown(name, there)} there, {shown(name, asked)} here"


def _changes(last: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What is another now of what the bits of a training depend on, a phrase each."""
    for name, entries in (("versions", RECORDED_PACKAGES), ("machine", OF_BITS)):
        there, here = last.get(name), now.get(name)
        if not (isinstance(there, dict) and isinstance(here, dict)):
            continue
        for entry in entries:
            if there.get(entry) != here.get(entry):
                yield f"{entry} {_plain(here.get(entry))}, not {_plain(there.get(entry))}"


def _plain(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def installed_versions() -> dict[str, str]:
    """Python's version and those of the packages that a result depends on."""
    versions = {"python": platform.python_version()}
    for package in RECORDED_PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
