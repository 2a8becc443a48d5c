"""What a model costs on this machine: runtimes, the measuring protocol, statistics, costs.

from compress.profiling import time_model
time_model(Path("student.onnx"), threads=1, budget_s=0.002)
"""

from compress.profiling.costs import costs_of_module, costs_of_onnx
from compress.profiling.layers import profile_layers
from compress.profiling.machine import default_threads, fingerprint
from compress.profiling.profile_model import Settings, profile
from compress.profiling.protocol import Timing, measure
from compress.profiling.runtime import Subject
from compress.profiling.timing import ModelTiming, time_model, time_models

__all__ = [
    "ModelTiming",
    "Settings",
    "Subject",
    "Timing",
    "costs_of_module",
    "costs_of_onnx",
    "default_threads",
    "fingerprint",
    "measure",
    "profile",
    "profile_layers",
    "time_model",
    "time_models",
]
