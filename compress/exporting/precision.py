"""A float32 file in any of the other precisions: one that ships, or one that is only timed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from compress.errors import UnknownName
from compress.exporting.conversion import float_model, guarded
from compress.exporting.fidelity import Proof
from compress.exporting.half import BF16, FP16, bf16_from_onnx, fp16_from_onnx, in_16_bits
from compress.exporting.parity import Array, seeded_images
from compress.exporting.quantize import Quantization, int8_from_onnx, quantised
from compress.results import Artifact, Fidelity
from compress.spec import PRECISIONS

# The ranges of activations change no kernel, so a few images of noise are enough.
IMAGES = 4


def reduced_from_onnx(
    source: Path,
    path: Path,
    precision: str,
    *,
    proof: Proof,
    calibration: Callable[[], Array],
    options: Quantization,
) -> tuple[Artifact, Fidelity]:
    """Writes a float32 file in another precision and measures how far it is from it.

    Args:
        source: the float32 file.
        path: the new one.
        precision: fp16, bf16 or int8.
        proof: what both are run on; its judge may refuse the file.
        calibration: gives training images for int8, see ``int8_from_onnx``.
        options: of int8.

    Raises:
        CompressError: as ``int8_from_onnx`` and ``fp16_from_onnx`` do.
        UnknownName: it is no such precision.
    """
    if precision == "int8":
        return int8_from_onnx(source, path, calibration=calibration(), proof=proof, options=options)
    if precision == FP16.name:
        return fp16_from_onnx(source, path, proof=proof)
    if precision == BF16.name:
        return bf16_from_onnx(source, path, proof=proof)
    raise UnknownName("reduced precision", precision, PRECISIONS[1:])


def reduced_for_timing(
    source: Path,
    path: Path,
    precision: str,
    *,
    shape: tuple[int, int, int],
    activations: str = "uint8",
) -> int:
    """Writes a float32 file in another precision, with the graph of one that would ship.

    Nothing is proved, and what it computes stands for nothing.

    Args:
        source: the float32 file.
        path: the new one.
        precision: fp16, bf16 or int8.
        shape: of an image: channels, height, width.
        activations: of int8, see ``Quantization``.

    Returns:
        the size of the file in bytes.

    Raises:
        ExportError: a tool cannot do it.
        UnknownName: it is no such precision.
    """
    if precision == "int8":
        images = seeded_images(shape, None)[:IMAGES].numpy()
        model = quantised(source, images, Quantization(activations=activations))
    elif precision in (FP16.name, BF16.name):
        target = FP16 if precision == FP16.name else BF16
        model = in_16_bits(float_model(source, precision), source, target)
    else:
        raise UnknownName("reduced precision", precision, PRECISIONS[1:])
    with guarded(f"{source.name} cannot be written in {precision}", "protobuf"):
        content = model.SerializeToString(deterministic=True)
    path.write_bytes(content)
    return len(content)
