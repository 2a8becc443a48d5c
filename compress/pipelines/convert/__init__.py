"""A checkpoint or an ONNX file becomes the file that ships, in the precision and form asked for."""

from compress.pipelines.convert.request import (
    DEFAULT_RUNTIME,
    DEFAULT_SIZE,
    ONNX,
    TARGETS,
    Conversion,
    ConvertRequest,
)
from compress.pipelines.convert.run import convert

__all__ = [
    "DEFAULT_RUNTIME",
    "DEFAULT_SIZE",
    "ONNX",
    "TARGETS",
    "Conversion",
    "ConvertRequest",
    "convert",
]
