"""compress.training.kept: computed once, shared, never stale, and as large as it was said."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from compress.data.augment import Augmenter
from compress.errors import TeacherError, UsageError
from compress.files import try_lock
from compress.models.network import FEATURES, LOGITS, Network
from compress.models.registry import build, spec_of
from compress.spec import Normalization
from compress.teachers.network import NetworkTeacher
from compress.training import kept as keeping
from compress.training.kept import KeptOutputs, PlainAnswers, outputs_of
from compress.training.options import TrainingOptions
from compress.training.outputs import ComputedOutputs, OutputsByTeacher, flat
from tests.training.toy import stripes

GRAY = Normalization((0.5,), (0.25,))
OTHER = Normalization((0.1,), (0.5,))
INDEX = torch.tensor([3, 0, 40])
BOTH = frozenset({LOGITS, FEATURES})
CPU = torch.device("cpu")


def network(name: str = "wrn-10-0.5", seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return build(spec_of(name, num_classes=3, input_shape=(1, 8, 8))).eval()


@pytest.fixture
def images() -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (50, 1, 8, 8), generator=rng, dtype=torch.uint8)


def crops_of(images: Tensor, seed: int = 1) -> Augmenter:
    digest = hashlib.sha256(images.numpy().tobytes()).hexdigest()
    return Augmenter(images, seed=seed, flip=False, pad=2, sha256=digest)


class Kept:
    """What a run finds in a folder, and what it is told."""

    def __init__(
        self,
        images: Tensor,
        folder: Path,
        teacher: Network | None = None,
        wanted: frozenset[str] = BOTH,
        views: Sequence[int] = (1, 2),
        seed: int = 1,
    ) -> None:
        self.said: list[str] = []
        teaching = [
            NetworkTeacher(teacher or network(), GRAY),
            NetworkTeacher(network("resnet-8", 1), OTHER),
        ]
        self.crops = crops_of(images, seed)
        self.computed = ComputedOutputs(teaching, wanted=wanted)
        self.source = KeptOutputs(
            self.computed,
            self.crops,
            views=views,
            folder=folder,
            device=CPU,
            say=self.said.append,
        )

    def __call__(self, view: int = 1) -> OutputsByTeacher:
        return self.source(INDEX, view, self.crops(INDEX, view))

    @property
    def computations(self) -> int:
        return sum(text.startswith("Computing") for text in self.said)


def close(found: OutputsByTeacher, expected: OutputsByTeacher) -> bool:
    one, other = flat(found), flat(expected)
    assert one.keys() == other.keys()
    return all(torch.allclose(one[key], other[key], rtol=2e-3, atol=2e-3) for key in one)


def output_in(folder: Path) -> tuple[int, str]:
    facts = json.loads((folder / "facts.json").read_text())
    return facts["teacher"], facts["output"]


def equal(one: OutputsByTeacher, other: OutputsByTeacher) -> bool:
    first, second = flat(one), flat(other)
    return first.keys() == second.keys() and all(
        torch.equal(first[key], second[key]) for key in first
    )


@pytest.mark.parametrize("place", ["memory and disk", "mapped", "memory"])
def test_kept_outputs_are_those_of_the_views(
    images: Tensor, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place == "mapped":
        monkeypatch.setattr(keeping, "fits", lambda size_bytes, device: False)
    if place == "memory":
        (tmp_path / "file").touch()
    folder = tmp_path / ("file" if place == "memory" else "kept")
    kept = Kept(images, folder, views=(0, 1, 2))
    for view in (1, 2, 1, 0):
        found = kept(view)
        assert close(found, kept.computed(INDEX, view, kept.crops(INDEX, view)))
        assert {t.dtype for t in flat(found).values()} == {torch.float32}
    assert kept.computations == 3
    # 50 images, 2 x 3 logits and 32 x 2 x 2 maps, two bytes each, three views.
    size = "40.2 kB"
    said = {
        "memory and disk": f"take {size}, in memory, and for other runs in ",
        "mapped": f"take {size}, mapped into memory in ",
        "memory": f"take {size}, in memory only: ",
    }
    assert "outputs of 50 images in 3 views each" in kept.said[0]
    assert said[place] in kept.said[0]
    held = sum(np.load(path).nbytes for path in tmp_path.rglob("*.npy"))
    assert held == (0 if place == "memory" else 50 * 2 * (6 + 128) * 3)
    again = Kept(images, folder, views=(0, 1, 2))
    assert equal(again(2), kept(2))
    assert again.computations == (1 if place == "memory" else 0)


def test_kinds_are_shared_between_those_that_want_one_and_both(
    images: Tensor, tmp_path: Path
) -> None:
    maps = Kept(images, tmp_path, wanted=frozenset({FEATURES}))
    assert [set(each) for each in maps()] == [{FEATURES}]
    held = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    both = Kept(images, tmp_path)
    found = both()
    assert both.computations == 1
    assert len(list(tmp_path.rglob("*.npy"))) == 3
    assert {path: path.stat().st_mtime_ns for path in held} == held
    logits = Kept(images, tmp_path, wanted=frozenset({LOGITS}))
    assert torch.equal(logits()[1][LOGITS], found[1][LOGITS])
    assert logits.computations == 0


def test_what_depends_on_anything_else_finds_nothing_of_it(images: Tensor, tmp_path: Path) -> None:
    first = Kept(images, tmp_path)()
    brighter = (images // 2 + 100).to(torch.uint8)
    for other in (
        Kept(images, tmp_path, teacher=network(seed=3)),
        Kept(brighter, tmp_path),
        Kept(images, tmp_path, seed=2),
    ):
        assert not equal(other(), first)
        assert other.computations == 1
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        elsewhere = Kept(images, tmp_path)
        assert close(elsewhere(), first)
        assert elsewhere.computations == 1
    finally:
        torch.set_num_threads(threads)


def test_the_images_as_they_are_are_shared_by_all_seeds(images: Tensor, tmp_path: Path) -> None:
    Kept(images, tmp_path, views=(0,))(0)
    again = Kept(images, tmp_path, views=(0,), seed=2)
    assert close(again(0), again.computed(INDEX, 0, images[INDEX]))
    assert again.computations == 0


@pytest.mark.parametrize("damage", ["a bit", "the end", "facts", "interrupted"])
def test_what_is_damaged_is_made_again(images: Tensor, tmp_path: Path, damage: str) -> None:
    first = Kept(images, tmp_path)()
    path = max(tmp_path.rglob("*.npy"), key=lambda each: each.stat().st_size)
    content = bytearray(path.read_bytes())
    if damage == "a bit":
        content[-5] ^= 64
        path.write_bytes(content)
    elif damage == "the end":
        path.write_bytes(content[:-100])
    elif damage == "facts":
        (path.parent / "facts.json").write_text('{"sha256"')
    else:
        (path.parent / "facts.json").unlink()
        path.write_bytes(b"half")
    again = Kept(images, tmp_path)
    assert equal(again(), first)
    assert again.computations == 1
    assert any("is computed again" in text for text in again.said) == (damage != "interrupted")


@pytest.mark.parametrize("failing", [1, 4, 7])
def test_a_pass_that_was_interrupted_goes_on(
    images: Tensor, tmp_path: Path, failing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 7 parts the one of this number fails; it and those behind it are computed, no others."""
    monkeypatch.setattr(keeping, "EVALUATION_BATCH", 8)
    expected = Kept(images, tmp_path / "whole")()
    first = Kept(images, tmp_path / "parts")
    compute, parts = ComputedOutputs.__call__, []

    def failing_at(
        self: ComputedOutputs, index: Tensor, view: int, pixels: Tensor
    ) -> OutputsByTeacher:
        parts.append(index.tolist())
        if len(parts) == failing:
            raise KeyboardInterrupt
        return compute(self, index, view, pixels)

    monkeypatch.setattr(ComputedOutputs, "__call__", failing_at)
    with pytest.raises(KeyboardInterrupt):
        first()
    done = 8 * (failing - 1)
    again = Kept(images, tmp_path / "parts")
    assert equal(again(), expected)
    assert [index for part in parts[failing:] for index in part] == list(range(done, 50))
    assert (f", of which {done} are done." in again.said[-1]) == (done > 0)
    assert len(list((tmp_path / "parts").rglob("*.part*"))) == 0


