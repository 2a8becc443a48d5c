"""Small classifiers as ONNX files, images that they have right, and rounds that nobody timed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from compress.gate.measuring import Rounds
from compress.results import Estimate

SIZE, CLASSES, WIDTH = 8, 4, 64
IMAGES = 1000
MEAN, STD = 0.5, 0.25


def classifier(
    path: Path,
    *,
    noise: float = 0.0,
    layers: int = 1,
    classes: int = CLASSES,
    channels: int = 1,
    shape: Sequence[int | str] | None = None,
    scale: float = 1.0,
    metadata: bool = True,
    external: bool = False,
    names: Sequence[str] = (),
    order: Sequence[int] | None = None,
) -> Path:
    """Flatten, ``layers`` products with ReLU, logits; always the same weights but for the noise.

    Args:
        path: of the file.
        noise: added to the last matrix, relative to it: other answers to some images.
        layers: more of them take longer and change the answers.
        classes, channels: of the task.
        shape: of the input; None: an open batch.
        scale: of the last matrix.
        metadata: whether the file says its normalisation.
        external: whether it keeps its weights in another file.
        names: of the classes, in the order of the outputs.
        order: output i is what else is output ``order[i]``.
    """
    rng = np.random.default_rng(0)
    inputs = channels * SIZE * SIZE
    weights = {
        f"matrix{place}": rng.standard_normal((inputs if place == 0 else WIDTH, WIDTH))
        / (inputs if place == 0 else WIDTH) ** 0.5
        * 1.4
        for place in range(layers)
    }
    last = scale * rng.standard_normal((WIDTH, classes))
    weights["last"] = last + noise * np.random.default_rng(1).standard_normal(last.shape)
    if order is not None:
        weights["last"] = weights["last"][:, list(order)]
    nodes = [helper.make_node("Flatten", ["images"], ["x0"])]
    for place in range(layers):
        nodes.append(helper.make_node("MatMul", [f"x{place}", f"matrix{place}"], [f"y{place}"]))
        nodes.append(helper.make_node("Relu", [f"y{place}"], [f"x{place + 1}"]))
    nodes.append(helper.make_node("MatMul", [f"x{layers}", "last"], ["logits"]))
    images = helper.make_tensor_value_info(
        "images", TensorProto.FLOAT, list(shape or ("batch", channels, SIZE, SIZE))
    )
    graph = helper.make_graph(
        nodes,
        "small",
        [images],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["answers", classes])],
        [numpy_helper.from_array(v.astype(np.float32), name) for name, v in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    if metadata:
        said = {"normalization": {"mean": [MEAN] * channels, "std": [STD] * channels}}
        named = {"classes": list(names)} if names else {}
        helper.set_model_props(
            model, {f"compress.{key}": json.dumps(each) for key, each in (said | named).items()}
        )
    if external:
        onnx.save(
            model, path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=0
        )
    else:
        onnx.save(model, path)
    return path


def images(
    path: Path,
    model: Path,
    *,
    count: int = IMAGES,
    wrong: float = 0.05,
    names: Sequence[str] = (),
) -> Path:
    """An .npz file of noise, labelled by what the model says, a share of the labels moved by one.

    Args:
        path: of the file.
        model: labels them.
        count: of the test images.
        wrong: the share.
        names: of the classes, in the order of the labels.
    """
    rng = np.random.default_rng(2)
    x = rng.integers(0, 256, (count, SIZE, SIZE), dtype=np.uint8)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    pixels = ((x[:, None] / 255 - MEAN) / STD).astype(np.float32)
    labels = session.run(None, {"images": pixels})[0].argmax(axis=1)
    moved = rng.random(count) < wrong
    labels[moved] = (labels[moved] + 1) % CLASSES
    arrays: dict[str, Any] = {"class_names": np.array(names)} if names else {}
    arrays |= {"x_train": x[:40], "y_train": np.arange(40) % CLASSES, "x_test": x, "y_test": labels}
    np.savez(path, **arrays)
    return path


def rounds(
    slower: float = 0.0,
    *,
    count: int = 6,
    other: bool = True,
    scatter: float = 0.001,
    in_all: float | None = None,
) -> Rounds:
    """What a process would have found of a model that is slower by so much.

    Args:
        slower: 0.05 is 5%.
        count: of rounds.
        other: whether it was timed beside another model.
        scatter: half the range of the rounds' ratios.
        in_all: how much slower it is in all calls; None: as in fast ones.
    """
    against = [1e-3] * count
    ratios = 1 + slower + np.linspace(-scatter, scatter, count)
    whole = ratios - slower + (slower if in_all is None else in_all)
    median = float(np.median(ratios)) * 1e-3
    latency = Estimate(median, median * 0.99, median * 1.01)
    return Rounds(
        candidate_s=tuple((1e-3 * ratios).tolist()),
        against_s=tuple(against) if other else (),
        candidate_all_s=tuple((1.1e-3 * whole).tolist()),
        against_all_s=tuple(1.1 * each for each in against) if other else (),
        latency=latency,
        median=latency,
        all_calls_s=median,
        calls=25 * count,
        seconds=1.0,
        rounds_s=0.5,
        load_s=0.010,
        against_load_s=0.011 if other else None,
        warnings=(),
    )
