from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch.nn import functional

from compress.errors import ExportError
from compress.exporting.fake_quantize import FakeQuantized
from compress.exporting.parity import Array, predictor_of, values_of
from compress.exporting.quantize import Calibrated, Quantization, calibrate
from compress.models.registry import spec_of
from compress.tasks.classification import LOGITS
from tests.exporting import graphs, networks


def calibrated(source: Path, options: Quantization | None = None) -> Calibrated:
    return calibrate(source, networks.images(48), options or Quantization())


def fake(found: Calibrated, name: str = "wrn-10-1") -> FakeQuantized:
    spec = spec_of(name, num_classes=networks.CLASSES, input_shape=networks.SHAPE)
    return FakeQuantized(found.floats, found.quantised(), spec)


def as_written(model: onnx.ModelProto, images: Array) -> Array:
    """Logits of a file whose operations are computed one by one, in float32."""
    return values_of(model, ["logits"], threads=1)(images)["logits"]


def relative(found: Array, expected: Array) -> float:
    return float(np.sqrt(((found - expected) ** 2).mean()) / expected.std())


@pytest.mark.parametrize("activations", ["uint8", "int8"])
@pytest.mark.parametrize("name", networks.FAMILIES)
def test_it_computes_what_the_file_computes(
    name: str, activations: str, floats: dict[str, Path], tmp_path: Path
) -> None:
    found = calibrated(floats[name], Quantization(activations=activations))
    images = networks.images(32, seed=1)
    model = found.quantised()
    with torch.no_grad():
        ours = fake(found, name)(torch.from_numpy(images)).numpy()
    # Rounding errors of float32 tip a value to the next of 256 here and there.
    assert relative(ours, as_written(model, images)) < 0.006
    exact = predictor_of(floats[name])(images)[LOGITS]
    assert relative(ours, exact) > 0.02
    # What runs has integer kernels, which round sums and means a little otherwise.
    onnx.save(model, tmp_path / "int8.onnx")
    run = predictor_of(tmp_path / "int8.onnx")(images)[LOGITS]
    assert relative(ours, run) < relative(exact, run)


def test_a_graph_that_no_network_here_has_is_refused(tmp_path: Path) -> None:
    # The last convolution is as large as the map, so a mean is not needed.
    side = graphs.SHAPE[1]
    kernel = np.ones((graphs.CLASSES, 48, side, side), np.float32)
    last = onnx.helper.make_node("Conv", ["maps", "kernel"], ["logits"], "last")
    nodes = [graphs.first(), graphs.relu(), *graphs.wide(), last]
    more = [onnx.numpy_helper.from_array(kernel, "kernel")]
    made = graphs.weights_among_inputs(graphs.model(nodes, more=more), before=True)
    onnx.save(made, tmp_path / "f.onnx")
    found = calibrate(tmp_path / "f.onnx", graphs.images(4), Quantization())
    with pytest.raises(ExportError, match=r"fine-tuned in int8: its file has no mean over a map"):
        fake(found)


def test_layers_may_stay_in_float(floats: dict[str, Path]) -> None:
    found = calibrated(floats["resnet-8"], Quantization(float_layers=("first", "last")))
    images = networks.images(16, seed=1)
    with torch.no_grad():
        ours = fake(found, "resnet-8")(torch.from_numpy(images)).numpy()
    assert relative(ours, as_written(found.quantised(), images)) < 0.006


def test_what_is_trained_is_what_the_file_then_computes(floats: dict[str, Path]) -> None:
    found = calibrated(floats["wrn-10-1"])
    module = fake(found)
    images = networks.images(32, seed=1)
    inputs, labels = torch.from_numpy(images), torch.arange(32) % networks.CLASSES
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(12):
        loss = functional.cross_entropy(module(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert all(weight.grad is not None and weight.grad.any() for weight in module.parameters())
    assert losses[-1] < 0.9 * losses[0]
    before = as_written(found.quantised(), images)
    tuned = replace(found, floats=module.into(found.floats))
    after = as_written(tuned.quantised(), images)
    with torch.no_grad():
        ours = module(inputs).numpy()
    assert relative(ours, after) < 0.006 < 10 * 0.006 < relative(before, after)
    # The graph that the weights were put into is a copy.
    again = as_written(found.quantised(), images)
    np.testing.assert_array_equal(again, before)


def test_it_is_split_like_the_networks(floats: dict[str, Path]) -> None:
    module = fake(calibrated(floats["wrn-10-1"]))
    network = networks.network("wrn-10-1")
    images = torch.from_numpy(networks.images(4))
    with torch.no_grad():
        maps = module.features(images)
        assert maps.shape == network.features(images).shape
        assert torch.equal(module.classify(maps), module(images))
    tail = [tuple(each.shape) for each in module.classifier.parameters()]
    assert tail[0] == tuple(network.linear.weight.shape)
    assert len(tail) + len(list(module.body.parameters())) == len(list(module.parameters()))


def test_a_value_that_is_cut_off_has_no_gradient(floats: dict[str, Path]) -> None:
    module = fake(calibrated(floats["wrn-10-1"]))
    images = torch.from_numpy(networks.images(2))
    images[0, 0, 0, 0] = 1000.0
    images.requires_grad_()
    module(images).square().sum().backward()
    assert images.grad is not None
    assert images.grad[0, 0, 0, 0] == 0
    assert images.grad.count_nonzero() > 0.9 * images.numel()


def test_an_operation_that_no_network_has_is_refused(floats: dict[str, Path]) -> None:
    found = calibrated(floats["resnet-8"])
    model = found.quantised()
    next(node for node in model.graph.node if node.op_type == "Pad").op_type = "Erf"
    with pytest.raises(ExportError, match="its file has Erf"):
        FakeQuantized(found.floats, model, spec_of("resnet-8"))


def test_the_weights_keep_their_names(floats: dict[str, Path]) -> None:
    found = calibrated(floats["resnet-8"])
    module = fake(found, "resnet-8")
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(1.0)
    changed = module.into(found.floats)
    before, after = (
        {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        for model in (found.floats, changed)
    )
    assert before.keys() == after.keys()
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert {"conv.weight", "linear.weight", "conv.weight_bias"} <= moved
    for name in moved:
        np.testing.assert_allclose(after[name], before[name] + 1, rtol=1e-6)
