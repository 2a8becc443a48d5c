"""What it does to a student that ships is in tests/pipelines/test_distill.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from compress.data.normalization import normalize
from compress.errors import UsageError
from compress.exporting.quantize import Calibrated, Quantization, calibrate
from compress.exporting.to_onnx import onnx_for_timing
from compress.models.registry import build, with_dropout
from compress.recipes.registry import RECIPES, make_recipe
from compress.teachers.network import NetworkTeacher
from compress.training.kept import outputs_of
from compress.training.options import TrainingOptions
from compress.training.quantization_aware import FineTuning, fine_tune
from compress.training.runfolder import RunFolder
from tests.training import toy

TRAINED = TrainingOptions(epochs=200, lr=0.1, dropout=0.3, label_smoothing=0.1, autocast="auto")


def test_it_goes_on_for_a_tenth_of_the_epochs_at_a_thousandth_of_the_rate() -> None:
    options = FineTuning().options(TRAINED)
    assert (options.epochs, options.schedule) == (20, "cosine")
    assert options.lr == pytest.approx(0.0001)
    # Rounding is computed in float32, and dropout is none of what the file computes.
    assert (options.autocast, options.compile, options.dropout) == ("off", "off", 0.0)
    assert options.label_smoothing == 0.1
    assert FineTuning().options(TrainingOptions(epochs=3)).epochs == 2


def test_what_is_said_counts() -> None:
    options = FineTuning(epochs=3, lr=0.5).options(TRAINED)
    assert (options.epochs, options.lr) == (3, 0.5)
    assert FineTuning().wanted
    assert FineTuning(epochs=2).wanted
    assert not FineTuning(epochs=0).wanted


def test_all_that_is_impossible_is_told_at_once() -> None:
    with pytest.raises(UsageError, match=r"--qat-epochs is -1.*; --qat-lr is 0"):
        FineTuning(epochs=-1, lr=0.0)
    with pytest.raises(UsageError, match=r"--qat-epochs is 1, but must be 0 \(none\)"):
        FineTuning(epochs=1)
    with pytest.raises(UsageError, match="--qat-lr is nan"):
        FineTuning(lr=float("nan"))


def test_rates_of_a_recipe_come_down_with_the_training_s() -> None:
    found = FineTuning(lr=0.002).recipe(make_recipe("ktan"), TRAINED)
    assert found.to_dict()["lr_adversarial"] == pytest.approx(0.02 * 0.01)
    assert found.to_dict()["lr_dln"] is None
    # What is no rate of the student stays.
    assert found.to_dict()["lr_d"] == make_recipe("ktan").to_dict()["lr_d"]
    assert FineTuning(lr=0.002).recipe(make_recipe("kd"), TRAINED) == make_recipe("kd")


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Calibrated:
    path = tmp_path_factory.mktemp("toy") / "toy.onnx"
    torch.manual_seed(5)
    onnx_for_timing(build(with_dropout(toy.SPEC, 0.0)), path, spec=toy.SPEC)
    images = normalize(toy.stripes().train.images[:32], toy.GRAY).numpy()
    return calibrate(path, images, Quantization())


def weights(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def tuned(
    calibrated: Calibrated, recipe: str, folder: Path, listener: toy.Listener, epochs: int = 2
) -> dict[str, np.ndarray]:
    data, made = toy.stripes(), make_recipe(recipe)
    options = FineTuning(epochs=epochs, lr=0.001).options(toy.OPTIONS)
    run = RunFolder(folder / "run", {"recipe": recipe})
    run.begin({})
    torch.manual_seed(6)
    teacher = build(toy.SPEC).eval()
    found = fine_tune(
        calibrated,
        toy.SPEC,
        made,
        data,
        options,
        teacher=outputs_of(
            [NetworkTeacher(teacher, toy.GRAY)],
            made.teacher_outputs,
            data,
            options,
            folder=folder / "outputs",
            say=lambda _: None,
        ),
        folder=run,
        listener=listener,
    )
    return weights(found.floats)


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_every_recipe_can_go_on(recipe: str, calibrated: Calibrated, tmp_path: Path) -> None:
    before, listener = weights(calibrated.floats), toy.Listener()
    after = tuned(calibrated, recipe, tmp_path, listener)
    assert before.keys() == after.keys()
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert {"conv.weight", "stages.0.0.conv1.weight"} <= moved
    assert all(np.isfinite(values).all() for values in after.values())
    assert len(listener.epochs) >= 2


def test_stopped_and_gone_on_with_it_ends_alike(calibrated: Calibrated, tmp_path: Path) -> None:
    whole = tuned(calibrated, "kd", tmp_path / "whole", toy.Listener(), epochs=3)
    with pytest.raises(KeyboardInterrupt):
        tuned(calibrated, "kd", tmp_path / "stopped", toy.Listener(stop_after=2), epochs=3)
    listener = toy.Listener()
    again = tuned(calibrated, "kd", tmp_path / "stopped", listener, epochs=3)
    assert [metrics["epoch"] for metrics in listener.epochs] == [3]
    assert all(np.array_equal(whole[name], again[name]) for name in whole)
