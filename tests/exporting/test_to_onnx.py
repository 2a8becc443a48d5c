from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import compress
from compress.errors import ExportError, ModelFileError, ParityError, UsageError
from compress.exporting import onnx_from_torch, predictor_of
from compress.exporting.parity import seeded_images, verify
from compress.exporting.to_onnx import onnx_for_timing
from compress.files import sha256_of
from compress.models.registry import build, spec_of
from compress.onnx_file import outputs_of
from compress.results import Artifact, Parity
from compress.spec import ModelSpec, Normalization
from compress.tasks.classification import LOGITS
from compress.tradeoff.measure import untrained

SPEC = spec_of("wrn-10-1", num_classes=5, input_shape=(1, 16, 16))
NORMALIZATION = Normalization((0.25,), (0.5,))
CLASSES = ("a", "b", "ä", "d", "e")


def network() -> nn.Module:
    torch.manual_seed(3)
    built = build(SPEC)
    for module in built.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
    return built


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Parity]:
    return export(network(), tmp_path_factory.mktemp("export") / "student.onnx")


def export(
    model: nn.Module, path: Path, images: Tensor | None = None, spec: ModelSpec = SPEC
) -> tuple[Artifact, Parity]:
    return onnx_from_torch(
        model,
        path,
        spec=spec,
        normalization=NORMALIZATION,
        classes=CLASSES,
        images=images,
        source={"run": "runs/x", "checkpoint_sha256": "0" * 64},
    )


def test_the_file_is_the_model_at_any_batch(exported: tuple[Artifact, Parity]) -> None:
    artifact, parity = exported
    assert parity.top1_agreement == 1
    assert parity.max_abs_diff < 1e-4
    assert parity.images == 132
    predict, model = predictor_of(artifact.path, threads=2), network().eval()
    for batch in (1, 2, 7, 100):
        images = torch.randn(batch, 1, 16, 16)
        with torch.inference_mode():
            expected = model(images).numpy()
        np.testing.assert_allclose(predict(images.numpy())[LOGITS], expected, atol=1e-4)


class WithMap(nn.Module):
    """Two outputs, named in an order that is not the alphabet's."""

    def __init__(self) -> None:
        super().__init__()
        self.network: Any = network()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = self.network.features(images)
        return {"map": maps, LOGITS: self.network.classify(maps)}


def test_several_outputs_keep_their_names_and_are_all_proved(tmp_path: Path) -> None:
    path = tmp_path / "two.onnx"
    _, parity = export(WithMap(), path)
    assert parity.max_abs_diff < 1e-4
    outputs = outputs_of(onnx.load(path))
    assert [output.name for output in outputs] == ["map", LOGITS]
    assert list(predictor_of(path)(np.zeros((3, 1, 16, 16), np.float32))) == [LOGITS]
    other = WithMap()
    with torch.no_grad():
        other.network.linear.weight.zero_()
    with pytest.raises(ParityError, match="the model gives class"):
        verify(other.eval(), path, torch.rand(4, 1, 16, 16))
    with pytest.raises(ParityError, match=r"at image 0: the output 'map' differs by"):
        verify(Shifted().eval(), path, torch.rand(4, 1, 16, 16))
    with pytest.raises(ParityError, match="no output 'more', the model has one"):
        verify(More().eval(), path, torch.rand(4, 1, 16, 16))


class Shifted(WithMap):
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        found = super().forward(images)
        return {"map": found["map"] + 0.5, LOGITS: found[LOGITS]}


class More(WithMap):
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        found = super().forward(images)
        return {**found, "more": found["map"]}


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("preresnet-11x0.25", {}),
        ("preresnet-11x0.25", {"shortcut": "input", "stride_conv": 2}),
        ("inception-x0.125", {}),
        ("inception-x0.125", {"shortcut": "unpadded"}),
    ],
)
def test_every_other_family_is_exported(
    name: str, fields: dict[str, object], tmp_path: Path
) -> None:
    """``export`` raises where the file is not the model; odd sizes are where padding shows."""
    spec = spec_of(name, num_classes=5, input_shape=(1, 17, 14), **fields)
    torch.manual_seed(3)
    artifact, parity = export(untrained(spec), tmp_path / "network.onnx", spec=spec)
    assert parity.top1_agreement == 1
    assert artifact.spec == spec
    # Batch norms behind convolutions are merged into them.
    kinds = [node.op_type for node in onnx.load(artifact.path).graph.node]
    expected = 0 if spec.family == "inception" else 4
    assert kinds.count("BatchNormalization") <= expected


def test_images_of_another_shape_are_refused(
    exported: tuple[Artifact, Parity], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"images of 1x16x16, .* are 1x32x32"):
        export(network(), tmp_path / "a.onnx", torch.zeros(2, 1, 32, 32))
    assert not list(tmp_path.iterdir())
    predict = predictor_of(exported[0].path)
    with pytest.raises(ModelFileError, match=r"\[batch, 1, 16, 16\] .* \[2, 1, 32, 32\]"):
        predict(np.zeros((2, 1, 32, 32), np.float32))
    images = np.random.default_rng(0).random((2, 1, 16, 16))
    # Images are given in the type that the file takes.
    np.testing.assert_array_equal(
        predict(images)[LOGITS],  # type: ignore[arg-type]
        predict(images.astype(np.float32))[LOGITS],
    )


