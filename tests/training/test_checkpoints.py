from __future__ import annotations

import json
import multiprocessing
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from compress.errors import CheckpointError, InputError, UsageError
from compress.training.checkpoints import Checkpoints
from compress.training.runfolder import RunFolder
from compress.training.state import Position, position_of
from tests.schema.broken import MISSING, VALUES, places, with_value
from tests.training.toy import Listener, stripes, train


def state(number: int) -> dict[str, Any]:
    return {"number": number, "weights": torch.full((1000,), float(number))}


def number_of(found: Mapping[str, Any]) -> int:
    assert torch.equal(found["weights"], state(found["number"])["weights"])
    return int(found["number"])


def checkpoints(folder: Path) -> tuple[Checkpoints, list[str]]:
    said: list[str] = []
    return Checkpoints(folder, said.append), said


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    kept, said = checkpoints(tmp_path)
    assert kept.load(number_of) is None
    for number in (1, 2, 3):
        kept.save(state(number))
        assert kept.load(number_of) == number
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.ckpt", "previous.ckpt"]
    (tmp_path / "last.ckpt").unlink()
    assert kept.load(number_of) == 2
    assert said == []
    kept.remove()
    assert not list(tmp_path.iterdir())


# A bit of a tensor, of the pickle, of the list of contents; the end lost; all lost.
@pytest.mark.parametrize("damage", ["tensor", "pickle", "directory", "end", "all"])
def test_the_newest_may_be_damaged_anywhere(tmp_path: Path, damage: str) -> None:
    kept, said = checkpoints(tmp_path)
    for number in (1, 2):
        kept.save(state(number))
    content = bytearray(kept.newest.read_bytes())
    if damage == "tensor":
        content[content.index(b"\x00\x00\x00\x40" * 10)] ^= 1
    elif damage == "pickle":
        content[content.index(b"weights")] ^= 1
    elif damage == "directory":
        content[content.index(b"PK\x01\x02")] ^= 1
    else:
        del content[100 if damage == "end" else 0 :]
    kept.newest.write_bytes(content)
    assert kept.load(number_of) == 1
    assert "last.ckpt" in said[0]
    assert said[0].endswith("Resuming from the previous state, previous.ckpt.")
    assert kept.newest.with_name("last.ckpt.damaged").read_bytes() == content
    # The good one is not lost to the damaged one.
    kept.save(state(5))
    assert kept.load(number_of) == 5
    kept.newest.unlink()
    assert kept.load(number_of) == 1


@pytest.mark.parametrize(
    "error", [OSError(5, "Input/output error"), MemoryError(), torch.OutOfMemoryError("full")]
)
def test_what_cannot_be_read_now_is_not_damaged(tmp_path: Path, error: Exception) -> None:
    kept, said = checkpoints(tmp_path)
    for number in (1, 2):
        kept.save(state(number))

    def fail(found: Mapping[str, Any]) -> int:
        raise error

    with pytest.raises(CheckpointError, match=r"last.ckpt cannot be read .*Nothing was chang"):
        kept.load(fail)
    assert kept.load(number_of) == 2
    assert said == []


def test_damage_that_points_outside_of_the_file_is_damage(tmp_path: Path) -> None:
    kept, said = checkpoints(tmp_path)
    for number in (1, 2):
        kept.save(state(number))

    def fail(found: Mapping[str, Any]) -> int:
        if found["number"] == 2:
            raise OSError(22, "Invalid argument")
        return number_of(found)

    assert kept.load(fail) == 1
    assert "Resuming from the previous state, previous.ckpt" in said[0]


def test_a_state_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    folder, data = RunFolder(tmp_path, {}), stripes()
    with pytest.raises(KeyboardInterrupt):
        train(data, folder=folder, listener=Listener(stop_after=2))
    path = tmp_path / "last.ckpt"
    saved = torch.load(path, weights_only=True)
    torch.save(saved | {"version": saved["version"] + 1}, path)
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match="a newer version of compress"):
        train(data, folder=folder)
    assert path.read_bytes() == before


