from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException
from torch.utils._python_dispatch import TorchDispatchMode

from compress.data.augment import Augmenter
from compress.data.dataset import Dataset, Split
from compress.data.images import StreamedImages
from compress.errors import CheckpointError, RunFolderError, TrainingDiverged, UsageError
from compress.models.network import FEATURES, Network
from compress.models.registry import build, with_dropout
from compress.recipes.registry import RECIPES, make_recipe
from compress.teachers.network import NetworkTeacher
from compress.training import saving
from compress.training.device import choose_device
from compress.training.engine import explained, fit
from compress.training.evaluation import evaluate, predictor
from compress.training.options import TrainingOptions
from compress.training.outputs import (
    ComputedOutputs,
    OutputsByTeacher,
)
from compress.training.passes import Passes
from compress.training.runfolder import RunFolder
from compress.training.tuning import Tuning
from tests.training.toy import GRAY, OPTIONS, SPEC, Listener, lines, same, stripes, train


@pytest.fixture(scope="module")
def data() -> Dataset:
    return stripes()


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
    assert evaluate(predictor(student, data.task), data.task, data.test, GRAY) > 0.9
    assert not student.training
    assert listener.epochs == history
    reached = [metrics["validation_accuracy"] for metrics in history]
    assert fitted.best is not None
    assert fitted.best.score == max(reached)
    assert fitted.best.epoch == 1 + reached.index(max(reached))
    student.load_state_dict(fitted.best.weights)
    assert (
        evaluate(predictor(student, data.task), data.task, data.validation, GRAY)
        == fitted.best.score
    )


@pytest.mark.parametrize("recipe", sorted(RECIPES))
@pytest.mark.parametrize(("views", "dropout"), [(1, 0.0), (2, 0.0), (0, 0.3)])
def test_the_same_seed_gives_the_same_student_bit_for_bit(
    data: Dataset, recipe: str, views: int, dropout: float
) -> None:
    options = TrainingOptions(3, 16, seed=1, views=views, teacher_dropout=dropout)
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
            train(data, recipe, folder, Listener(epoch))
        resumed, fitted = train(data, recipe, folder)
        assert same(whole, resumed)
        assert expected.best is not None
        assert fitted.best is not None
        assert fitted.best.epoch == expected.best.epoch
        assert same(fitted.best.weights, expected.best.weights)
        assert lines(fitted) == lines(expected)
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
    assert phases == ["pretrain"] * 2 + ["regressor"] + ["dln"] * (2 - len(last)) + last
    # The last batch of each phase's last epoch is at a hundredth of its initial rate.
    assert history[1]["lr"] == pytest.approx(0.05 / 100)
    assert history[-1]["lr"] == pytest.approx((0.01 if last else 0.05) / 100)
    folder = RunFolder(tmp_path, {})
    for epoch in range(1, len(history)):
        with pytest.raises(KeyboardInterrupt):
            train(data, recipe, folder, Listener(epoch))
    resumed, _ = train(data, recipe, folder)
    assert same(whole, resumed)


def test_the_teacher_is_asked_in_the_phases_that_ask_it(data: Dataset) -> None:
    torch.manual_seed(5)
    student, teacher = build(SPEC), build(SPEC).eval()
    outputs = ComputedOutputs([NetworkTeacher(teacher, GRAY)], wanted=frozenset({FEATURES}))
    asked: list[bool] = []

    class Asked:
        shapes = outputs.shapes

        def __call__(self, index: Tensor, view: int, pixels: Tensor) -> OutputsByTeacher:
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


@pytest.mark.parametrize("views", [1, 2])
def test_images_that_are_fetched_give_the_same_student(data: Dataset, views: int) -> None:
    def elsewhere(split: Split) -> Split:
        return Split(StreamedImages(split.images[:]), split.targets)

    far = replace(data, train=elsewhere(data.train), validation=elsewhere(data.validation))
    options = replace(OPTIONS, views=views)
    near_student, near = train(data, "kd", options=options)
    far_student, fitted = train(far, "kd", options=options)
    assert same(near_student, far_student)
    assert lines(fitted) == lines(near)


