"""The stages of a conversion: read or export, narrow, prove, build an engine."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from compress.data.classes import class_note, renumbered
from compress.data.dataset import Split
from compress.data.normalization import Normalized, normalize, note_on_scale
from compress.engines.package import import_package, package_named
from compress.errors import (
    CompressError,
    DataError,
    Inconclusive,
    ModelFileError,
    PrecisionLost,
    UsageError,
)
from compress.exporting.artifact import read_artifact, write_normalization, write_output_name
from compress.exporting.conversion import float_images, guarded, image_shape, whole_model
from compress.exporting.fidelity import Proof
from compress.exporting.parity import Array, check_batch, seeded_images
from compress.exporting.precision import narrowed_from_onnx
from compress.exporting.quantize import Quantization
from compress.exporting.to_onnx import onnx_from_torch
from compress.exporting.to_tensorrt import engine_from_onnx
from compress.files import atomic_path, sha256_of
from compress.gate.precision import PrecisionRule, more_images
from compress.gate.verdict import Outcome
from compress.models.checkpoint import read_tensors
from compress.models.hypothesis import instantiate
from compress.models.network import Network
from compress.models.statement import statement_of, structure
from compress.onnx_file import is_onnx
from compress.pipelines.convert.request import ONNX, Conversion, Request
from compress.profiling.machine import default_threads
from compress.profiling.registry import RUNTIMES
from compress.profiling.timing import time_model, time_models
from compress.results import Artifact, Fidelity, Parity
from compress.scratch import scratch_folder
from compress.spec import AUTO, PRECISIONS, Normalization, Target
from compress.tasks.classification import Paired
from compress.tasks.registry import unstated
from compress.tradeoff.precisions import FLOAT, PrecisionTrial, not_run, run_once, timed
from compress.training.evaluation import file_predictor, predictor, stratified_sample
from compress.training.identification import identify
from compress.training.naming import believed_score
from compress.training.probing import check_channels, known_normalizations, probe_normalization
from compress.training.scoring import check_width
from compress.units import format_percent

# No further round of the timing for AUTO begins after so long.
TIMING_S = 20.0


def convert(
    request: Request,
    *,
    say: Callable[[str], None] = lambda _: None,
) -> Conversion:
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
        PrecisionLost: fewer bits cost too much.
        Inconclusive: whether they do is not decided by the images that there are.
    """
    if request.target != ONNX:
        import_package(package_named(request.target))
    with scratch_folder("export") as folder:
        return _Conversion(request, folder, say).run()


