from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.fuzz import damage, values
from tests.fuzz.case import by_hand
from tests.fuzz.kinds import engines, packing
from tests.fuzz.kinds.registry import KINDS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")


def test_the_engines_description_is_one() -> None:
    from compress.engines.sidecar import EngineFile
    from compress.schema import decode

    described = decode(
        EngineFile, engines.VALID, "no description of an engine", beside=("schema_version",)
    )
    assert described.to_dict()["sha256"] == engines.VALID["sha256"]


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


@pytest.mark.parametrize("which", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_what_forks_in_an_interpreter_of_its_own(which: str) -> None:
    here = Path(__file__).parent
    tests = [str(here / name) for name in ("fresh_process.py", "fresh_runner.py")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", which, *tests],
        cwd=here.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:]


def test_a_short_run_finds_nothing(tmp_path: Path) -> None:
    """COMPRESS_FUZZ="--seed 7 --count 500 --jobs 2" runs other cases, or more of them."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    asked = os.environ.get("COMPRESS_FUZZ", "--seed 0 --count 50").split()
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *asked],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "TMPDIR": str(temporary),
            # Of the fuzzer's own, which makes its valid files with PyTorch.
            "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor"),
        },
    )
    assert done.returncode == 0, f"{done.stdout[-20_000:]}\n{done.stderr[-2000:]}"
    assert list(temporary.iterdir()) == []
