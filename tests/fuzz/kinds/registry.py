"""The kinds of files, in the order in which their cases come."""

from __future__ import annotations

from tests.fuzz.kinds import (
    archives,
    baselines,
    caches,
    checkpoints,
    cifar,
    config,
    engines,
    experiments,
    folders,
    idx,
    onnx_files,
    onnx_graphs,
    onnx_outputs,
    pickles,
    runs,
    tables,
)

KINDS = (
    checkpoints.KIND,
    onnx_files.KIND,
    archives.KIND,
    folders.KIND,
    baselines.KIND,
    tables.KIND,
    pickles.KIND,
    idx.KIND,
    config.KIND,
    onnx_graphs.KIND,
    experiments.KIND,
    cifar.KIND,
    engines.KIND,
    onnx_outputs.KIND,
    runs.KIND,
    caches.KIND,
)
