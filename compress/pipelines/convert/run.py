"""The stages of a conversion: read or export, reduce the precision, build an engine, time it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from compress.engines.package import import_package, package_named
from compress.engines.sidecar import EngineFile
from compress.errors import DataError, UsageError
from compress.exporting.artifact import read_artifact, write_normalization
from compress.exporting.conversion import guarded, whole_model
from compress.exporting.fidelity import Proof
from compress.exporting.parity import Array
from compress.exporting.precision import reduced_from_onnx
from compress.exporting.quantize import Quantization
from compress.exporting.to_tensorrt import engine_from_onnx
from compress.files import atomic_path
from compress.gate.precision import PrecisionRule
from compress.onnx_file import is_onnx
from compress.pipelines.convert.reading import FloatFile, export_checkpoint, read_onnx, told
from compress.pipelines.convert.request import ONNX, Conversion, ConvertRequest
from compress.pipelines.reduced_precision import LossLimit, calibration_images, reduce_precision
from compress.profiling.machine import default_threads
from compress.profiling.registry import RUNTIMES
from compress.profiling.timing import time_model
from compress.results import Artifact, Estimate, Fidelity
from compress.scratch import scratch_folder
from compress.spec import AUTO, Normalization, Target
from compress.tradeoff.precisions import try_files
from compress.tradeoff.trials import PrecisionTrial

# No further round of the timing of an engine begins after so long.
TIMING_S = 20.0

Say = Callable[[str], None]


def convert(request: ConvertRequest, *, say: Say = lambda _: None) -> Conversion:
    """Makes the file and proves it, each step against the one before.

    An engine has FILE.json beside it, and FILE.onnx where the ONNX file that it was built from was
    made on the way.

    Args:
        request: what is asked for.
        say: is told what is being done, and what an engine's builder warns of.

    Raises:
        CheckpointError, ModelFileError, DataError, UsageError: what was given cannot be used.
        ExportError: a tool cannot do it.
        ParityError: a file is not the same function.
        PrecisionLost: the reduced precision costs too much.
        Inconclusive: whether it does is not decided by the images that there are.
    """
    if request.target != ONNX:
        import_package(package_named(request.target))
    with scratch_folder("export") as folder:
        # Beside an engine the ONNX file is written once there is the engine.
        path = request.output if request.target == ONNX else folder / request.typed.name
        floats = _float_file(request, path, folder, say)
        reduced = _reduced(request, floats, path, folder, say)
        artifact = _stating(request, reduced.artifact, floats.normalization, folder)
        engine = None
        if request.target != ONNX:
            artifact, engine = _engine(request, artifact, floats.images.first, say)
        return Conversion(
            artifact=artifact,
            name=artifact.spec.name if artifact.spec else request.model.name,
            parity=floats.parity,
            fidelity=reduced.fidelity,
            engine=engine,
            on="seeded inputs" if request.data is None else "validation images",
            notes=(*floats.notes, *reduced.notes),
            trials=reduced.trials,
            latencies=_latencies(request, engine, say),
        )


@dataclass(frozen=True)
class _Reduced:
    """The ONNX file in the precision that was asked for.

    Attributes:
        artifact: the file.
        fidelity: to the float32 one; None where it is that.
        notes: what was found, in sentences.
        trials: what AUTO found of each precision.
    """

    artifact: Artifact
    fidelity: Fidelity | None = None
    notes: tuple[str, ...] = ()
    trials: tuple[PrecisionTrial, ...] = ()


def _float_file(request: ConvertRequest, path: Path, folder: Path, say: Say) -> FloatFile:
    """The float32 ONNX file: the given one, or the checkpoint's."""
    if is_onnx(request.model):
        return read_onnx(request, folder, say)
    last = request.precision == "fp32"
    return export_checkpoint(request, path if last else folder / "float.onnx", say)


def _reduced(
    request: ConvertRequest, floats: FloatFile, path: Path, folder: Path, say: Say
) -> _Reduced:
    """The file in the precision that was asked for, or in the fastest one here."""
    if request.precision == "fp32":
        return _Reduced(read_artifact(floats.path))
    if request.precision == AUTO:
        return _fastest(request, floats, folder, say)
    return _in_precision(request, floats, request.precision, path, say)


