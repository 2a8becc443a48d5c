"""Files in fewer bits that are only going to be timed."""

from __future__ import annotations

from pathlib import Path

import onnx

from compress.errors import UnknownName
from compress.export.half import BF16, FP16, narrowed
from compress.export.parity import seeded_images
from compress.export.quantize import Quantization, quantised
from compress.spec import PRECISIONS

# The ranges of activations change no kernel, so a few images of noise are enough.
IMAGES = 4


def narrowed_for_timing(
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
        model = narrowed(onnx.load(source), source, target)
    else:
        raise UnknownName("precision in fewer bits", precision, PRECISIONS[1:])
    content = model.SerializeToString(deterministic=True)
    path.write_bytes(content)
    return len(content)
