"""Two processes end with the student that one has, whatever the recipe."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed
from torch.distributed import HashStore, TCPStore  # type: ignore[attr-defined]

from compress.errors import EndedElsewhere, ProcessLost, UsageError
from compress.recipes.registry import RECIPES
from compress.training.engine import Fitted
from compress.training.options import TrainingOptions
from compress.training.team import SyncBatchNorm2d, Team, agree_on_name
from tests.training import pair
from tests.training.toy import lines, stripes, train

# 97 images: the last batch has 7, of which one process gets 3 and the other 4. The teacher is asked
# in every step, because what is kept of it is float16.
OPTIONS = TrainingOptions(epochs=1, batch_size=15, lr=0.02, seed=1, views=0)

Case = tuple[str, dict[str, Any], TrainingOptions]
THREE_PHASES = ("dln", "ktan", "ktan+kd")
CASES: dict[str, Case] = {
    name: (name, {}, replace(OPTIONS, epochs=3 if name in THREE_PHASES else 1)) for name in RECIPES
} | {
    "a teacher with dropout": ("kd", {}, replace(OPTIONS, teacher_dropout=0.3)),
    "an average and smoothed labels": ("kd", {}, replace(OPTIONS, ema=0.9, label_smoothing=0.1)),
    "a critic with its penalty": ("logit-gan", {"objective": "wgan-gp"}, OPTIONS),
    "a discriminator that sees images": ("logit-gan", {"condition": "image"}, OPTIONS),
    "a head of its own": ("dln", {"head": "new"}, replace(OPTIONS, epochs=2)),
}


def trained(case: str, **more: Any) -> tuple[dict[str, Tensor], Fitted]:
    """In float64: in float32 a ReLU that switches on a last bit hides what is wrong."""
    recipe, settings, options = CASES[case]
    torch.set_default_dtype(torch.float64)
    try:
        return train(stripes(), recipe, options=options, settings=settings, **more)
    finally:
        torch.set_default_dtype(torch.float32)


def all_cases(team: Team, folder: Path) -> None:
    for number, case in enumerate(CASES):
        weights, fitted = trained(case, team=team)
        torch.save([weights, lines(fitted)], folder / f"{number}-{team.rank}.pt")


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pair")
    assert pair.run(all_cases, folder) == [0, 0]
    return folder


def largest_difference(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[name].double() - b[name].double()).abs().max()) for name in a)


@pytest.mark.parametrize("case", CASES)
def test_two_processes_end_where_one_does(of_two: Path, case: str) -> None:
    number = list(CASES).index(case)
    (first, history), (second, other) = (
        torch.load(of_two / f"{number}-{rank}.pt") for rank in range(2)
    )
    assert largest_difference(first, second) == 0
    alone, fitted = trained(case)
    assert largest_difference(first, alone) < 1e-9
    for mine, theirs, expected in zip(history, other, lines(fitted), strict=True):
        assert mine == theirs
        for name, value in expected.items():
            same = value if isinstance(value, str | None) else pytest.approx(value, rel=1e-6)
            assert mine[name] == same


def few_images(team: Team, folder: Path) -> None:
    layer = SyncBatchNorm2d(2)
    layer.team = team
    # Three images and one process with none of one: the statistics are those of all.
    for count in (3, 1):
        images = torch.arange(count * 8.0).sin().view(count, 2, 2, 2)
        mine = images[team.shard(count)].requires_grad_()
        outputs = layer(mine)
        (outputs * torch.arange(len(mine) * 8.0).view_as(mine)).sum().backward()
        assert mine.grad is not None
        torch.save(outputs.detach(), folder / f"{count}-{team.rank}.pt")
        assert bool(outputs.isfinite().all() and mine.grad.isfinite().all())


def test_a_process_may_have_no_image(tmp_path: Path) -> None:
    assert pair.run(few_images, tmp_path) == [0, 0]
    for count in (3, 1):
        images = torch.arange(count * 8.0).sin().view(count, 2, 2, 2)
        parts = [torch.load(tmp_path / f"{count}-{rank}.pt") for rank in range(2)]
        expected = torch.nn.BatchNorm2d(2)(images)
        assert torch.allclose(torch.cat(parts), expected, atol=1e-6)


def dies(team: Team, folder: Path) -> None:
    if not team.first:
        os._exit(7)
    try:
        team.broadcast_object(1)
    except ProcessLost:
        (folder / "lost").touch()
        raise EndedElsewhere(0) from None


def test_who_loses_another_says_so_at_once(tmp_path: Path) -> None:
    began_s = time.monotonic()
    codes = pair.run(dies, tmp_path)
    assert codes[0] != 0
    assert codes[1] == 7
    assert (tmp_path / "lost").exists()
    assert time.monotonic() - began_s < 120


@pytest.mark.parametrize(("batch", "compiled"), [(2, "auto"), (16, "on")])
def test_what_several_cannot_do_is_refused(batch: int, compiled: str) -> None:
    options = TrainingOptions(epochs=1, batch_size=batch, compile=compiled)
    with pytest.raises(UsageError, match="processes"):
        train(stripes(), options=options, team=Team(0, 3))


def test_parts_are_whole_and_even() -> None:
    for count in range(8):
        parts = [list(range(count))[Team(rank, 3).shard(count)] for rank in range(3)]
        assert [each for part in parts for each in part] == list(range(count))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_processes_that_were_started_anew_do_not_meet_those_that_are_gone() -> None:
    store = HashStore()
    names: list[str] = []
    for _ in range(2):  # the second time all that the first left is still there
        with ThreadPoolExecutor(3) as started:
            found = [started.submit(agree_on_name, store, rank, 3) for rank in (2, 0, 1)]
            told = {each.result(timeout=20) for each in found}
        assert len(told) == 1
        names += told
    assert names[0] != names[1]


def test_nobody_goes_on_before_all_are_there() -> None:
    store = HashStore()
    first, second = (Team(rank, 2, store) for rank in range(2))
    with ThreadPoolExecutor(1) as others:
        for _ in range(2):
            waiting = others.submit(first.barrier)
            time.sleep(0.5)
            assert not waiting.done()
            second.barrier()
            waiting.result(timeout=20)
        for name, error in (("ended", EndedElsewhere), ("failed", ProcessLost)):
            store = HashStore()
            waiting = others.submit(Team(1, 2, store).barrier)
            store.set(name, "0")
            with pytest.raises(error):
                waiting.result(timeout=20)


def fails_beside(team: Team, folder: Path) -> None:
    def load() -> None:
        if not team.first:
            raise UsageError("no such file here")

    try:
        team.rank_zero_first("data", load)
    except ProcessLost as error:
        (folder / "told").write_text(str(error))
        raise EndedElsewhere(0) from None


def test_the_first_is_told_where_another_fails_before_the_training(tmp_path: Path) -> None:
    assert pair.run(fails_beside, tmp_path)[1] == 1
    assert "Process 1 of this training failed" in (tmp_path / "told").read_text()


def are_killed(team: Team, folder: Path) -> None:
    os._exit(7)


def agree(team: Team, folder: Path) -> None:
    assert team.all_reduce_max(team.rank) == [1]


def first_is_late(rank: int) -> None:
    """The second process asks where the first one is before that has said so."""
    init = distributed.init_process_group

    def late(*arguments: Any, **more: Any) -> None:
        time.sleep(1.0 if rank == 0 else 0.0)
        init(*arguments, **more)

    distributed.init_process_group = late


def test_addresses_of_processes_that_are_gone_are_not_read(tmp_path: Path) -> None:
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    assert pair.run(are_killed, tmp_path, store=store) == [7, 7]
    assert pair.run(agree, tmp_path, store=store, before=first_is_late) == [0, 0]
