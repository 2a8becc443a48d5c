"""compress-baseline.json: what a candidate is compared with, made for git and for review.

Only ``update`` writes it. A digest over its content shows that it was damaged, or edited by
somebody who did not make the digest again; it is no signature. The model itself lies beside it, so
that it can be timed and scored again wherever the check runs. Its name has its hash in it: that of
an older baseline stays until the new one is written, so that an update that is killed leaves
either.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from compress import defaults
from compress.errors import InputError, ModelFileError, UsageError
from compress.files import (
    atomic_path,
    check_writable,
    is_lfs_pointer,
    read_json,
    sha256_of,
    write_text,
)
from compress.gate.latency import spread_of
from compress.gate.measuring import Settings
from compress.gate.signature import Signature
from compress.profiling.machine import fingerprint
from compress.results import SCHEMA_VERSION, Estimate, Machine
from compress.schema import Decoder, decode_or_none
from compress.schema.rules import (
    Beside,
    Check,
    FileName,
    FilePath,
    Length,
    Name,
    Number,
    Positive,
    Sha256,
    Side,
)
from compress.schema.words import shown
from compress.spec import Normalization
from compress.tasks.task import Evidence, Metric
from compress.version import __version__

FILE = Path(defaults.BASELINE)
SIGNIFICANT = 6
VERSIONS = ("numpy", "onnx")

# What a latency depends on, of a machine; the engine's version is compared besides.
FIELDS = ("cpu", "isa", "cpus", "cores", "virtual", "system", "gpu", "driver")

# Values of the images of one call; 2 GiB.
MOST_VALUES = 2**29
# Hexadecimal digits of a model's hash in the name of its copy.
HASH_SHOWN = 12
_COPY = re.compile(rf"([0-9a-f]{{{HASH_SHOWN}}})\.onnx")


_MEND = "Restore the committed file, or write a new one with `compress baseline update`."


def _no_normalization(values: object) -> str:
    right = decode_or_none(Normalization, values) is not None
    return "" if right else "has no mean and standard deviation of each channel"


def _not_positive(ratios: tuple[Estimate, ...]) -> str:
    ordered = all(0 < each.low <= each.value <= each.high for each in ratios)
    return "" if ordered else "has a ratio that is not positive, or not in its interval"


@dataclass(frozen=True)
class Model:
    """The model of a baseline.

    Attributes:
        file: relative to the baseline's folder.
        sha256, size_bytes: of the file.
        name: of its architecture, or of the file that it was.
        precision: of weights and activations.
        normalization: mean and standard deviation that it was scored with.
    """

    file: FileName
    sha256: Sha256
    size_bytes: Number
    name: Name
    precision: Name
    normalization: Annotated[Mapping[str, list[float]], Check(_no_normalization)]


@dataclass(frozen=True)
class EvaluationSet:
    """The images that it was scored on.

    Attributes:
        source: what --data was: a known name, or a path relative to the baseline's folder.
        image_size: what --image-size was.
        name: of the data set.
        sha256: of the test images and labels, in their order.
        n: how many.
    """

    source: FilePath
    image_size: Side | None
    name: Name
    sha256: Sha256
    n: Number


@dataclass(frozen=True)
class TimedTeacher:
    """Another model that the baseline was timed beside, in several processes.

    Attributes:
        file, sha256: as for the model; the file is not copied.
        ratios: time(baseline) / time(teacher) of each process.
    """

    file: FilePath
    sha256: Sha256
    ratios: Annotated[tuple[Estimate, ...], Length(1, 1000), Check(_not_positive)]

    @property
    def values(self) -> tuple[float, ...]:
        """The ratios without their intervals."""
        return tuple(each.value for each in self.ratios)

    def __str__(self) -> str:
        shown = ", ".join(f"{value:.4f}" for value in self.values)
        return (
            f"time to that of {self.file}, in {len(self.values)} processes: {shown}, a spread of "
            f"{spread_of(self.values):.2%}"
        )


@dataclass(frozen=True)
class Baseline:
    """What the file says.

    Attributes:
        model, evaluation_set, teacher: see there; there may be no teacher.
        signature: of the model: its task, the images that it takes, how it answers them.
        settings: that it was measured with, and candidates are.
        evidence: what each test image contributes to its score.
        latency: its median call in seconds, on ``machine``.
        machine: where that was.
        reason: why the baseline was made or changed.
        created: when, UTC.
        versions: of packages.
        path: of the file that it was read from.
    """

    model: Model
    evaluation_set: EvaluationSet
    signature: Signature
    settings: Settings
    evidence: Evidence
    latency: Estimate
    machine: Mapping[str, Any]
    reason: str
    created: str
    versions: Mapping[str, str]
    teacher: TimedTeacher | None
    path: Path

    @property
    def metric(self) -> Metric:
        """Of its score."""
        return self.signature.task.metric

    @property
    def normalization(self) -> Normalization:
        """That the model was scored with."""
        mean, std = (tuple(self.model.normalization[key]) for key in ("mean", "std"))
        return Normalization(mean, std)

    @property
    def model_path(self) -> Path | None:
        """The model's file; None where there is none.

        Raises:
            ModelFileError: there is another file in its place.
        """
        return self._file(self.model.file, self.model.sha256)

    @property
    def teacher_path(self) -> Path | None:
        """The teacher's file; None where there is none.

        Raises:
            ModelFileError: there is another file in its place.
        """
        return None if self.teacher is None else self._file(self.teacher.file, self.teacher.sha256)

    def _file(self, name: str, sha256: str) -> Path | None:
        path = self.path.parent / name
        if not path.is_file():
            return None
        found = sha256_of(path)
        if found == sha256:
            return path
        with path.open("rb") as file:
            pointer = is_lfs_pointer(file.read(64))
        mend = (
            "It is a Git LFS pointer: fetch the file with `git lfs pull`."
            if pointer
            else f"Restore the committed file (`git checkout -- {path}`), or make a new baseline "
            "with `compress baseline update`, which writes both."
        )
        raise ModelFileError(
            f"{path} is not the file that {self.path} was made from: its SHA-256 is "
            f"{found[:12]}..., not {sha256[:12]}... {mend}"
        )

    def differences(self, here: Machine, fields: tuple[str, ...] = FIELDS) -> tuple[str, ...]:
        """In what this machine differs from the one that the baseline was made on, in words."""
        then, now = self.machine, here.to_dict()
        found = [
            f"{field} {_shown(now[field])}, not {_shown(then[field])}"
            for field in fields
            if now[field] != then[field]
        ]
        return (*found, *self.engine_differences(here))

    def engine_differences(self, here: Machine) -> tuple[str, ...]:
        """In what the engine that runs the models differs from that of the baseline, in words."""
        family = self.settings.runtime.partition("-")[0]
        then = self.machine["engines"]
        return tuple(
            f"{name} {here.engines.get(name, 'none')}, not {then.get(name, 'none')}"
            for name in sorted({*then, *here.engines})
            if name.partition("-")[0] == family and here.engines.get(name) != then.get(name)
        )

    def to_dict(self) -> dict[str, Any]:
        """What the file holds, its digest among it."""
        teacher = self.teacher
        content = {
            self.metric.name: self.evidence.to_dict(),
            "created": self.created,
            "evaluation_set": asdict(self.evaluation_set),
            "latency_ms": _rounded(self.latency.to_dict(1e3, "median")),
            "machine": dict(self.machine),
            "model": asdict(self.model),
            "reason": self.reason,
            "schema_version": SCHEMA_VERSION,
            "settings": asdict(self.settings)
            | {"shape": None if self.settings.shape is None else list(self.settings.shape)},
            "task": asdict(self.signature) | {"image_shape": list(self.signature.image_shape)},
            "teacher": None
            if teacher is None
            else {
                "file": teacher.file,
                "ratios": [_rounded(each.to_dict()) for each in teacher.ratios],
                "sha256": teacher.sha256,
                "spread": float(f"{spread_of(teacher.values):.{SIGNIFICANT}g}"),
            },
            "versions": dict(self.versions),
        }
        return content | {"digest": digest_of(content)}


def read_baseline(path: Path) -> Baseline:
    """Reads a baseline and makes sure that it is as it was written.

    Raises:
        InputError: there is none, it is damaged, of a newer version, or was edited by hand.
    """
    if not path.exists():
        raise InputError(
            f"There is no baseline {path}. Make one with `compress baseline update MODEL.onnx "
            "--data DATA --reason WHY`, or name another with --baseline."
        )
    content = read_json(path)
    if not isinstance(content, dict) or "digest" not in content:
        raise InputError(f"{path} is not a baseline: it has no digest. {_MEND}")
    schema = content.get("schema_version")
    if schema != SCHEMA_VERSION:
        raise InputError(
            f"{path} has schema_version {shown(schema)}, but compress {__version__} reads "
            f"{SCHEMA_VERSION}. Use the version that wrote it, or make the baseline again."
        )
    if digest_of(content) != content["digest"]:
        raise InputError(
            f"{path} was edited by hand or damaged: its digest does not match its content. {_MEND}"
        )
    stored, evidence = _decoded(content, f"{path} is not a baseline")
    latency = stored.latency_ms
    return Baseline(
        model=stored.model,
        evaluation_set=stored.evaluation_set,
        signature=stored.task,
        settings=stored.settings,
        evidence=evidence,
        latency=Estimate(latency.median / 1e3, latency.low / 1e3, latency.high / 1e3),
        machine=stored.machine.to_dict(),
        reason=stored.reason,
        created=stored.created,
        versions=stored.versions,
        teacher=stored.teacher,
        path=path,
    )


def write_baseline(baseline: Baseline, model: Path) -> None:
    """Copies the model beside the baseline, writes the baseline, and removes older copies.

    Killed at any moment it leaves the old baseline with its model or the new one with its own; at
    most a copy that none of them names, which the next update removes.

    Raises:
        UsageError: the folder cannot be written to, or another file has the name of the copy.
    """
    target = check_target(baseline.path, baseline.model.file, baseline.model.sha256)
    if not target.exists():
        with atomic_path(target) as temporary:
            copy(model, temporary)
    write_text(
        baseline.path,
        json.dumps(
            baseline.to_dict(), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False
        )
        + "\n",
    )
    remove_older(baseline)


def name_of_copy(output: Path, sha256: str) -> str:
    """What the copy of a baseline's model is called: compress-baseline.0123456789ab.onnx."""
    return f"{output.stem}.{sha256[:HASH_SHOWN]}.onnx"