def test_kinds_that_were_interrupted_at_different_images_go_on_at_one(
    images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "EVALUATION_BATCH", 8)
    expected = Kept(images, tmp_path / "whole")()
    compute = ComputedOutputs.__call__
    for wanted, end in ((frozenset({LOGITS}), 40), (BOTH, 16)):

        def failing(
            self: ComputedOutputs, index: Tensor, view: int, pixels: Tensor, end: int = end
        ) -> OutputsByTeacher:
            if int(index[0]) == end:
                raise KeyboardInterrupt
            return compute(self, index, view, pixels)

        monkeypatch.setattr(ComputedOutputs, "__call__", failing)
        stopped = Kept(images, tmp_path / "parts", wanted=wanted)
        with pytest.raises(KeyboardInterrupt):
            stopped()
    monkeypatch.setattr(ComputedOutputs, "__call__", compute)
    again = Kept(images, tmp_path / "parts")
    assert equal(again(), expected)
    assert ", of which 16 are done." in again.said[-1]


def test_how_far_a_long_pass_is_is_told(
    images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "EVALUATION_BATCH", 10)
    clock = iter(range(0, 100_000, 40))
    monkeypatch.setattr("compress.training.kept.time.monotonic", lambda: next(clock))
    kept = Kept(images, tmp_path, views=(1,))
    kept()
    told = [text for text in kept.said if text.endswith(" left.")]
    assert told, kept.said
    assert all(" of 50, " in text for text in told)


