"""ONNX -> TensorRT, proved on the GPU where there is one."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from compress.engines.building import build_engine, gpu_here
from compress.engines.package import Say, package_named
from compress.engines.sidecar import EngineFile, sidecar_path, write_sidecar
from compress.errors import ParityError, UsageError
from compress.exporting.artifact import read_artifact
from compress.exporting.conversion import guarded
from compress.exporting.fidelity import Proof, answers_to, compare
from compress.exporting.half import predictor_of_any
from compress.onnx_file import outputs_of, read_model, stated_output
from compress.results import Artifact, Fidelity
from compress.tasks.task import arrays_of

# How far an engine's logits may be from those of its ONNX file, by their root mean square and the
# spread of the file's own: kernels add up in another order, and in 16 bits round as they like.
TOLERANCES = {"fp32": 1e-3, "fp16": 0.02, "bf16": 0.1, "int8": 0.1}


def engine_from_onnx(
    source: Path,
    path: Path,
    *,
    package: str = "tensorrt",
    batches: Sequence[int] = (1,),
    proof: Proof,
    say: Say = lambda _: None,
) -> tuple[Artifact, EngineFile]:
    """Builds an engine from an ONNX file and proves that it computes what the file does.

    The precision is the file's: float32, fp16, bf16, or int8 quantised with
    ``Quantization(activations="int8")``. Without a GPU, TensorRT for RTX builds all the same; then
    nothing is proved, and ``fidelity`` is None.

    Args:
        source: the ONNX file.
        path: the engine; FILE.json beside it says what built it.
        package: "tensorrt" or "tensorrt-rtx".
        batches: sizes that it will be called with.
        proof: what both are run on.
        say: is told what the package warns of.

    Returns:
        the file, and what is written beside it.

    Raises:
        ModelFileError: the ONNX file cannot be read, or takes other images.
        UsageError: the package is not installed, or the file was quantised for other runtimes.
        ExportError: the package does not take the file.
        ParityError: the engine computes something else; no file is left.
    """
    builder = package_named(package)
    artifact = read_artifact(source)
    if artifact.conversion.get("activations") == "uint8":
        raise UsageError(
            f"{source} has activations in uint8 with zero points, which {package} does not "
            "support. Quantise the float32 file for it: compress export --precision int8 --to "
            f"{package}."
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        drafts = tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise UsageError(
            f"Cannot write {path}: {error.strerror or error}. Choose another folder."
        ) from error
    with drafts as folder:
        draft = Path(folder, path.name)
        with guarded(f"{source.name} cannot be built into an engine", package):
            described = build_engine(
                source,
                draft,
                builder,
                batches=batches,
                precision=artifact.precision,
                spec=artifact.spec,
                normalization=artifact.normalization,
                classes=artifact.classes,
                say=say,
            )
        if gpu_here() is not None:
            described = replace(described, fidelity=_proved(source, draft, described, proof, say))
            write_sidecar(draft, described)
        # An engine beside another's description is found out by its hash when it is loaded.
        draft.replace(path)
        sidecar_path(draft).replace(sidecar_path(path))
    return _artifact(path, described, artifact), described


def _proved(source: Path, engine: Path, described: EngineFile, proof: Proof, say: Say) -> Fidelity:
    """Runs the engine and its ONNX file on the same images.

    Raises:
        ParityError: they are not the same function.
    """
    from compress.engines.running import Engine

    loaded = Engine(engine, say)
    outputs = loaded.run(torch.from_numpy(proof.images[:]))
    loaded.close()
    model = read_model(source)
    reading = proof.task.reading(outputs_of(model), source.name, stated_output(model))
    found = reading(arrays_of(outputs), len(proof.images))
    expected = answers_to(predictor_of_any(source, proof.task), proof.images)
    fidelity = compare(expected, found, proof)
    most = TOLERANCES.get(described.precision, TOLERANCES["int8"])
    if fidelity.relative_error > most:
        raise ParityError(
            f"The engine is not the function of {source.name}: its {proof.task.number}s are off "
            f"by {fidelity.relative_error:.2%} of their spread, {most:.2%} is allowed in "
            f"{described.precision}; {fidelity.top1_agreement:.2%} of {fidelity.images:,} images "
            f"have the same {proof.task.answer}. Nothing was written."
        )
    return fidelity


def _artifact(path: Path, described: EngineFile, source: Artifact) -> Artifact:
    return replace(
        source,
        path=path,
        format=described.package,
        sha256=described.sha256,
        size_bytes=described.size_bytes,
        toolchain=source.toolchain | {described.package: described.version},
        source=source.source | {"onnx_sha256": source.sha256},
    )
