"""A trained network becomes a file that can be served, and the proof that both are one function."""

from compress.export.artifact import read_artifact
from compress.export.parity import predictor_of
from compress.export.to_onnx import onnx_from_torch

__all__ = ["onnx_from_torch", "predictor_of", "read_artifact"]