def test_what_the_teacher_does_not_say_any_more_is_made_again(
    images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is whole, under a name that promises too much."""
    first = Kept(images, tmp_path)()
    monkeypatch.setattr("compress.data.augment.AUGMENTATION", "another")
    stale = Kept(images, tmp_path / "stale", seed=2)
    stale()
    right = [p.parent for p in sorted(tmp_path.glob("*/facts.json"))]
    monkeypatch.undo()
    for wrong in (tmp_path / "stale").iterdir():
        (there,) = (path for path in right if output_in(path) == output_in(wrong))
        shutil.rmtree(there)
        shutil.copytree(wrong, there)
    again = Kept(images, tmp_path)
    assert equal(again(), first)
    assert sum("does not match the teacher" in text for text in again.said) == 3


def test_another_process_is_waited_for(
    images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Kept(images, tmp_path)()
    folder = next(tmp_path.iterdir())
    lock = try_lock(folder)
    assert lock.__enter__()
    # The other one is ready when this one has waited once.
    monkeypatch.setattr(
        "compress.training.kept.time.sleep", lambda _: lock.__exit__(None, None, None)
    )
    waiting = Kept(images, tmp_path)
    waiting()
    assert sum("Another process computes" in text for text in waiting.said) == 1
    assert waiting.computations == 0


def test_large_maps_are_kept_as_float32(images: Tensor, tmp_path: Path) -> None:
    teacher = network()
    with torch.no_grad():
        teacher.get_parameter("bn.weight").mul_(1e6)
    found = Kept(images, tmp_path, teacher)()[0][FEATURES]
    assert found.max() > 65504
    assert torch.isfinite(found).all()
    assert {str(np.load(path).dtype) for path in tmp_path.rglob("*.npy")} == {"float32", "float16"}


def test_a_teacher_that_overflows_is_told_and_nothing_is_kept(
    images: Tensor, tmp_path: Path
) -> None:
    teacher = network()
    with torch.no_grad():
        next(teacher.get_submodule("classifier").parameters()).fill_(3e38)
    with pytest.raises(TeacherError, match=r"logits for training image \d+ are not finite"):
        Kept(images, tmp_path, teacher, frozenset({LOGITS}))()
    assert not list(tmp_path.glob("*/*.npy"))


def test_neither_memory_nor_disk_has_room(
    images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=20_000))
    monkeypatch.setattr(keeping, "fits", lambda size_bytes, device: False)
    kept = Kept(images, tmp_path)
    with pytest.raises(UsageError, match=r"take 26.8 kB, but neither .* Use fewer --views"):
        kept()
    # What is there already needs no more room.
    one = Kept(images, tmp_path, views=(1,))
    one()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10))
    assert equal(Kept(images, tmp_path, views=(1,))(), one())


def test_outputs_with_dropout_cannot_be_kept(images: Tensor, tmp_path: Path) -> None:
    source = ComputedOutputs([NetworkTeacher(network(), GRAY)], wanted=BOTH, dropout=0.3)
    with pytest.raises(ValueError, match="cannot be kept"):
        KeptOutputs(
            source, crops_of(images), views=(1,), folder=tmp_path, device=CPU, say=lambda _: None
        )


# --- What is kept of which training --------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "views", "keep_bytes", "expected"),
    [
        ({LOGITS}, 1, 0, "plain answers"),
        ({FEATURES}, 1, 0, "computed"),
        (BOTH, 1, 0, "plain answers, computed"),
        (BOTH, 1, 1e9, "plain answers, kept"),
        (BOTH, 3, 0, "kept"),
        (BOTH, 4, 0, "computed"),
        (BOTH, 9, 0, "computed"),
        (BOTH, 0, 0, "computed"),
        (BOTH, 0, 1e9, "kept"),
        # 97 images, 4 epochs, 3 logits and 32 x 2 x 2 maps, two bytes each.
        (BOTH, 0, 97 * 4 * 262 - 1, "computed"),
        (BOTH, 0, 97 * 4 * 262, "kept"),
        ((), 1, 0, "nothing"),
    ],
)
def test_where_outputs_come_from(
    tmp_path: Path, wanted: Sequence[str], views: int, keep_bytes: float, expected: str
) -> None:
    found = outputs_of(
        [NetworkTeacher(network(), GRAY)],
        frozenset(wanted),
        stripes(),
        TrainingOptions(epochs=4, views=views),
        folder=tmp_path,
        say=lambda _: None,
        keep_bytes=keep_bytes,
    )
    names = {ComputedOutputs: "computed", KeptOutputs: "kept", type(None): ""}
    if isinstance(found, PlainAnswers):
        parts = ["plain answers", names[type(found._maps)]]
        assert ", ".join(filter(None, parts)) == expected
    else:
        assert (names[type(found)] or "nothing") == expected


def test_plain_answers_do_not_depend_on_the_view(tmp_path: Path) -> None:
    data = stripes()
    found = outputs_of(
        [NetworkTeacher(network(), GRAY)],
        BOTH,
        data,
        replace(TrainingOptions(), views=1),
        folder=tmp_path,
        say=lambda _: None,
    )
    assert found is not None
    crops = Augmenter(data.train.images, seed=0, flip=False)
    (first,), (second,) = (found(INDEX, view, crops(INDEX, view)) for view in (1, 2))
    assert torch.equal(first[LOGITS], second[LOGITS])
    expected = network()((data.train.images[INDEX] / 255 - 0.5) / 0.25)
    assert torch.allclose(first[LOGITS], expected, atol=2e-3)
    assert not torch.allclose(first[FEATURES], second[FEATURES])
