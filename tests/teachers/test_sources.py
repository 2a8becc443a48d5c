"""A teacher's normalisation and structure are found, and one that knows nothing is refused."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from compress.data.normalization import KNOWN, normalize
from compress.errors import CheckpointError, DataError, TeacherError, UsageError
from compress.exporting import onnx_from_torch
from compress.models.checkpoint import save_checkpoint
from compress.models.network import Network
from compress.models.registry import build, spec_of
from compress.results import Costs, Parity
from compress.spec import ModelSpec, Normalization
from compress.tasks.classification import LOGITS, Classification
from compress.tasks.task import Standing
from compress.teachers import sources
from compress.teachers.opened import OpenedTeacher
from compress.teachers.sources import LoadedTeacher, load_teacher
from compress.training.identification import Identified, identify
from compress.training.outputs import ComputedOutputs
from compress.training.student import first_network
from compress.training.teacher import Teacher
from tests.training.quarters import CLASSES, CPU, SIZE, SPEC, dataset, toy_images, train

# CIFAR-10 and checkpoints by others: beside the repository, or where the variable says.
SHARED = Path(
    os.environ.get("COMPRESS_TEST_DATA", Path(__file__).resolve().parents[2] / ".." / "shared/data")
)


@pytest.fixture(scope="module")
def network() -> Network:
    return train(SPEC, KNOWN["half"])


@pytest.fixture
def path(network: Network, tmp_path: Path) -> Path:
    """As others would save it: weights and nothing said."""
    path = tmp_path / "teacher.pth"
    torch.save({"state_dict": network.state_dict()}, path)
    return path


def load(
    path: Path, images: Tensor, labels: Tensor, *, num_classes: int = CLASSES, **said: Any
) -> LoadedTeacher[Teacher]:
    said = {"normalization": None, "arch": None} | said
    return load_teacher(path, dataset(images, labels, num_classes), device=CPU, **said)


def identified(path: Path, images: Tensor, labels: Tensor, **said: Any) -> Identified:
    said = {"normalization": None, "arch": None} | said
    return identify(path, dataset(images, labels), device=CPU, **said)


def test_normalisation_and_structure_are_found(path: Path, network: Network) -> None:
    images, labels = toy_images(300, 2)
    loaded = load(path, images, labels)
    assert loaded.teacher.normalization == KNOWN["half"]
    assert loaded.teacher.spec == SPEC
    with torch.inference_mode():
        expected = network(normalize(images, KNOWN["half"])).argmax(1)
    assert loaded.accuracy == pytest.approx(float((expected == labels).double().mean()))
    assert loaded.accuracy > 0.9
    module = loaded.teacher.module
    assert module is not None
    assert not module.training
    assert not any(p.requires_grad for p in module.parameters())
    assert len(loaded.teacher.identity()) == 64
    assert len(loaded.sha256) == 64
    assert any("found by trying: half" in note for note in loaded.notes)
    assert any("padded at the end" in note for note in loaded.notes)


@pytest.mark.parametrize(
    ("name", "fields", "told"),
    [
        ("preresnet-11x0.5", {"shortcut": "input", "stride_conv": 2}, "shortcuts of the raw input"),
        ("inception-x0.25", {"shortcut": "unpadded"}, "downsampling without padding"),
    ],
)
def test_the_other_families_teach_too(
    name: str, fields: dict[str, Any], told: str, tmp_path: Path
) -> None:
    spec = spec_of(name, num_classes=CLASSES, input_shape=(3, SIZE, SIZE), **fields)
    torch.save(train(spec, KNOWN["half"]).state_dict(), tmp_path / "teacher.pth")
    loaded = load(tmp_path / "teacher.pth", *toy_images(300, 2))
    assert (loaded.teacher.spec, loaded.teacher.normalization) == (spec, KNOWN["half"])
    assert loaded.accuracy > 0.8
    assert any(told in note for note in loaded.notes)


def test_what_the_user_says_wins_over_the_file(network: Network, tmp_path: Path) -> None:
    images, labels = toy_images(200, 2)
    path = tmp_path / "own.safetensors"
    save_checkpoint(path, network, normalization=KNOWN["half"], classes=())
    loaded = load(path, images, labels)
    assert loaded.teacher.normalization == KNOWN["half"]
    assert any("the file's own" in note for note in loaded.notes)
    near = Normalization((0.45, 0.5, 0.5), (0.5, 0.5, 0.5))
    loaded = load(path, images, labels, normalization=near)
    assert loaded.teacher.normalization == near
    assert any("--normalize is used" in note for note in loaded.notes)


def test_what_does_not_fit_the_data_is_told_with_both_figures(path: Path) -> None:
    images, labels = toy_images(50, 2)
    with pytest.raises(TeacherError, match="it has 4 classes, but the data has 7"):
        load(path, images, labels, num_classes=7)
    with pytest.raises(TeacherError, match=r"3 channel\(s\), but the data has 1"):
        load(path, images[:, :1], labels)
    with pytest.raises(UsageError, match=r"--normalize has 1 channel\(s\)"):
        load(path, images, labels, normalization=KNOWN["half-gray"])
    with pytest.raises(CheckpointError, match="not the wrn-10-1"):
        load(path, images, labels, arch="wrn-10-1")
    with pytest.raises(UsageError, match="is not the name of a network"):
        load(path, images, labels, arch="alexnet")


def test_a_teacher_that_guesses_is_refused_with_the_causes(path: Path, tmp_path: Path) -> None:
    images, labels = toy_images(300, 2)
    with pytest.raises(TeacherError, match="no better than chance") as error:
        load(path, images, (labels + 1) % CLASSES)
    for cause in ("another order (likely", "--normalize", "--teacher-arch", "resnet-8"):
        assert cause in str(error.value)
    torch.manual_seed(0)
    untrained = tmp_path / "untrained.pt"
    torch.save(build(SPEC).state_dict(), untrained)
    with pytest.raises(TeacherError, match="no better than chance"):
        load(untrained, images, labels)
    with pytest.raises(TeacherError, match=r"most common class on 100\.0%"):
        load(path, images, torch.full_like(labels, 2))


@pytest.mark.parametrize("own", [True, False])
def test_images_of_another_size_are_taken(network: Network, tmp_path: Path, own: bool) -> None:
    images, labels = toy_images(60, 2)
    large = images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    path = tmp_path / "teacher.safetensors"
    if own:
        save_checkpoint(path, network, normalization=KNOWN["half"])
    else:
        torch.save(network.state_dict(), path)
    # The doubled pixels shrink what a 3x3 filter sees; how well it does is not the point.
    shape = (3, 2 * SIZE, 2 * SIZE)
    found = identified(path, large, labels)
    assert found.spec.input_shape == found.network.spec.input_shape == shape
    assert any("16x16; here it runs on the data's 32x32" in note for note in found.notes) == own
    onnx_from_torch(
        found.network,
        tmp_path / "teacher.onnx",
        spec=found.spec,
        normalization=found.normalization,
        classes=(),
        images=normalize(large, found.normalization),
        source={},
    )


def test_a_teacher_of_another_order_of_classes_teaches_in_the_datas(
    network: Network, tmp_path: Path
) -> None:
    """Its classifier's rows change places, which is exact."""
    images, labels = toy_images(256, 2)
    names, order = ("red", "green", "blue", "grey"), [2, 0, 3, 1]
    data = replace(dataset(images, labels), task=Classification(names))
    path = tmp_path / "t.safetensors"
    moved = copy.deepcopy(network)
    for values in (moved.linear.weight, moved.linear.bias):
        values.data = values.data[order]
    save_checkpoint(
        path, moved, normalization=KNOWN["half"], classes=[names[place] for place in order]
    )
    logits = network(normalize(images, KNOWN["cifar10"]))
    assert data.task.chance({LOGITS: logits}, labels).standing is Standing.BETTER
    found = load_teacher(path, data, normalization=None, arch=None, device=CPU)
    inputs = normalize(images[:8], found.teacher.normalization)
    assert torch.equal(found.teacher.outputs(inputs, {LOGITS})[LOGITS], network(inputs))
    assert any("matched by name" in note for note in found.notes)
    # Names that are nowhere in the data say nothing of the order; that some moved does.
    save_checkpoint(path, moved, normalization=None, classes=["blue", "pink", "grey", "green"])
    with pytest.raises(DataError, match="'green' is class 3 of the model and class 1 of the data"):
        load_teacher(path, data, normalization=None, arch=None, device=CPU)
    save_checkpoint(path, moved, normalization=None, classes=[names[place] for place in order])
    first = first_network(network.spec, 0, path, names)
    assert torch.equal(first.linear.weight, network.linear.weight)