def test_views_are_used_in_turn(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    crop = Augmenter.__call__

    def note(self: Augmenter, index: Tensor, view: int) -> Tensor:
        if len(index) == 16:
            seen.append(view)
        return crop(self, index, view)

    monkeypatch.setattr(Augmenter, "__call__", note)
    for views, expected in ((1, [1, 2, 3, 4, 5]), (2, [1, 2, 1, 2, 1]), (5, [1, 2, 3, 4, 5])):
        train(data, options=TrainingOptions(5, 16, views=views))
        assert seen[::6] == expected
        seen.clear()


@pytest.mark.parametrize("recipe", ["kd", "fitnet", "ktan"])
def test_as_many_views_as_epochs_are_the_teacher_in_every_step(data: Dataset, recipe: str) -> None:
    students = [
        train(data, recipe, options=TrainingOptions(3, 16, 0.05, seed=1, views=views))[0]
        for views in (0, 3, 2)
    ]
    assert same(students[0], students[1])
    assert not same(students[0], students[2])


PLAIN = with_dropout(SPEC, 0.0)


class Reads(TorchDispatchMode):
    """Counts what would make a host wait for a device."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "item")

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(name in str(func) for name in self.WAITING):
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_no_step_reads_from_the_device(
    data: Dataset, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In many steps no more is read than in few: what is read, is read once an epoch."""
    # A slow machine would look at the losses within an epoch too.
    monkeypatch.setattr(saving, "LOOK_EVERY_S", math.inf)
    counts = []
    many = replace(data, train=data.train.take(torch.arange(97).repeat(3)[:290]))
    for these in (data, many):
        options = TrainingOptions(3, 16, seed=1, views=0, ema=0.5, label_smoothing=0.1)
        with Reads() as reads:
            train(these, recipe, options=options)
        counts.append(len(reads.found))
    assert counts[0] == counts[1]
    with Reads() as reads:
        float(torch.ones(1))
    assert reads.found


def test_a_recipe_that_does_not_serve_the_task_is_refused(data: Dataset) -> None:
    other: Any = SimpleNamespace(name="regression")
    with pytest.raises(UsageError, match="'kd' serves classification, and the data are of regress"):
        train(replace(data, task=other), "kd")


def test_an_average_is_what_is_judged_and_kept(data: Dataset, tmp_path: Path) -> None:
    options = replace(OPTIONS, ema=0.9)
    plain, _ = train(data)
    whole, fitted = train(data, options=options)
    assert not same(plain, whole)
    torch.manual_seed(5)
    student = build(SPEC)
    student.load_state_dict(whole)
    scored = evaluate(predictor(student, data.task), data.task, data.validation, GRAY)
    assert fitted.history[-1]["validation_accuracy"] == scored
    folder = RunFolder(tmp_path, {})
    with pytest.raises(KeyboardInterrupt):
        train(data, folder=folder, listener=Listener(2), options=options)
    resumed, again = train(data, folder=folder, options=options)
    assert same(whole, resumed)
    assert lines(again) == lines(fitted)


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_smoothed_labels_are_learned_from(data: Dataset, recipe: str) -> None:
    options = replace(OPTIONS, epochs=3)
    smoothed, _ = train(data, recipe, options=replace(options, label_smoothing=0.3))
    assert not same(train(data, recipe, options=options)[0], smoothed)


def test_how_steps_are_computed_is_noted_and_kept(data: Dataset, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, {})
    folder.begin({})
    listener = Listener(1)
    options = replace(OPTIONS, memory_format="contiguous")
    with pytest.raises(KeyboardInterrupt):
        train(data, folder=folder, listener=listener, options=options)
    assert listener.steps.startswith("Steps: contiguous, not compiled")
    noted = {"memory_format": "contiguous", "compile": "off", "fused": False, "bf16": False}
    assert json.loads((tmp_path / "run.json").read_text())["tuning"] == noted
    # As the run began, whatever would be decided today.
    rest = Listener()
    resumed, _ = train(data, folder=folder, listener=rest, options=OPTIONS)
    assert rest.steps == ""
    whole, _ = train(data, options=options)
    assert same(whole, resumed)
    assert not same(whole, train(data)[0])


@pytest.mark.parametrize("noted", [[], {}, {"compile": "faster"}, {"fused": "yes"}, {"more": 1}])
def test_a_changed_note_of_how_steps_are_computed_is_refused(
    data: Dataset, tmp_path: Path, noted: Any
) -> None:
    folder = RunFolder(tmp_path, {})
    folder.begin({})
    folder.note("tuning", {**Tuning().to_dict(), **noted} if noted else noted)
    with pytest.raises(RunFolderError, match="that no run writes"):
        train(data, folder=RunFolder(tmp_path, {}), options=OPTIONS)


def test_layouts_differ_in_the_last_bits_alone(data: Dataset) -> None:
    """And in what dropout draws, which is without here."""
    last, contiguous = (
        train(data, options=replace(OPTIONS, memory_format=layout), spec=PLAIN)[1].history
        for layout in ("channels_last", "contiguous")
    )
    assert last[0]["loss"] == pytest.approx(contiguous[0]["loss"], rel=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("recipe", ["logit-gan", "ktan"])
def test_a_compiled_training_is_the_same_training(
    data: Dataset, tmp_path: Path, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Close to the one that is not compiled, and bit-equal to itself, also when stopped."""
    compiled = replace(OPTIONS, compile="on")
    _, fitted = train(data, recipe, options=compiled, spec=PLAIN)
    _, expected = train(data, recipe, spec=PLAIN)
    assert fitted.history[0]["loss"] == pytest.approx(expected.history[0]["loss"], rel=1e-3)
    whole, _ = train(data, recipe, options=compiled)
    folder = RunFolder(tmp_path, {})

    shown = 0

    def stop(*_: Any) -> None:
        nonlocal shown
        shown += 1
        if shown == 9:
            raise KeyboardInterrupt

    # Not by a hook of the student, which would be compiled with it.
    with monkeypatch.context() as patch:
        patch.setattr("compress.training.listener.ProgressMeter.add", stop)
        with pytest.raises(KeyboardInterrupt):
            train(data, recipe, folder, options=compiled, save_every_s=0.0)
    resumed, _ = train(data, recipe, folder, options=compiled)
    assert same(whole, resumed)


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
    scored = evaluate(predictor(other, data.task), data.task, data.train, GRAY)
    assert watched.history[-1]["train_accuracy"] == scored
    assert "train_accuracy" not in plain.history[-1]


def test_training_leaves_torch_s_generator_alone(data: Dataset) -> None:
    torch.manual_seed(5)
    build(SPEC), build(SPEC)
    expected = torch.rand(3)
    train(data)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("recipe", ["kd", "logit-gan", "ktan"])
def test_a_run_that_was_stopped_within_an_epoch_ends_with_the_same_student(
    data: Dataset, tmp_path: Path, recipe: str
) -> None:
    whole, expected = train(data, recipe)
    folder = RunFolder(tmp_path, {})

    def stop(step: int) -> None:
        if step == 4:
            raise KeyboardInterrupt

    # 97 images in batches of 16: 6 steps an epoch, so this stops at other places every time.
    stops = 0
    while True:
        try:
            listener = Listener()
            resumed, fitted = train(data, recipe, folder, listener, on_step=stop, save_every_s=0.0)
            break
        except KeyboardInterrupt:
            stops += 1
            assert stops < 12
    assert stops >= 4
    assert same(whole, resumed)
    assert lines(fitted) == lines(expected)
    assert any(re.match(r"Resuming after step \d of 6 of epoch", m) for m in listener.messages)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(data: Dataset, tmp_path: Path) -> None:
    whole, _ = train(data)
    folder = RunFolder(tmp_path, {})
    with pytest.raises(KeyboardInterrupt):
        train(data, folder=folder, listener=Listener(3))
    content = bytearray((tmp_path / "last.ckpt").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "last.ckpt").write_bytes(content)
    listener = Listener()
    resumed, _ = train(data, folder=folder, listener=listener)
    assert re.search(r"Damaged: .*last.ckpt .*checksum.* previous.ckpt", listener.messages[0])
    assert listener.messages[1] == "Resuming after epoch 2 of 4."
    assert same(whole, resumed)


def test_nothing_but_damaged_checkpoints_are_refused(data: Dataset, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, {})
    for name in ("last.ckpt", "previous.ckpt"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(CheckpointError, match=r"last.ckpt .*previous.ckpt .* Remove these files"):
        train(data, folder=folder)


@pytest.mark.parametrize("recipe", ["kd", "logit-gan"])
def test_a_diverging_loss_stops_the_run(data: Dataset, tmp_path: Path, recipe: str) -> None:
    folder = RunFolder(tmp_path, {})
    options = TrainingOptions(epochs=3, batch_size=16, lr=1e30)
    with pytest.raises(TrainingDiverged) as caught:
        train(data, recipe, folder=folder, options=options)
    said = str(caught.value)
    assert re.match(r"The loss became (nan|inf) in step [12] of epoch 1\. Try a lower --lr ", said)
    assert "(it is 1e+30) with another --out" in said
    assert ("--lr-d" in said) == (recipe == "logit-gan")
    assert not (tmp_path / "last.ckpt").exists()


def test_what_was_good_before_a_loss_diverged_is_kept(data: Dataset, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, {})
    with pytest.raises(KeyboardInterrupt):
        train(data, folder=folder, listener=Listener(2))
    before = (tmp_path / "last.ckpt").read_bytes()
    student: list[Network] = []

    def spoil(step: int) -> None:
        if step == 3:
            with torch.no_grad():
                student[0].get_parameter("linear.weight")[0, 0] = math.inf

    def remember(made: Network) -> None:
        student.append(made)

    with pytest.raises(TrainingDiverged) as caught:
        train(data, folder=folder, on_step=spoil, on_build=remember)
    assert "in step 4 of epoch 3. The state after epoch 2 of 4 is kept." in str(caught.value)
    assert (tmp_path / "last.ckpt").read_bytes() == before


def test_weights_that_are_no_numbers_are_not_saved(data: Dataset, tmp_path: Path) -> None:
    """An infinite gradient of a finite loss: the loss shows it one step later."""
    folder = RunFolder(tmp_path, {})
    student: list[Network] = []

    def spoil(step: int) -> None:
        parameter = student[0].get_parameter("conv.weight")
        if step == 2:
            parameter.register_hook(lambda gradient: gradient * math.nan)

    with pytest.raises(TrainingDiverged, match="weights are not finite after step 3 of 6"):
        train(data, folder=folder, on_step=spoil, on_build=student.append, save_every_s=0.0)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["scalars"]["steps"] == 2
    assert all(bool(t.isfinite().all()) for t in saved["modules"]["student"].values())


def test_losses_are_looked_at_in_time(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at the end of an epoch alone, which may take hours."""
    monkeypatch.setattr(saving, "LOOK_EVERY_S", 0.0)
    steps: list[int] = []
    with pytest.raises(TrainingDiverged):
        train(data, options=TrainingOptions(3, 16, lr=1e30), on_step=steps.append)
    assert steps == [0, 1]


def test_the_schedule_is_the_paper_s_rescaled() -> None:
    options = TrainingOptions()
    factors = [options.rate_factor(epoch / 200) for epoch in (0, 79, 80, 159, 160, 199)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_a_cosine_goes_down_to_nothing() -> None:
    options = TrainingOptions(schedule="cosine")
    factors = [options.rate_factor(progress) for progress in (0, 0.25, 0.5, 1)]
    assert factors == pytest.approx([1, 0.5 + 0.5**0.5 / 2, 0.5, 0], abs=1e-12)


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
        train(data, recipe, folder, Listener(1), options=options)
    resumed, _ = train(data, recipe, folder, options=options)
    assert same(whole, resumed)
    precise, _ = train(data, recipe, options=TrainingOptions(3, 16, 0.05, seed=1))
    assert precise.keys() == whole.keys() == build(SPEC).state_dict().keys()
    assert not same(whole, precise)
    assert {tensor.dtype for tensor in whole.values()} == {torch.float32, torch.int64}


def test_autocast_returns_float32() -> None:
    torch.manual_seed(0)
    network = build(SPEC)
    wrapped, images = Passes(network, bf16=True), torch.rand(4, 1, 8, 8)
    features = wrapped.outputs(images, (FEATURES,))[FEATURES]
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
            views=-1,
            teacher_dropout=1.0,
            schedule="up",
            autocast="fp8",
            memory_format="nhwc",
            compile="maybe",
            ema=1.0,
            deterministic=True,
        )
    with pytest.raises(UsageError, match="a measured choice may differ"):
        TrainingOptions(compile="measured", deterministic=True)
    for fault in (
        "'up', known are steps and one-cycle and cosine",
        "memory format is 'nhwc'",
        "compile is 'maybe'",
        "ema is 1.0",
        "'fp8'",
        "epochs is 0",
        "batch size is 1",
        "rate is -1.0",
        "dropout is 1.0",
        "views is -1",
        "teacher's dropout is 1.0",
    ):
        assert fault in str(caught.value)


def test_what_is_drawn_anew_cannot_be_kept() -> None:
    with pytest.raises(UsageError, match=r"dropout is 0.3 and views is 1: .* give --views 0"):
        TrainingOptions(teacher_dropout=0.3)


def test_a_missing_gpu_is_named() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    with pytest.raises(UsageError, match="must be auto, cpu or cuda"):
        choose_device("tpu")


def test_what_torch_lacks_is_told_in_words() -> None:
    compiled = Tuning(compile="on")
    full = r"no memory left: CUDA out of memory\. Use a smaller --batch-size \(it is 16\)"
    with pytest.raises(UsageError, match=full), explained(OPTIONS, Tuning()):
        raise torch.OutOfMemoryError("CUDA out of memory.\nAnd more of it.")
    failed = r"torch\.compile failed: .*no compiler\. Use --compile off"
    with pytest.raises(UsageError, match=failed), explained(OPTIONS, compiled):
        raise TorchDynamoException("no compiler")
    with pytest.raises(ValueError, match="ours"), explained(OPTIONS, compiled):
        raise ValueError("ours")


@pytest.mark.parametrize("count", [0, 1])
def test_one_image_is_too_few(count: int) -> None:
    data = stripes()
    few = replace(data, train=Split(data.train.images[:count], data.train.targets[:count]))
    with pytest.raises(UsageError, match=f"{count} training images, but batch normalisation"):
        train(few)
