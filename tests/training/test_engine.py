from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from compress.data.dataset import Dataset, Split
from compress.errors import CheckpointError, TrainingDiverged, UsageError
from compress.models.registry import build
from compress.recipes.recipe import FEATURES
from compress.recipes.registry import RECIPES, make_recipe
from compress.spec import ModelSpec, Normalization
from compress.training.engine import Autocast, Fitted, Progress, choose_device, fit
from compress.training.evaluation import accuracy, evaluate, predictor
from compress.training.options import TrainingOptions
from compress.training.outputs import ComputedOutputs, Outputs, Teaching
from compress.training.runfolder import RunFolder

SPEC = ModelSpec("wrn", 10, 0.5, num_classes=3, input_shape=(1, 8, 8), dropout=0.3)
GRAY = Normalization((0.5,), (0.25,))
OPTIONS = TrainingOptions(epochs=4, batch_size=16, lr=0.05, seed=1)


class Listener:
    """Keeps what it is told; stops the run after some epochs, as a signal would."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.messages: list[str] = []
        self.epochs: list[Mapping[str, Any]] = []
        self.stop_after = stop_after

    def message(self, text: str) -> None:
        self.messages.append(text)

    def progress(self, progress: Progress) -> None:
        assert 0 <= progress.fraction < 1

    def epoch(self, metrics: Mapping[str, Any]) -> None:
        self.epochs.append(metrics)
        if metrics["epoch"] == self.stop_after:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Three classes told apart by their stripes: none, upright, lying."""
    rng = torch.Generator().manual_seed(0)

    def split(count: int) -> Split:
        labels = torch.arange(count) % 3
        images = torch.randint(0, 100, (count, 1, 8, 8), generator=rng, dtype=torch.uint8)
        images[labels == 1, :, :, ::2] += 150
        images[labels == 2, :, ::2, :] += 150
        return Split(images, labels)

    train, validation, test = split(97), split(30), split(30)
    names = ("a", "b", "c")
    return Dataset("toy", train, validation, test, 3, names, GRAY, False, "0" * 64, "made here")


def train(
    data: Dataset,
    recipe: str = "supervised",
    folder: RunFolder | None = None,
    stop_after: int | None = None,
    options: TrainingOptions = OPTIONS,
) -> tuple[dict[str, Tensor], Fitted]:
    torch.manual_seed(5)
    student, teacher = build(SPEC), build(SPEC).eval()
    made = make_recipe(recipe)
    outputs = ComputedOutputs(
        [Teaching(teacher, GRAY)],
        wanted=made.teacher_outputs,
        logits=options.teacher_logits,
        images=data.train.images,
    )
    fitted = fit(
        made,
        student,
        data,
        options,
        teacher=outputs,
        folder=folder,
        listener=Listener(stop_after),
    )
    return student.state_dict(), fitted


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_it_learns(data: Dataset) -> None:
    options = TrainingOptions(epochs=15, batch_size=16, lr=0.05, dropout=0.0)
    torch.manual_seed(0)
    student, listener = build(SPEC), Listener()
    fitted = fit(
        make_recipe("supervised"),
        student,
        data,
        options,
        teacher=None,
        folder=None,
        listener=listener,
    )
    history = fitted.history
    assert [metrics["epoch"] for metrics in history] == list(range(1, 16))
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    assert evaluate(predictor(student), data.test, GRAY) > 0.9
    assert not student.training
    assert listener.epochs == history
    reached = [metrics["validation_accuracy"] for metrics in history]
    assert fitted.best is not None
    assert fitted.best.accuracy == max(reached)
    assert fitted.best.epoch == 1 + reached.index(max(reached))
    student.load_state_dict(fitted.best.weights)
    assert evaluate(predictor(student), data.validation, GRAY) == fitted.best.accuracy


@pytest.mark.parametrize("recipe", sorted(RECIPES))
@pytest.mark.parametrize("teacher_logits", ["stored", "exact", "dropout"])
def test_the_same_seed_gives_the_same_student_bit_for_bit(
    data: Dataset, recipe: str, teacher_logits: str
) -> None:
    options = TrainingOptions(epochs=3, batch_size=16, seed=1, teacher_logits=teacher_logits)
    first, _ = train(data, recipe, options=options)
    torch.rand(7)  # what others draw from torch's generator must not matter
    again, _ = train(data, recipe, options=options)
    assert same(first, again)


