from __future__ import annotations

import gc
import json
import math
import os
import random
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.fuzz import damage, values
from tests.fuzz.case import Bench, Plan, by_hand, plan
from tests.fuzz.kinds import archives, config, engines, experiments, folders, idx, packing
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


def test_the_engines_description_is_one() -> None:
    from compress.engines.sidecar import EngineFile
    from compress.schema import decode

    described = decode(
        EngineFile, engines.VALID, "no description of an engine", beside=("schema_version",)
    )
    assert described.to_dict()["sha256"] == engines.VALID["sha256"]


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


def test_names_are_told_apart() -> None:
    names = [(kind.name, hostile.name) for kind in KINDS for hostile in kind.hostile]
    assert len(set(names)) == len(names)
    assert len(by_hand(KINDS)) == len(names) <= 1200


def test_bytes_are_changed_and_stay_small() -> None:
    content = bytes(range(256)) * 8
    for seed in range(300):
        rng = random.Random(seed)
        changed = damage.damaged(content, rng, b"other")
        assert changed == damage.damaged(content, random.Random(seed), b"other")
        assert len(changed) < 2_000_000
    assert damage.damaged(b"", random.Random(1))


def test_fields_are_changed_and_the_document_is_not() -> None:
    document = {"a": [1, 2, {"b": None}], "c": {"d": 0.5}, "e": "text"}
    before = json.dumps(document)
    changed = [values.damaged(document, random.Random(seed)) for seed in range(200)]
    assert json.dumps(document) == before
    assert sum(json.dumps(each) != before for each in changed) > 190


def test_what_json_and_toml_forbid_is_written() -> None:
    document = {
        "deep": values.nested("lists", 5),
        "tables": values.nested("tables", 2),
        "inf": math.inf,
    }
    text = values.to_json(document)
    assert json.loads(text) == {"deep": [[[[[]]]]], "tables": {"a": {"a": 0}}, "inf": math.inf}
    valid = values.to_toml(document | {"x": {"y": [1, True, None, "é\n"]}, "a b": -1.5})
    assert tomllib.loads(valid) == {
        "deep": [[[[[]]]]],
        "tables": {"a": {"a": 0}},
        "inf": math.inf,
        "x": {"y": [1, True, "null", "é\n"]},
        "a b": -1.5,
    }


def test_a_bomb_is_what_it_says(tmp_path: Path) -> None:
    import zipfile

    for told, size in ((None, (3 << 20) + 4), (7, 7)):
        (tmp_path / "a.zip").write_bytes(packing.bomb("a", b"head", 3, told=told))
        with zipfile.ZipFile(tmp_path / "a.zip") as archive:
            assert archive.infolist()[0].file_size == size
            assert (tmp_path / "a.zip").stat().st_size < 10_000
            archive.infolist()[0].file_size = 1 << 30
            with pytest.raises(zipfile.BadZipFile, match="CRC"):
                archive.read("a")


@pytest.mark.slow
def test_every_hostile_file_can_be_made(stock: FileStock, tmp_path: Path) -> None:
    import shutil

    for index in by_hand(KINDS):
        made, _ = make(plan(KINDS, 0, index), stock, tmp_path)
        shutil.rmtree(made.root)


def test_a_short_run_finds_nothing(stock: FileStock, tmp_path: Path) -> None:
    """COMPRESS_FUZZ="--seed 7 --count 500 --jobs 2" runs other cases, or more of them."""
    asked = os.environ.get("COMPRESS_FUZZ", "--seed 0 --count 50").split()
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--stock", str(stock.folder), *asked],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0, f"{done.stdout[-20_000:]}\n{done.stderr[-2000:]}"
    assert list(tmp_path.iterdir()) == []
