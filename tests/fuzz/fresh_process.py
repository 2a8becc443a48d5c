"""What test_kinds.py runs in an interpreter of its own: it forks.

PyTorch does not work in a process that is forked after its threads have started, and tests that ran
before in the same process may have started them.
"""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.fuzz import values
from tests.fuzz.case import Bench, Plan, by_hand, plan
from tests.fuzz.kinds import archives, config, experiments, folders, idx
from tests.fuzz.kinds.baselines import SHOW
from tests.fuzz.kinds.registry import KINDS
from tests.fuzz.runner import Settings, make, preload, run
from tests.fuzz.stock import SELECT, FileStock

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")

EVALUATE = ("--data", "data.npz", "--device", "cpu")


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileStock]:
    writes = sys.dont_write_bytecode
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        preload()
    yield FileStock(tmp_path_factory.mktemp("stock"))
    gc.unfreeze()
    sys.dont_write_bytecode = writes


def _copied(name: str, *words: str) -> Callable[[Bench], Sequence[str]]:
    def write(bench: Bench) -> Sequence[str]:
        bench.copy("data.npz")
        bench.copy(name)
        return words

    return write


def _npz(bench: Bench) -> Sequence[str]:
    return archives._words(bench, archives.zipped(archives.members()))


def _folder(bench: Bench) -> Sequence[str]:
    folders._write(bench)
    return folders._words(bench, "--image-size", "8")


def _idx(bench: Bench) -> Sequence[str]:
    idx._write(bench, packed=True)
    return idx._words(bench)


def _config(bench: Bench) -> Sequence[str]:
    bench.write("compress.toml", values.to_toml(config.VALID))
    return [*config.WORDS, "recipes"]


def _baseline(bench: Bench) -> Sequence[str]:
    bench.stock.path("baseline")
    bench.copy("baseline/baseline.json", "baseline.json")
    return SHOW


VALID: dict[str, Callable[[Bench], Sequence[str]]] = {
    "safetensors": _copied("teacher.safetensors", "evaluate", "teacher.safetensors", *EVALUATE),
    "zip": _copied("teacher.pt", "evaluate", "teacher.pt", *EVALUATE),
    "legacy": _copied("teacher.pth", "evaluate", "teacher.pth", *EVALUATE),
    "onnx": _copied("model.onnx", "evaluate", "model.onnx", *EVALUATE),
    "external data": _copied("external", "evaluate", "external/model.onnx", *EVALUATE),
    "npz": _npz,
    "image folder": _folder,
    "idx": _idx,
    "config": _config,
    "baseline": _baseline,
    "table, CSV": _copied("table.csv", *SELECT, "--tradeoff", "table.csv"),
    "table, JSON": _copied("table.json", *SELECT, "--tradeoff", "table.json"),
    "experiment": lambda bench: experiments._words(bench, values.to_toml(experiments.VALID)),
}


@pytest.mark.parametrize("name", VALID)
def test_what_is_damaged_was_valid(name: str, stock: FileStock, tmp_path: Path) -> None:
    planned = Plan(0, 0, name, "valid", VALID[name], refused=False)
    (outcome,) = run([planned], stock, Settings(tmp_path))
    assert outcome.ending.code == 0, outcome
    assert outcome.faults == ()


def test_a_case_follows_from_its_seed_and_index(stock: FileStock, tmp_path: Path) -> None:
    def content(folder: Path) -> dict[str, bytes | str]:
        return {
            str(path.relative_to(folder)): (
                str(path.readlink()) if path.is_symlink() else path.read_bytes()
            )
            for path in sorted(folder.rglob("*"))
            if path.is_symlink() or path.is_file()
        }

    kinds = [kind for kind in KINDS if kind.name not in ("run folder", "cache", "baseline")]
    indices = [index for index in range(40) if plan(kinds, 3, index).name == "damaged"]
    made = []
    for name in ("a", "b"):
        found = [make(plan(kinds, 3, index), stock, tmp_path / name) for index in indices]
        made.append([(words, content(folders.files)) for folders, words in found])
    assert made[0] == made[1]
    other = make(plan(kinds, 4, indices[0]), stock, tmp_path)
    assert (other[1], content(other[0].files)) != made[0][0]


@pytest.mark.slow
def test_every_hostile_file_can_be_made(stock: FileStock, tmp_path: Path) -> None:
    import shutil

    for index in by_hand(KINDS):
        made, _ = make(plan(KINDS, 0, index), stock, tmp_path)
        shutil.rmtree(made.root)