def check_target(output: Path, file: str, sha256: str) -> Path:
    """Where the copy of a baseline's model is going to be.

    Args:
        output: the baseline.
        file: name of the copy.
        sha256: of the model.

    Raises:
        UsageError: as ``write_baseline``.
    """
    check_writable(output)
    target = output.parent / file
    if target.exists() and sha256_of(target) != sha256:
        raise UsageError(
            f"{target} does not have the content that its name states, and the baseline's model "
            "belongs there. It is damaged or a Git LFS pointer. Remove it and try again."
        )
    return target


def copy(source: Path, target: Path) -> None:
    """Copies a file.

    Raises:
        UsageError: it cannot be read. That the target cannot be written is whoever opened it told.
    """
    try:
        with source.open("rb") as given:
            content = given.read()
    except OSError as error:
        raise UsageError(f"Cannot read {source}: {error.strerror or error}.") from error
    target.write_bytes(content)


def remove_older(baseline: Baseline) -> None:
    """Removes copies of models that earlier updates have put beside the baseline.

    Only what has the name that an update gives, and the content that its name says.
    """
    stem = baseline.path.stem
    for path in baseline.path.parent.glob(f"{glob.escape(stem)}.*.onnx"):
        found = _COPY.fullmatch(path.name.removeprefix(f"{stem}."))
        if found is None or path.name == baseline.model.file or not path.is_file():
            continue
        # One that cannot be read or removed is in nobody's way.
        with contextlib.suppress(OSError, InputError):
            if sha256_of(path).startswith(found[1]):
                path.unlink(missing_ok=True)