def test_a_statement_says_what_weights_do_not_show(path: Path) -> None:
    images, labels = toy_images(100, 2)
    said = "resnet-8x0.5,shortcut=pad-both,stride_conv=2"
    found = identified(path, images, labels, arch=said, normalization=KNOWN["half"])
    assert (found.spec.parameters["shortcut"], found.spec.parameters["stride_conv"]) == (
        "pad-both",
        2,
    )
    with pytest.raises(TeacherError, match="no better than chance") as error:
        load(path, images, (labels + 1) % CLASSES)
    assert "--teacher-arch, for instance resnet-8x0.5,shortcut=pad" in str(error.value)


def test_without_validation_images_the_normalisation_has_to_be_stated(path: Path) -> None:
    images, labels = toy_images(4, 2)
    with pytest.raises(DataError, match="Give --normalize"):
        identified(path, images[:0], labels[:0])
    found = identified(path, images[:0], labels[:0], normalization=KNOWN["half"])
    assert "no validation images to find it" in found.notes[0]
    assert "shortcut=pad,stride_conv=1, say" in found.notes[0]
    with pytest.raises(DataError, match="no validation images to judge"):
        load(path, images[:0], labels[:0], normalization=KNOWN["half"])


def test_a_good_teacher_is_not_refused_for_want_of_images(path: Path) -> None:
    images, labels = toy_images(400, 2)
    few = torch.cat([torch.nonzero(labels == label)[:1, 0] for label in (0, 1)])
    loaded = load(path, images[few], labels[few], normalization=KNOWN["half"])
    assert any("2 images are too few to decide; about" in note for note in loaded.notes)
    loaded = load(path, images, labels)
    assert not any("Warning" in note for note in loaded.notes)