def test_another_seed_gives_another_student(data: Dataset) -> None:
    assert not same(train(data)[0], train(data, options=TrainingOptions(4, 16, 0.05, seed=2))[0])


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_a_run_that_was_stopped_ends_with_the_same_student(
    data: Dataset, tmp_path: Path, recipe: str
) -> None:
    whole, expected = train(data, recipe)
    for epoch in (1, len(expected.history) - 1):
        folder = RunFolder(tmp_path / str(epoch), {})
        with pytest.raises(KeyboardInterrupt):
            train(data, recipe, folder, stop_after=epoch)
        resumed, fitted = train(data, recipe, folder)
        assert same(whole, resumed)
        assert expected.best is not None
        assert fitted.best is not None
        assert fitted.best.epoch == expected.best.epoch
        assert same(fitted.best.weights, expected.best.weights)
        without_speed = [
            [{k: v for k, v in line.items() if k != "images_per_s"} for line in lines]
            for lines in (expected.history, fitted.history)
        ]
        assert without_speed[0] == without_speed[1]
        assert len((folder.path / "metrics.jsonl").read_text().splitlines()) == len(
            expected.history
        )


@pytest.mark.parametrize("recipe", ["dln", "ktan", "ktan+kd"])
def test_a_run_goes_on_from_every_epoch_of_every_phase(
    data: Dataset, tmp_path: Path, recipe: str
) -> None:
    whole, fitted = train(data, recipe)
    history = fitted.history
    phases = [line["phase"] for line in history]
    last = [] if recipe == "dln" else ["adversarial"]
    assert phases == ["pretrain"] * 2 + ["regressor"] * 5 + ["dln"] * (2 - len(last)) + last
    # The last batch of each phase's last epoch is at a hundredth of its initial rate.
    assert history[1]["lr"] == pytest.approx(0.05 / 100)
    assert history[-1]["lr"] == pytest.approx((0.01 if last else 0.05) / 100)
    folder = RunFolder(tmp_path, {})
    for epoch in range(1, len(history)):
        with pytest.raises(KeyboardInterrupt):
            train(data, recipe, folder, stop_after=epoch)
    resumed, _ = train(data, recipe, folder)
    assert same(whole, resumed)


def test_the_teacher_is_asked_in_the_phases_that_ask_it(data: Dataset) -> None:
    torch.manual_seed(5)
    student, teacher = build(SPEC), build(SPEC).eval()
    outputs = ComputedOutputs(
        [Teaching(teacher, GRAY)],
        wanted=frozenset({FEATURES}),
        logits="stored",
        images=data.train.images,
    )
    asked: list[bool] = []

    class Asked:
        feature_shape = outputs.feature_shape

        def __call__(self, index: Tensor, view: int, pixels: Tensor) -> Outputs:
            asked.append(True)
            return outputs(index, view, pixels)

    recipe = make_recipe("dln", teacher_epochs=1)
    teacher_source = Asked()
    fit(recipe, student, data, OPTIONS, teacher=teacher_source, folder=None, listener=Listener())
    # 97 images in batches of 16, the last of one image left out: 6 an epoch; 1 + 2 of 5 epochs.
    assert len(asked) == 6 * 3
    asked.clear()
    fit(
        recipe,
        student,
        data,
        OPTIONS,
        teacher=teacher_source,
        folder=None,
        listener=Listener(),
        student_trained=True,
    )
    assert len(asked) == 6 * 5


def test_watched_images_are_scored_and_change_nothing(data: Dataset) -> None:
    torch.manual_seed(5)
    student = build(SPEC)
    torch.manual_seed(5)
    other = build(SPEC)
    method, listener = make_recipe("supervised"), Listener()
    plain = fit(method, student, data, OPTIONS, teacher=None, folder=None, listener=listener)
    watched = fit(
        method,
        other,
        data,
        OPTIONS,
        teacher=None,
        folder=None,
        listener=listener,
        watched={"train": data.train},
    )
    assert same(student.state_dict(), other.state_dict())
    scored = evaluate(predictor(other), data.train, GRAY)
    assert watched.history[-1]["train_accuracy"] == scored
    assert "train_accuracy" not in plain.history[-1]