def describe_model(
    path: Path,
    output: Path,
    *,
    name: str,
    precision: str,
    size_bytes: int,
    normalization: Mapping[str, list[float]],
) -> Model:
    """The model of a baseline that is going to be written to ``output``.

    Raises:
        ModelFileError: it keeps weights in other files.
    """
    if size_bytes > path.stat().st_size:
        raise ModelFileError(
            f"{path} keeps weights in other files, but a baseline's model must be one file. "
            "Export it into one: torch.onnx.export(..., external_data=False)."
        )
    sha256 = sha256_of(path)
    return Model(
        file=name_of_copy(output, sha256),
        sha256=sha256,
        size_bytes=size_bytes,
        name=name,
        precision=precision,
        normalization=normalization,
    )


def relative_to(path: Path, folder: Path) -> str:
    """A path as it is written into a file of that folder; absolute where there is no way."""
    try:
        return Path(os.path.relpath(path.absolute(), folder.absolute())).as_posix()
    except ValueError:  # another drive
        return path.absolute().as_posix()


def today() -> str:
    """The date and time, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Of this package and of those that a model's figures may depend on beside its engine."""
    return {"compress": __version__, **{name: version(name) for name in VERSIONS}}


def machine_here() -> dict[str, Any]:
    """This machine as a baseline has it."""
    return fingerprint().to_dict()