class _Conversion:
    """One conversion; an object because its steps share the request and what they found."""

    def __init__(
        self,
        request: Request,
        folder: Path,
        say: Callable[[str], None],
    ) -> None:
        self.request, self.folder = request, folder
        self.say = say
        self.notes: list[str] = []
        self.parity: Parity | None = None
        self.fidelity: Fidelity | None = None
        self.trials: tuple[PrecisionTrial, ...] = ()
        # All images, where the proof is on a part of them.
        self.whole_proof: Proof | None = None
        # Why it is not decided what fewer bits cost; "" where it is.
        self.undecided = ""

    def run(self) -> Conversion:
        request = self.request
        # Beside an engine it is written once there is the engine.
        typed = request.output if request.target == ONNX else self.folder / request.typed.name
        if is_onnx(request.model):
            floats, normalization, proof = self._read_onnx()
        else:
            last = request.precision == "fp32"
            floats, normalization, proof = self._export(
                typed if last else self.folder / "float.onnx"
            )
        artifact = read_artifact(floats)
        if request.precision == AUTO:
            artifact, self.fidelity = self._fastest(floats, normalization, proof)
        elif request.precision != "fp32":
            artifact, self.fidelity = self._convert(
                request.precision, floats, typed, normalization, proof
            )
        artifact = self._stating(artifact, normalization)
        engine = None
        if request.target != ONNX:
            source = artifact
            self.say(f"Building an engine with {request.target}.")
            artifact, engine = engine_from_onnx(
                source.path,
                request.output,
                package=request.target,
                batches=request.batches,
                proof=proof,
                say=self.say,
            )
            if source.path != request.model:
                with atomic_path(request.typed) as temporary:
                    shutil.copyfile(source.path, temporary)
        latencies = {}
        if engine is not None and engine.gpu is not None:
            for batch in request.batches:
                self.say(f"Timing the engine with batch {batch}.")
                timing = time_model(
                    request.output, batch=batch, runtime=request.target, max_s=TIMING_S
                )
                latencies[batch] = timing.median
        return Conversion(
            artifact=artifact,
            name=artifact.spec.name if artifact.spec else request.model.name,
            parity=self.parity,
            fidelity=self.fidelity,
            engine=engine,
            on="seeded inputs" if request.data is None else "validation images",
            notes=tuple(self.notes),
            trials=self.trials,
            latencies=latencies,
        )

    def _stating(self, artifact: Artifact, normalization: Normalization | None) -> Artifact:
        """The file with its normalisation, where it was said or found out; never the given one."""
        said = artifact.normalization
        if normalization is None or (normalization == said and not said.of_bytes):
            return artifact
        path = artifact.path
        if path == self.request.model:
            path = self.folder / path.name
        with guarded(f"The normalisation cannot be written into {path.name}", "onnx"):
            return write_normalization(artifact.path, path, normalization)

    def _fastest(
        self, floats: Path, normalization: Normalization | None, proof: Proof
    ) -> tuple[Artifact, Fidelity | None]:
        """The file in the precision that is the fastest here of those that lose little enough."""
        request = self.request
        batch = request.batches[0]
        target = Target(
            runtime=request.runtime,
            device=RUNTIMES[request.runtime].device,
            threads=default_threads(),
        )
        # As it would ship: weights that lie beside the file, or among its inputs, are within it.
        paths, found = {"fp32": self.folder / "fp32.onnx"}, dict[str, Fidelity]()
        paths["fp32"].write_bytes(whole_model(floats))
        trials = {"fp32": replace(FLOAT, eligible=False)}
        for precision in PRECISIONS[1:]:
            path = self.folder / f"{precision}.onnx"
            trials[precision] = PrecisionTrial(precision, runs=False, eligible=False, why="")
            try:
                _, found[precision] = self._convert(precision, floats, path, normalization, proof)
                run_once(path, target, batch=batch)
                paths[precision] = path
            except ModelFileError as error:
                trials[precision] = replace(trials[precision], why=not_run(target, error))
            except CompressError as error:
                trials[precision] = replace(trials[precision], why=str(error).rstrip("."))
        chosen = "fp32"
        if len(paths) > 1:
            self.say(f"Timing {', '.join(paths)} in {request.runtime}, batch {batch}.")
            timing = time_models(
                paths,
                batch=batch,
                threads=target.threads,
                runtime=request.runtime,
                ratio=1.0,
                max_s=TIMING_S,
            )
            for precision in list(paths)[1:]:
                trial, of = (
                    timed(precision, timing.ratio(precision, "fp32"), "it"),
                    found[precision],
                )
                right = f"{format_percent(of.accuracy or 0.0)} right on {of.images:,} images"
                floats_right = format_percent(of.float_accuracy or 0.0)
                trials[precision] = replace(
                    trial, why=f"{trial.why}; {right}, against {floats_right} in fp32"
                )
            faster = {
                trial.precision: trial.ratio.value
                for trial in trials.values()
                if trial.eligible and trial.ratio is not None
            }
            chosen = min(faster, key=lambda name: faster[name], default=chosen)
        self.trials = tuple(
            replace(trial, eligible=name == chosen) for name, trial in trials.items()
        )
        with atomic_path(request.output) as temporary:
            shutil.copyfile(paths[chosen], temporary)
        return read_artifact(request.output), found.get(chosen)

    def _read_onnx(self) -> tuple[Path, Normalization | None, Proof]:
        """A given ONNX file, its normalisation and what it is to be proved on."""
        request, path = self.request, self._with_output(self.request.model)
        artifact = read_artifact(path)
        if request.precision != "fp32":
            float_images(path)
        stated = request.normalization or artifact.normalization
        self._note(*note_on_scale(stated))
        shape, task = None, unstated()
        if request.data is not None:
            shape, task = request.data.input_shape, request.data.task
        target = Target(threads=default_threads())
        with file_predictor(path, target, task, shape=shape) as predict:
            if predict.note:
                self._note(predict.note)
            if request.data is None:
                shape = image_shape(path, request.image_size)
                return path, stated, self._proof_without_data(shape, stated)
            data = renumbered(request.data, artifact.classes)
            if stated is not None:
                check_channels(stated, data.input_shape[0])
            first = normalize(data.validation.images[:1], stated or data.normalization)
            try:
                answers = predict(first)
            except ModelFileError as error:
                sizes = "x".join(map(str, data.input_shape))
                raise ModelFileError(
                    f"{path} does not take the {sizes} images of {data.name}: {error}"
                ) from error
            check_batch(
                path,
                lambda x: predict(torch.from_numpy(x))[task.output].numpy(),
                first.numpy(),
            )
            check_width(path, answers, data)
            if stated is None:
                tried = known_normalizations(path, data.normalization, len(data.validation))
                stated, found = probe_normalization(predict, tried, data.validation, task)
                self._note(f"{path.name} does not state its normalisation. {found}")
            taken = stated or data.normalization
            if note := class_note(artifact.classes, request.data.task.classes):
                told = believed_score(path.name, predict, data, taken, artifact.classes)
                self._note(note, *told[1])
        return path, stated, self._proof_on(data.validation, taken)

    def _with_output(self, path: Path) -> Path:
        """The file, saying which output its answers are where the user says it."""
        if self.request.output_name is None:
            return path
        return write_output_name(
            path, self.folder / f"stated-{path.name}", self.request.output_name
        )

    def _export(self, path: Path) -> tuple[Path, Normalization | None, Proof]:
        """A checkpoint as a float32 ONNX file, its normalisation and what it was proved on."""
        request = self.request
        if request.data is None:
            network, normalization, classes = self._likeliest()
            proof = self._proof_without_data(network.spec.input_shape, normalization)
        else:
            stated = read_tensors(request.model).classes
            note = class_note(stated, request.data.task.classes)
            # The file keeps its own numbers and names, and the images are labelled by them.
            data = renumbered(request.data, stated)
            found = identify(
                request.model,
                data,
                normalization=request.normalization,
                arch=request.arch,
                device=torch.device("cpu"),
            )
            network, normalization = found.network, found.normalization
            classes = found.classes or data.task.classes
            self._note(*dict.fromkeys([*([note] if note else ()), *found.notes]))
            share, warnings = believed_score(
                request.model.name,
                predictor(network, data.task),
                data,
                normalization,
                found.classes,
            )
            self._note(
                f"{found.spec.name}: {format_percent(share)} on {len(data.validation):,} "
                "validation images.",
                *warnings,
            )
            proof = self._proof_on(data.validation, normalization)
        _, self.parity = onnx_from_torch(
            network,
            path,
            spec=network.spec,
            normalization=normalization,
            classes=classes,
            images=torch.from_numpy(proof.images[:]),
            source={
                "checkpoint": request.model.name,
                "checkpoint_sha256": sha256_of(request.model),
            },
        )
        return path, normalization, proof

    def _likeliest(self) -> tuple[Network, Normalization | None, tuple[str, ...]]:
        """The likeliest reading of the weights, without data to try others on."""
        request = self.request
        found = read_tensors(request.model)
        size = (request.image_size, request.image_size)
        hypotheses = found.hypotheses(arch=request.arch, image_size=size)
        likeliest = hypotheses[0]
        self._note(*found.notes, *likeliest.notes)
        if len(hypotheses) > 1:
            variants = dict.fromkeys(structure(other.spec) for other in hypotheses[1:])
            self._note(
                f"The weights do not determine the structure: {likeliest.spec.name} with "
                f"{structure(likeliest.spec)} is assumed; it may also have "
                f"{' or '.join(variants)}. Give --data to find out, or state it with "
                f"--teacher-arch ({statement_of(hypotheses[1].spec)}, say)."
            )
        network = instantiate(likeliest)
        channels = network.spec.input_shape[0]
        normalization = request.normalization or found.normalization or likeliest.normalization
        if normalization is not None and len(normalization.mean) != channels:
            raise UsageError(
                f"The normalisation has {len(normalization.mean)} channels, but {request.model} "
                f"takes {channels}. Give one mean and one standard deviation per channel with "
                "--normalize."
            )
        self._note(*note_on_scale(normalization))
        if likeliest.doubt:
            self._note(f"{likeliest.doubt} Give --data to be sure.")
        if normalization is None:
            self._note(
                "The normalisation is unknown, and the file says so. Give it with --normalize."
            )
        return network, normalization, found.classes

    def _note(self, *notes: str) -> None:
        self.notes += notes
        for note in notes:
            self.say(note)

    def _proof_on(self, split: Split, normalization: Normalization) -> Proof:
        """The first images of a split, with their labels and the rule."""
        images = Normalized(split.images, normalization)
        labels = split.targets.numpy().astype(np.int64)
        whole = Proof(images, labels, self._judge)
        count = self.request.images
        if count is None or count >= len(split):
            return whole
        self.whole_proof = whole
        return Proof(images[:count], labels[:count], self._judge)

    def _judge(self, ours: Sequence[bool], theirs: Sequence[bool]) -> str:
        rule, data = PrecisionRule(self.request.max_loss), self.request.data
        found = rule.compare(Paired.of(ours, theirs))
        more = ""
        if data is not None:
            more = more_images(found, data.name, len(data.validation), len(data.train))
        self.undecided = ""
        if found.outcome is Outcome.INCONCLUSIVE:
            self.undecided = f"{found.reason} (--max-precision-loss).{more}"
        reason = rule.judge(ours, theirs)
        return reason and reason + more

    def _proof_without_data(
        self, shape: tuple[int, int, int], normalization: Normalization | None
    ) -> Proof:
        return Proof(seeded_images(shape, normalization).numpy())

    def _convert(
        self,
        precision: str,
        floats: Path,
        path: Path,
        normalization: Normalization | None,
        proof: Proof,
    ) -> tuple[Artifact, Fidelity]:
        """The float32 file in fewer bits, judged by more images where the first do not decide."""
        request = self.request
        activations = "uint8" if request.target == ONNX else "int8"
        if request.precision == AUTO:
            activations = RUNTIMES[request.runtime].activations
        options = Quantization(
            method=request.method, activations=activations, float_layers=request.float_layers
        )
        convert = partial(
            narrowed_from_onnx,
            floats,
            path,
            precision,
            calibration=lambda: self._calibration(normalization),
            options=options,
        )
        self.say(f"Converting to {precision}.")
        self.undecided = ""
        try:
            try:
                found = convert(proof=proof)
            except PrecisionLost:
                if not self.undecided or self.whole_proof is None:
                    raise
                self._note(
                    f"{len(proof.images):,} images do not decide what {precision} loses; going on "
                    f"to all {len(self.whole_proof.images):,}."
                )
                found = convert(proof=self.whole_proof)
        except PrecisionLost as error:
            if self.undecided:
                raise Inconclusive(
                    f"Whether {request.model.name} loses too much in {precision} is not decided: "
                    f"{self.undecided}"
                ) from error
            raise
        left = found[0].conversion.get("in_float")
        if left:
            self._note(
                f"The quantiser does not reach these, so they are not in {precision}: {left}."
            )
        return found

    def _calibration(self, normalization: Normalization | None) -> Array:
        """Training images of all classes alike, as the network takes them."""
        request = self.request
        data = request.calibration or request.data
        if data is None:  # pragma: no cover - the request was refused
            raise UsageError("There are no images for calibration.")
        train = data.train
        if len(train) == 0:
            raise DataError(f"{data.name} has no training images to calibrate on.")
        chosen = stratified_sample(train, data.task, request.calibration_images)
        taken = normalization or (request.data or data).normalization
        images: Array = normalize(train.images[chosen], taken).numpy()
        self._note(
            f"Calibrated on {len(images):,} training images of {data.name}, by {request.method}."
        )
        return images
