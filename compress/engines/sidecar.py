"""What an engine's file does not say of itself, beside it: FILE.json.

An engine belongs to the package and version that built it, and TensorRT's to the GPU, too. Loading
one elsewhere ends in an error that names neither, or in one that was not found out; so what built
it is written down and compared first.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from compress.errors import ModelFileError
from compress.files import read_json, sha256_of, write_json
from compress.results import SCHEMA_VERSION, Fidelity
from compress.schema import decode
from compress.schema.rules import Batch, Length, Name, Number, Sha256, Shape, known
from compress.spec import ModelSpec, Normalization

SUFFIX = ".engine"


@dataclass(frozen=True)
class Gpu:
    """A GPU, as far as an engine depends on it.

    Attributes:
        name: as the driver calls it.
        compute_capability: "8.9".
    """

    name: str
    compute_capability: str


@dataclass(frozen=True)
class EngineFile:
    """What is known of an engine.

    Attributes:
        package: "tensorrt" or "tensorrt-rtx", which built it.
        version: of that.
        gpu: on which; None where there was none.
        system: operating system and architecture.
        sha256, size_bytes: of the engine.
        precision: of the ONNX file that it was built from, which decides the engine's.
        batches: one optimisation profile each, in this order.
        input_name, input_shape: of an image, without the batch.
        output_names: of the engine, in the order of the ONNX file.
        source: hashes of what it was built from.
        spec, normalization, classes: as in the ONNX file; None and empty where it says nothing.
        fidelity: of the engine to the ONNX file; None where there was no GPU to run it on.
    """

    package: Annotated[str, known("tensorrt", "tensorrt-rtx")]
    version: Name
    gpu: Gpu | None
    system: Name
    sha256: Sha256
    size_bytes: Number
    precision: Name
    batches: Annotated[tuple[Batch, ...], Length(1, 64)]
    input_name: Name
    input_shape: Shape
    output_names: Annotated[tuple[Name, ...], Length(1, 64)]
    source: dict[str, str]
    spec: ModelSpec | None = None
    normalization: Normalization | None = None
    classes: tuple[str, ...] = ()
    fidelity: Fidelity | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "schema_version": SCHEMA_VERSION,
            **asdict(self),
            "spec": self.spec.to_dict() if self.spec else None,
            "normalization": self.normalization.to_dict() if self.normalization else None,
            "fidelity": self.fidelity.to_dict() if self.fidelity else None,
        }


def sidecar_path(engine: Path) -> Path:
    """Where the description of an engine lies."""
    return engine.with_name(engine.name + ".json")


def write_sidecar(engine: Path, described: EngineFile) -> None:
    """Writes what is known of an engine beside it."""
    write_json(sidecar_path(engine), described.to_dict())


def is_engine(path: Path) -> bool:
    """Whether a file is described as an engine beside it."""
    return path.suffix.lower() != ".onnx" and sidecar_path(path).exists()


def read_sidecar(engine: Path) -> EngineFile:
    """What is known of an engine, which has to be the one that it was written for.

    Raises:
        ModelFileError: there is no engine or no description, or they do not belong together.
    """
    beside = sidecar_path(engine)
    if not engine.is_file():
        raise ModelFileError(f"There is no engine {engine}.")
    if not beside.is_file():
        raise ModelFileError(
            f"{engine} has no {beside.name} beside it, which records its package and GPU. Copy "
            "both files, or build it again from the ONNX file with `compress export --to`."
        )
    described = decode(
        EngineFile,
        read_json(beside, error=ModelFileError),
        f"{beside} does not describe an engine",
        error=ModelFileError,
        mend="Build the engine again.",
        beside=("schema_version",),
    )
    if sha256_of(engine) != described.sha256:
        raise ModelFileError(
            f"{beside} describes another file than {engine}: its SHA-256 begins with "
            f"{described.sha256[:12]}. Copy both files, or build the engine again."
        )
    return described


def refuse_other_machine(
    engine: Path, described: EngineFile, *, package: str, version: str, gpu: Gpu, system: str
) -> None:
    """Refuses an engine that was built by or for something else than what is here.

    An engine that was built without a GPU, which TensorRT for RTX can, is for any.

    Raises:
        ModelFileError: all that does not fit is named.
    """
    faults = []
    if (described.package, described.version) != (package, version):
        faults.append(
            f"it was built by {described.package} {described.version}, but this is {package} "
            f"{version}"
        )
    there = described.gpu
    if there and package == "tensorrt" and there != gpu:
        faults.append(f"it was built on {_told(there)}, but this is {_told(gpu)}")
    if described.system != system:
        faults.append(f"it was built on {described.system}, but this is {system}")
    if faults:
        raise ModelFileError(
            f"{engine} cannot be used here: {'; '.join(faults)}. Build it here, from the ONNX file "
            "that it was built from."
        )


def _told(gpu: Gpu) -> str:
    return f"{gpu.name} (compute capability {gpu.compute_capability})"