def digest_of(content: Mapping[str, Any]) -> str:
    """SHA-256 of everything but the digest itself; spaces and order of keys are nothing."""
    rest = {key: value for key, value in content.items() if key != "digest"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    # As write_text writes a path that is not UTF-8.
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()


@dataclass(frozen=True)
class _Latency:
    """The median call in milliseconds, as the file has it."""

    median: Positive
    low: Positive
    high: Positive

    def __post_init__(self) -> None:
        if not self.low <= self.median <= self.high:
            raise ValueError(f"{self.low:g} <= {self.median:g} <= {self.high:g} does not hold")


@dataclass(frozen=True)
class _Stored:
    """What the file holds."""

    created: Name
    digest: Sha256
    evaluation_set: EvaluationSet
    latency_ms: _Latency
    machine: Annotated[Machine, Beside(("digest",))]
    model: Model
    reason: str
    schema_version: int
    settings: Settings
    task: Signature
    teacher: Annotated[TimedTeacher, Beside(("spread",))] | None
    versions: dict[str, str]

    def __post_init__(self) -> None:
        if self.settings.batch * math.prod(self.task.image_shape) > MOST_VALUES:
            raise ValueError(
                f"settings.batch is {self.settings.batch} images of task.image_shape "
                f"{list(self.task.image_shape)}, more than {MOST_VALUES:,} values in a call"
            )


def _decoded(content: Mapping[str, Any], where: str) -> tuple[_Stored, Evidence]:
    """What the file holds; the evidence lies there as its task has it, under the score's name.

    Raises:
        InputError: with everything that is wrong.
    """
    decoder = Decoder()
    signature = decode_or_none(Signature, content.get("task"))
    # Without a task nothing but the task can be told.
    key = "*" if signature is None else signature.task.metric.name
    stored = decoder.value(Annotated[_Stored, Beside((key,))], content, "")
    held = None
    if signature is not None and key in content:
        held = decoder.value(signature.task.stored, content[key], key)
    elif signature is not None:
        decoder.fault(key, "is missing")
    if stored is not None and held is not None:
        images, there = len(held.evidence), stored.evaluation_set.n
        if images != there:
            decoder.fault(key, f"is of {images} images and evaluation_set.n is {there}")
    decoder.refuse(where, mend=_MEND)
    if held is None:  # pragma: no cover - was refused
        raise InputError(f"{where}: it has no {key}. {_MEND}")
    return stored, held.evidence


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {key: float(f"{value:.{SIGNIFICANT}g}") for key, value in values.items()}


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
