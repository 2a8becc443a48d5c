"""A trained network becomes a file that can be served, and the proof that both are one function."""

from compress.exporting.artifact import read_artifact
from compress.exporting.parity import predictor_of
from compress.exporting.to_onnx import onnx_from_torch

__all__ = ["onnx_from_torch", "predictor_of", "read_artifact"]