def test_training_leaves_torch_s_generator_alone(data: Dataset) -> None:
    torch.manual_seed(5)
    build(SPEC), build(SPEC)
    expected = torch.rand(3)
    train(data)
    assert torch.equal(torch.rand(3), expected)


def test_a_damaged_checkpoint_is_refused(data: Dataset, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, {})
    folder.checkpoint.write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(CheckpointError, match=r"last.ckpt is damaged .* Remove it"):
        train(data, folder=folder)


@pytest.mark.parametrize(("recipe", "advice"), [("kd", r"1e\+30\)\.$"), ("logit-gan", "--lr-d")])
def test_a_diverging_loss_stops_the_run(
    data: Dataset, tmp_path: Path, recipe: str, advice: str
) -> None:
    folder = RunFolder(tmp_path, {})
    options = TrainingOptions(epochs=3, batch_size=16, lr=1e30)
    with pytest.raises(TrainingDiverged, match="Try a lower --lr") as caught:
        train(data, recipe, folder=folder, options=options)
    assert re.search(advice, str(caught.value))
    assert not folder.checkpoint.exists()


def test_the_schedule_is_the_paper_s_rescaled() -> None:
    options = TrainingOptions()
    factors = [options.rate_factor(epoch / 200) for epoch in (0, 79, 80, 159, 160, 199)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_one_cycle_goes_up_in_a_line_and_down_to_nothing() -> None:
    options = TrainingOptions(schedule="one-cycle")
    factors = [options.rate_factor(progress) for progress in (0, 0.075, 0.15, 0.575, 1)]
    assert factors == pytest.approx([0.01, 0.5, 1, 0.5, 0], abs=1e-12)


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_autocast_gives_the_same_student_bit_for_bit_also_when_stopped(
    data: Dataset, tmp_path: Path, recipe: str
) -> None:
    options = TrainingOptions(3, 16, 0.05, seed=1, autocast="bf16")
    whole, _ = train(data, recipe, options=options)
    folder = RunFolder(tmp_path, {})
    with pytest.raises(KeyboardInterrupt):
        train(data, recipe, folder, stop_after=1, options=options)
    resumed, _ = train(data, recipe, folder, options=options)
    assert same(whole, resumed)
    precise, _ = train(data, recipe, options=TrainingOptions(3, 16, 0.05, seed=1))
    assert precise.keys() == whole.keys() == build(SPEC).state_dict().keys()
    assert not same(whole, precise)
    assert {tensor.dtype for tensor in whole.values()} == {torch.float32, torch.int64}


def test_autocast_returns_float32() -> None:
    torch.manual_seed(0)
    network = build(SPEC)
    wrapped, images = Autocast(network), torch.rand(4, 1, 8, 8)
    features = wrapped.features(images)
    assert features.dtype == wrapped(images).dtype == wrapped.classify(features).dtype
    assert features.dtype == torch.float32
    wrapped.eval()
    assert not torch.equal(wrapped(images), network(images))
    assert torch.allclose(wrapped(images), network(images), atol=0.05)


def test_impossible_options_are_told_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        TrainingOptions(
            epochs=0,
            batch_size=1,
            lr=-1.0,
            dropout=1.0,
            teacher_logits="some",
            schedule="up",
            autocast="fp8",
        )
    for fault in (
        "'up', known are steps and one-cycle",
        "'fp8'",
        "epochs is 0",
        "batch size is 1",
        "rate is -1.0",
        "dropout is 1.0",
        "'some'",
    ):
        assert fault in str(caught.value)


def test_a_missing_gpu_is_named() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    with pytest.raises(UsageError, match="must be auto, cpu or cuda"):
        choose_device("tpu")


def test_accuracy_counts_best_classes() -> None:
    logits = torch.tensor([[1.0, 2.0], [3.0, 0.0], [0.0, 1.0], [5.0, 4.0]])
    assert accuracy(logits, torch.tensor([1, 0, 0, 1])) == 0.5