class Function:
    """A teacher that is no network of compress.models, and gives nothing but logits."""

    taps = ()
    module = None
    has_dropout = False
    device = CPU
    normalization = KNOWN["half"]

    def __init__(self, network: Network) -> None:
        self.network = network
        self.spec = ModelSpec("function", "elsewhere", {}, CLASSES, (3, SIZE, SIZE))

    def outputs(self, images: Tensor, wanted: Collection[str]) -> dict[str, Tensor]:
        return {name: {LOGITS: self.network}[name](images) for name in wanted}

    def shapes(self, wanted: Collection[str]) -> dict[str, tuple[int, ...]]:
        return {name: {LOGITS: (CLASSES,)}[name] for name in wanted}

    def dropout(self, _: float) -> AbstractContextManager[None]:
        return nullcontext()

    def identity(self) -> str:
        return "f" * 64

    def costs(self) -> Costs:
        raise NotImplementedError

    def export(self, *_: Any, **__: Any) -> Parity:
        raise NotImplementedError


def test_another_source_of_teachers_is_one_function(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes what it knows; what it gives is judged and asked like a checkpoint."""

    def open_function(path: Path, *_: Any, **__: Any) -> OpenedTeacher[Function] | None:
        if path.suffix != ".function":
            return None
        return OpenedTeacher(Function(network.eval()), "0" * 64, (KNOWN["half"],), (), "it is odd")

    monkeypatch.setattr(sources, "SOURCES", (open_function, *sources.SOURCES))
    images, labels = toy_images(300, 2)
    loaded = load(tmp_path / "t.function", images, labels)
    assert loaded.teacher.spec.name == "function"
    assert loaded.accuracy > 0.9
    with pytest.raises(TeacherError, match=r"no better than chance: .*; it is odd"):
        load(tmp_path / "t.function", images, (labels + 1) % CLASSES)
    with pytest.raises(CheckpointError):
        load(tmp_path / "t.pth", images, labels)
    found = ComputedOutputs([loaded.teacher], wanted=frozenset({LOGITS}))
    (answers,) = found(torch.arange(4), 0, images[:4])
    assert torch.equal(answers[LOGITS].argmax(1), labels[:4])


# ---------------------------------------------------------------------------------------------
# Checkpoints that nobody here trained


@pytest.fixture(scope="module")
def cifar10(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    if not (SHARED / "unpack.py").exists():
        pytest.skip("no CIFAR-10 and public checkpoints found; set COMPRESS_TEST_DATA")
    path = tmp_path_factory.mktemp("cifar") / "cifar10.npz"
    subprocess.run([sys.executable, str(SHARED / "unpack.py"), "cifar10", str(path)], check=True)
    with np.load(path) as arrays:
        found = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    return {
        name: value.permute(0, 3, 1, 2).contiguous() if value.dim() == 4 else value.long()
        for name, value in found.items()
    }


def load_shared(
    name: str, images: Tensor, labels: Tensor, said: str | None
) -> LoadedTeacher[Teacher]:
    return load_teacher(
        SHARED / "checkpoints" / name,
        dataset(images, labels, num_classes=10),
        normalization=KNOWN[said] if said else None,
        arch=None,
        device=CPU,
    )


@pytest.mark.slow
def test_resnet20_is_found_and_scores_91_73_percent(cifar10: dict[str, Tensor]) -> None:
    name = "resnet20-12fca82f.th"
    loaded = load_shared(name, cifar10["x_train"][:300], cifar10["y_train"][:300], None)
    assert loaded.teacher.normalization == KNOWN["imagenet"]
    assert (loaded.teacher.spec.name, loaded.teacher.spec.parameters["shortcut"]) == (
        "resnet-20",
        "pad-both",
    )
    assert any("By accuracy alone cifar10" in note for note in loaded.notes)
    loaded = load_shared(name, cifar10["x_test"], cifar10["y_test"], "imagenet")
    assert loaded.accuracy == 0.9173


@pytest.mark.slow
def test_resnet56_is_found_and_scores_93_39_percent(cifar10: dict[str, Tensor]) -> None:
    name = "resnet56-4bfd9763.th"
    loaded = load_shared(name, cifar10["x_train"][:300], cifar10["y_train"][:300], None)
    assert loaded.teacher.normalization == KNOWN["imagenet"]
    assert (loaded.teacher.spec.name, loaded.teacher.spec.parameters["shortcut"]) == (
        "resnet-56",
        "pad-both",
    )
    loaded = load_shared(name, cifar10["x_test"], cifar10["y_test"], "imagenet")
    assert loaded.accuracy == 0.9339