def _in_precision(
    request: ConvertRequest, floats: FloatFile, precision: str, path: Path, say: Say
) -> _Reduced:
    """The float32 file in reduced precision; none is left that may lose too much.

    Raises:
        PrecisionLost, Inconclusive: it does, or that is not decided.
    """
    notes: list[str] = []

    def note(text: str) -> None:
        notes.extend(told(say, text))

    activations = "uint8" if request.target == ONNX else "int8"
    if request.precision == AUTO:
        activations = RUNTIMES[request.runtime].activations
    convert_to = partial(
        reduced_from_onnx,
        floats.path,
        path,
        precision,
        calibration=lambda: _calibration(request, floats.normalization, note),
        options=Quantization(
            method=request.method, activations=activations, float_layers=request.float_layers
        ),
    )
    say(f"Converting to {precision}.")
    if request.data is None:
        artifact, fidelity = convert_to(proof=floats.images.first)
    else:
        limit = LossLimit(PrecisionRule(request.max_loss), request.data)
        artifact, fidelity = reduce_precision(
            convert_to,
            floats.images,
            limit,
            precision,
            refuse=request.model.name,
            say=note,
        )
    if left := artifact.conversion.get("in_float"):
        note(f"The quantiser does not reach these, so they are not in {precision}: {left}.")
    return _Reduced(artifact, fidelity, tuple(notes))


def _fastest(request: ConvertRequest, floats: FloatFile, folder: Path, say: Say) -> _Reduced:
    """The file in the precision that is the fastest here of those that lose little enough."""
    target = Target(
        runtime=request.runtime,
        device=RUNTIMES[request.runtime].device,
        threads=default_threads(),
    )
    # As it would ship: weights that lie beside the file, or among its inputs, are within it.
    whole = folder / "fp32.onnx"
    whole.write_bytes(whole_model(floats.path))
    found: dict[str, _Reduced] = {}

    def make(precision: str, path: Path) -> None:
        found[precision] = _in_precision(request, floats, precision, path, say)

    tried = try_files(
        whole, make, folder, name="it", target=target, batch=request.batches[0], say=say
    )
    trials = {trial.precision: trial for trial in tried}
    faster = {
        name: trial.ratio.value
        for name, trial in trials.items()
        if trial.eligible and trial.ratio is not None
    }
    chosen = min(faster, key=lambda name: faster[name], default="fp32")
    for name, trial in trials.items():
        fidelity = found[name].fidelity if name in found else None
        if trial.ratio is not None and fidelity is not None:
            metric = floats.images.first.task.metric
            ours, theirs = (
                metric.text(score or 0.0) for score in (fidelity.score, fidelity.float_score)
            )
            scores = f"{metric.name} {ours} on {fidelity.images:,} images, against {theirs} in fp32"
            trials[name] = replace(trial, why=f"{trial.why}; {scores}")
    with atomic_path(request.output) as temporary:
        shutil.copyfile(whole if chosen == "fp32" else folder / f"{chosen}.onnx", temporary)
    return _Reduced(
        read_artifact(request.output),
        found[chosen].fidelity if chosen in found else None,
        tuple(text for each in found.values() for text in each.notes),
        tuple(replace(trial, eligible=name == chosen) for name, trial in trials.items()),
    )


def _stating(
    request: ConvertRequest, artifact: Artifact, normalization: Normalization | None, folder: Path
) -> Artifact:
    """The file with its normalisation, where it was said or found out; never the given one."""
    said = artifact.normalization
    if normalization is None or (normalization == said and not said.of_bytes):
        return artifact
    path = artifact.path
    if path == request.model:
        path = folder / path.name
    with guarded(f"The normalisation cannot be written into {path.name}", "onnx"):
        return write_normalization(artifact.path, path, normalization)


def _engine(
    request: ConvertRequest, source: Artifact, proof: Proof, say: Say
) -> tuple[Artifact, EngineFile]:
    """The engine of an ONNX file, which is put beside it where it was made on the way."""
    say(f"Building an engine with {request.target}.")
    artifact, engine = engine_from_onnx(
        source.path,
        request.output,
        package=request.target,
        batches=request.batches,
        proof=proof,
        say=say,
    )
    if source.path != request.model:
        with atomic_path(request.typed) as temporary:
            shutil.copyfile(source.path, temporary)
    return artifact, engine


def _latencies(request: ConvertRequest, engine: EngineFile | None, say: Say) -> dict[int, Estimate]:
    """What a call of an engine takes, by its batch; nothing where there is no GPU."""
    if engine is None or engine.gpu is None:
        return {}
    latencies = {}
    for batch in request.batches:
        say(f"Timing the engine with batch {batch}.")
        timing = time_model(request.output, batch=batch, runtime=request.target, max_s=TIMING_S)
        latencies[batch] = timing.median
    return latencies


def _calibration(request: ConvertRequest, normalization: Normalization | None, note: Say) -> Array:
    """Training images of all classes alike, as the network takes them."""
    data = request.calibration or request.data
    if data is None:  # pragma: no cover - the request was refused
        raise UsageError("There are no images for calibration.")
    if len(data.train) == 0:
        raise DataError(f"{data.name} has no training images to calibrate on.")
    taken = normalization or (request.data or data).normalization
    images = calibration_images(data, taken, request.calibration_images)
    note(f"Calibrated on {len(images):,} training images of {data.name}, by {request.method}.")
    return images
