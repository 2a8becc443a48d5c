"""Defaults of options that more than one part of the house knows, in the options' units."""

from __future__ import annotations

# The data set that comes with the package, and its teacher.
DATA = "default"
RECIPE = "dist"
RUNTIME = "onnxruntime"
PRECISION = "fp32"
# Points of accuracy on validation images.
MAX_PRECISION_LOSS = 0.5
CALIBRATION_IMAGES = 512
BASELINE = "compress-baseline.json"
# Percent.
MAX_SLOWDOWN = 3.0
MAX_GROWTH = 1.0
# Points of accuracy on test images.
MAX_ACCURACY_DROP = 0.5
# Of timing, in ``check`` and its self-test.
MAX_SECONDS = 120.0