def test_a_state_that_cannot_be_used_is_told_with_its_reason(tmp_path: Path) -> None:
    kept, _ = checkpoints(tmp_path)
    kept.save(state(1))

    def refuse(found: Mapping[str, Any]) -> int:
        raise KeyError("discriminator")

    with pytest.raises(CheckpointError, match=r"last.ckpt \(KeyError: 'discriminator'\)"):
        kept.load(refuse)
    assert kept.load(number_of) == 1


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"Cannot write .*Choose another folder"):
        checkpoints(tmp_path / "file")[0].save(state(1))


def save_on_a_full_disk(folder: Path, said: Any) -> None:
    """A limit on the size of files fails in the same way: the system takes a part, then no more."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
    try:
        checkpoints(folder)[0].save(state(2))
    except UsageError as error:
        said.put(str(error))


def test_a_full_disk_leaves_what_was_saved_before(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    kept, _ = checkpoints(tmp_path)
    kept.save(state(1))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.toy"])
    said = context.SimpleQueue()
    process = context.Process(target=save_on_a_full_disk, args=(tmp_path, said))
    process.start()
    process.join(200)
    assert process.exitcode == 0
    assert "last.ckpt: File too large. Free space there, or choose another" in said.get()
    assert kept.load(number_of) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def place(**changes: Any) -> dict[str, Any]:
    """What of a state says how far it is: two epochs and a step of the third."""
    line = {"lr": 0.1, "loss": 1.5, "validation_accuracy": 0.5, "images_per_s": 10.0}
    saved: dict[str, Any] = {
        "version": 4,
        "history": [{"epoch": 1, **line}, {"epoch": 2, "phase": "both", **line}],
        "best": {"epoch": 1, "score": 0.5, "weights": toy_weights()},
        "scalars": {"steps": 1, "names": ("loss",), "table": torch.zeros(3, 1)},
    }
    return saved | changes


def toy_weights() -> dict[str, torch.Tensor]:
    return dict(torch.nn.Linear(2, 2).state_dict())


def test_how_far_it_was_is_taken_over() -> None:
    found = position_of(place(), epochs=3, evaluated=torch.nn.Linear(2, 2))
    assert [line["epoch"] for line in found.history] == [1, 2]
    assert (found.best.epoch, found.scalars.steps, found.scalars.names) == (1, 1, ("loss",))
    assert found.text == "step 1 of 3 of epoch 3 of 3"
    assert found.improves(0.6)
    assert not found.improves(0.5)
    assert Position(3).improves(-1e9)


def test_a_broken_place_is_never_taken_over() -> None:
    evaluated = torch.nn.Linear(2, 2)
    refused = 0
    for path in places(place()):
        for what, value in VALUES.items():
            if value is MISSING and not path:
                continue
            try:
                found = position_of(with_value(place(), path, value), epochs=3, evaluated=evaluated)
            except (InputError, ValueError):
                refused += 1
                continue
            # What is taken can be gone on with.
            assert len(found.history) <= 3, (path, what)
            assert json.dumps(found.history)
            scalars = found.scalars
            assert scalars.steps == 0 or len(scalars.means()) == len(scalars.names)
            assert found.best.epoch <= len(found.history)
    assert refused > 150


@pytest.mark.parametrize("broken", ["history", "best", "scalars", "momentum", "buffer"])
def test_a_broken_state_falls_back_to_the_one_before(tmp_path: Path, broken: str) -> None:
    data, folder = stripes(), RunFolder(tmp_path, {})
    with pytest.raises(KeyboardInterrupt):
        train(data, folder=folder, listener=Listener(stop_after=2))
    path = tmp_path / "last.ckpt"
    saved = torch.load(path, weights_only=True)
    optimizer = saved["optimizers"]["student"]
    if broken == "momentum":
        optimizer["param_groups"][0]["momentum"] = "much"
    elif broken == "buffer":
        next(iter(optimizer["state"].values()))["momentum_buffer"] = torch.zeros(7)
    else:
        saved[broken] = [None]
    torch.save(saved, path)
    listener = Listener()
    train(data, folder=folder, listener=listener)
    assert any(
        "Resuming from the previous state, previous.ckpt" in text for text in listener.messages
    )