def test_the_graph_has_names_a_dynamic_batch_and_one_file(
    exported: tuple[Artifact, Parity],
) -> None:
    model = onnx.load(exported[0].path)
    onnx.checker.check_model(model, full_check=True)
    (given,), (result,) = model.graph.input, model.graph.output
    sizes = [size.dim_param or size.dim_value for size in given.type.tensor_type.shape.dim]
    assert (given.name, sizes) == ("images", ["batch", 1, 16, 16])
    sizes = [size.dim_param or size.dim_value for size in result.type.tensor_type.shape.dim]
    assert (result.name, sizes) == ("logits", ["batch", 5])
    assert [entry.name for entry in exported[0].path.parent.iterdir()] == ["student.onnx"]


def test_the_metadata_comes_back(exported: tuple[Artifact, Parity]) -> None:
    artifact = exported[0]
    assert artifact.spec == SPEC
    assert artifact.normalization == NORMALIZATION
    assert artifact.classes == CLASSES
    assert artifact.precision == "fp32"
    assert artifact.source == {"run": "runs/x", "checkpoint_sha256": "0" * 64}
    assert artifact.toolchain["torch"] == torch.__version__.partition("+")[0]
    assert artifact.toolchain["opset"] == "20"
    assert artifact.sha256 == sha256_of(artifact.path)
    assert artifact.size_bytes == artifact.path.stat().st_size
    properties = {p.key: p.value for p in onnx.load(artifact.path).metadata_props}
    assert properties["compress.version"] == compress.__version__
    assert json.loads(properties["compress.normalization"]) == {"mean": [0.25], "std": [0.5]}


def test_the_file_holds_no_path_of_the_machine_that_made_it(
    exported: tuple[Artifact, Parity],
) -> None:
    content = exported[0].path.read_bytes()
    for text in (str(Path(compress.__file__).parent), str(Path.home()), "site-packages", ".py"):
        assert text.encode() not in content


def test_equal_weights_give_equal_bytes(exported: tuple[Artifact, Parity], tmp_path: Path) -> None:
    again, _ = export(network(), tmp_path / "again.onnx")
    assert again.sha256 == exported[0].sha256
    channels_last = network().to(memory_format=torch.channels_last)
    other, _ = export(channels_last, tmp_path / "channels_last.onnx")
    assert other.sha256 == exported[0].sha256


def test_it_says_nothing_and_leaves_no_trace(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    model = network().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        export(model, tmp_path / "student.onnx")
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert torch.equal(torch.random.get_rng_state(), state)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_given_images_are_all_compared(tmp_path: Path) -> None:
    _, parity = export(network(), tmp_path / "student.onnx", torch.randn(70, 1, 16, 16))
    assert parity.images == 70


class Forgetful(nn.Module):
    """Adds more with every call: what the exporter writes down is one call's constant."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.second = nn.Conv2d(4, 4, 3)
        self.linear = nn.Linear(4, 5)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        x = self.second(self.conv(x) + self.calls)
        logits: Tensor = self.linear(x.mean(dim=(2, 3)))
        return logits


class Dropping(nn.Module):
    """Drops units in evaluation mode, too."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(256, 5)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(functional.dropout(x.flatten(1), 0.5, training=True))
        return logits


class Deciding(nn.Module):
    """Decides in Python what it computes."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(256, 5)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(x.flatten(1))
        return logits if x.sum() > 0 else -logits


@pytest.mark.parametrize("model", [Forgetful(), Dropping()], ids=["state", "dropout"])
def test_a_file_that_is_not_the_model_is_refused(model: nn.Module, tmp_path: Path) -> None:
    (tmp_path / "student.onnx").write_text("what was there before")
    with pytest.raises(ParityError, match=r"They differ at image \d: the model gives class"):
        export(model, tmp_path / "student.onnx")
    assert [entry.name for entry in tmp_path.iterdir()] == ["student.onnx"]
    assert (tmp_path / "student.onnx").read_text() == "what was there before"


def test_the_first_layer_that_differs_is_named(tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="The first layer that differs is 'second'"):
        export(Forgetful(), tmp_path / "student.onnx")


def test_logits_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    model = network()
    with torch.no_grad():
        model.linear.bias[2] = torch.nan  # type: ignore[union-attr,operator]
    with pytest.raises(ParityError, match="image 0 are not finite"):
        export(model, tmp_path / "student.onnx")
    assert not list(tmp_path.iterdir())


def test_a_network_that_decides_in_python_cannot_be_exported(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ExportError, match="wrn-10-1 cannot be exported to ONNX"):
        export(Deciding(), tmp_path / "student.onnx")
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")


def test_a_folder_that_cannot_be_made_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="Choose another folder"):
        export(network(), tmp_path / "file" / "student.onnx")


def test_the_graph_for_timing_is_the_one_that_ships(
    exported: tuple[Artifact, Parity], tmp_path: Path
) -> None:
    size = onnx_for_timing(network(), tmp_path / "timed.onnx", spec=SPEC)
    assert size == (tmp_path / "timed.onnx").stat().st_size
    timed, shipped = onnx.load(tmp_path / "timed.onnx"), onnx.load(exported[0].path)
    assert timed.graph == shipped.graph


def test_a_file_of_a_fixed_batch_is_compared_in_its_batches(tmp_path: Path) -> None:
    built = network().eval()
    path = tmp_path / "four.onnx"
    onnx_for_timing(built, path, spec=SPEC)
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(model, path)
    images = seeded_images(SPEC.input_shape, NORMALIZATION)[:10]
    assert verify(built, path, images, batch=4).images == 10
    # Elsewhere a file has to take any number.
    with pytest.raises(ModelFileError, match="cannot run it on"):
        verify(built, path, images)
    with torch.no_grad():
        next(built.parameters()).mul_(1.5)
    with pytest.raises(ParityError, match="They differ at image 0"):
        verify(built, path, images, batch=4)
