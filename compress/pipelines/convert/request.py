"""What a conversion is asked for, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compress.data.dataset import Dataset
from compress.engines.package import PACKAGES
from compress.engines.sidecar import EngineFile, sidecar_path
from compress.errors import (
    UnknownName,
    UsageError,
)
from compress.exporting.quantize import CALIBRATION_IMAGES, Quantization
from compress.gate.precision import MAX_LOSS, PrecisionRule
from compress.onnx_file import is_onnx
from compress.profiling.registry import RUNTIMES, runtime_named
from compress.results import Artifact, Estimate, Fidelity, Parity
from compress.schema import encode
from compress.spec import AUTO, PRECISIONS, Normalization
from compress.tradeoff.trials import PrecisionTrial

ONNX = "onnx"
TARGETS = (ONNX, *PACKAGES)
DEFAULT_SIZE, DEFAULT_RUNTIME = 32, "onnxruntime"


@dataclass(frozen=True)
class ConvertRequest:
    """What is asked for.

    Attributes:
        model: a checkpoint, or a float32 ONNX file.
        output: the file that ships.
        data: what the proof is on (its validation images); None for seeded inputs.
        calibration: whose training images int8 is calibrated on; None for those of ``data``.
        normalization: what the images go through, where the user says it.
        arch: what a checkpoint is, where its weights do not show it.
        precision: one of PRECISIONS, or AUTO for the fastest here that keeps ``max_loss``.
        runtime: that AUTO is to be the fastest in.
        target: one of TARGETS; ONNX for AUTO.
        batches: sizes that an engine will be called with; an ONNX file takes any, and AUTO is
            timed with one.
        calibration_images: how many at most.
        method: of calibration, see ``Quantization``.
        float_layers: that int8 leaves in float, see ``Quantization``.
        max_loss: of accuracy, as a fraction of 1, that a reduced precision may cost on the
            validation images.
        images: on how many images of ``data`` the proof is, where they decide; else on all.
        image_size: height and width, where neither data nor an ONNX file says it.
        output_name: of an ONNX file, that its answers are, where several could be.
    """

    model: Path
    output: Path
    data: Dataset | None = None
    calibration: Dataset | None = None
    normalization: Normalization | None = None
    arch: str | None = None
    precision: str = "fp32"
    runtime: str = DEFAULT_RUNTIME
    target: str = ONNX
    batches: tuple[int, ...] = (1,)
    calibration_images: int = CALIBRATION_IMAGES
    method: str = "minmax"
    float_layers: tuple[str, ...] = ()
    max_loss: float = MAX_LOSS
    images: int | None = None
    image_size: int = DEFAULT_SIZE
    output_name: str | None = None

    def __post_init__(self) -> None:
        if self.precision not in (*PRECISIONS, AUTO):
            raise UnknownName("precision", self.precision, (*PRECISIONS, AUTO))
        if self.target not in TARGETS:
            raise UnknownName("target", self.target, TARGETS)
        faults = []
        made = is_onnx(self.model)
        if made and self.precision == "fp32" and self.target == ONNX:
            faults.append(f"{self.model} is already an ONNX file; give --precision or --to")
        if made and self.model.resolve() == self.output.resolve():
            faults.append(f"--output is {self.model} itself")
        if self.target != ONNX and (fault := self._in_the_way()):
            faults.append(fault)
        if made and self.arch is not None:
            faults.append("--teacher-arch is only for checkpoints, and MODEL is an ONNX file")
        if not made and self.output_name is not None:
            faults.append("--output-name is only for ONNX files, and MODEL is a checkpoint")
        if self.precision == "int8" and self.data is None and self.calibration is None:
            faults.append("int8 needs training images for calibration: give --data or --calibrate")
        if self.precision == AUTO:
            runtime_named(self.runtime)
            if RUNTIMES[self.runtime].takes != "onnx":
                faults.append(f"--runtime is {self.runtime}, which cannot run ONNX files")
            if self.data is None:
                faults.append("auto compares accuracies: give --data")
            if self.target != ONNX:
                faults.append(
                    f"auto makes only ONNX files: give the precision of a {self.target} file"
                )
            if len(self.batches) != 1:
                faults.append("auto takes only one --batch")
        if self.data is not None and len(self.data.validation) == 0:
            faults.append("verifying needs validation images, but --validation is 0")
        if self.calibration_images < 1:
            faults.append(
                f"--calibration-images is {self.calibration_images}, but must be positive"
            )
        if faults:
            raise UsageError(f"This cannot be exported: {'; '.join(faults)}.")
        PrecisionRule(self.max_loss)
        Quantization(self.method, float_layers=self.float_layers)

    @property
    def typed(self) -> Path:
        """The ONNX file that ships, or that an engine is built from."""
        if self.target == ONNX:
            return self.output
        return self.output.with_name(f"{self.output.name}.onnx")

    def _in_the_way(self) -> str:
        """Why the ONNX file beside an engine cannot be written; "" where it can."""
        if self.typed.resolve() == self.model.resolve():
            return (
                f"{self.typed}, which would be written beside the engine {self.output.name}, is "
                "MODEL itself; name another --output"
            )
        if self.typed.exists() and not sidecar_path(self.output).exists():
            return (
                f"{self.typed} would be written beside the engine {self.output.name}, but exists "
                "already; name another --output"
            )
        return ""


@dataclass(frozen=True)
class Conversion:
    """What came of it.

    Attributes:
        artifact: the file that ships.
        name: of the network, or of the file.
        parity: of the float32 ONNX file to the checkpoint; None where there was no checkpoint.
        fidelity: of a file of reduced precision to the float32 one.
        engine: what is written beside an engine.
        on: what the proof was on: "validation images" or "seeded inputs".
        notes: what was found and assumed, in sentences.
        trials: what AUTO found of each precision; the eligible one is that which ships.
        latencies: of an engine, batch size -> seconds a call; empty where there is no GPU.
    """

    artifact: Artifact
    name: str
    parity: Parity | None
    fidelity: Fidelity | None
    engine: EngineFile | None
    on: str
    notes: tuple[str, ...]
    trials: tuple[PrecisionTrial, ...] = ()
    latencies: dict[int, Estimate] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        artifact = self.artifact
        return {
            "path": str(artifact.path),
            "format": artifact.format,
            "name": self.name,
            "spec": artifact.spec.to_dict() if artifact.spec else None,
            "sha256": artifact.sha256,
            "size_bytes": artifact.size_bytes,
            "precision": artifact.precision,
            "normalization": artifact.normalization.to_dict() if artifact.normalization else None,
            "classes": list(artifact.classes),
            "parity": encode(self.parity),
            "fidelity": encode(self.fidelity),
            "conversion": artifact.conversion,
            "engine": self.engine.to_dict() if self.engine else None,
            "latency_ms": {
                str(batch): latency.to_dict(1e3) for batch, latency in self.latencies.items()
            },
            "toolchain": artifact.toolchain,
            "precisions": encode(self.trials),
            "notes": list(self.notes),
        }
