"""The lines that are printed for a refused checkpoint are run, and give its weights."""

from __future__ import annotations

import argparse
import json
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from compress.errors import UnsafeFile
from compress.models.checkpoint import read_tensors
from tests.models.layouts import XternalzWRN, randomise

ROOT = Path(__file__).resolve().parents[3]


def network() -> XternalzWRN:
    found = randomise(XternalzWRN(1))
    assert isinstance(found, XternalzWRN)
    return found


def weights() -> dict[str, Tensor]:
    return dict(network().state_dict())


REFUSED = argparse.Namespace(lr=0.1)
NAME = "it's.pt"


def scripted(path: Path) -> None:
    """A program beside its weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(network().eval(), torch.zeros(1, 3, 16, 16))
        torch.jit.save(traced, path)


def shared_weights() -> dict[str, Any]:
    """Of which two are one tensor, and one is not contiguous."""
    plain = weights()
    name = "block2.layer.0.conv1.weight"
    plain[name] = plain[name].transpose(0, 1).contiguous().transpose(0, 1)
    plain["block1.layer.0.bn1.bias"] = plain["block1.layer.0.bn1.weight"]
    return plain


KEYS = ("state_dict", "model", "net", "model_state_dict", "it's", "zzz")
CONTENTS: dict[str, Any] = {
    **{key: {key: weights(), "args": REFUSED} for key in KEYS},
    "two levels": {0: {"net": weights()}, "args": REFUSED},
    "bare": weights() | {"args": REFUSED},
    "other tensors": {"args": REFUSED, "mean": torch.zeros(3), "w": weights()},
    "shared": shared_weights() | {"args": REFUSED},
    "module": network(),
    "module under a key": {"model": network(), "epoch": 3},
    "in a list": [{"net": weights()}, REFUSED],
}


def write_all(folder: Path) -> list[Path]:
    """Files that are refused, each in a folder of its own."""
    paths = []

    def new(name: str) -> Path:
        (folder / name).mkdir()
        paths.append(folder / name / NAME)
        return paths[-1]

    for name, content in CONTENTS.items():
        torch.save(content, new(name))
    content = CONTENTS["net"]
    torch.save(content, new("protocol 4"), pickle_protocol=4)
    torch.save(content, new("legacy"), _use_new_zipfile_serialization=False)
    new("bare pickle").write_bytes(pickle.dumps(content))
    new("pickled module").write_bytes(pickle.dumps(network()))
    scripted(new("TorchScript"))
    return paths


def test_the_printed_lines_work(tmp_path: Path) -> None:
    paths = write_all(tmp_path)
    scripts = []
    for path in paths:
        with pytest.raises(UnsafeFile) as error:
            read_tensors(path)
        lines = [line[4:] for line in str(error.value).splitlines() if line.startswith("    ")]
        scripts.append((str(path.parent), "\n".join(lines)))
    # One process for all, since starting torch takes longer than the lines.
    run = (
        "import os, sys, json, warnings\n"
        "for folder, lines in json.load(sys.stdin):\n"
        "    os.chdir(folder)\n"
        "    try:\n"
        "        exec(lines, {})\n"
        "    except BaseException as error:\n"
        "        print(folder, repr(error), lines)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", run],
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        input=json.dumps(scripts),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ""
    name = "block3.layer.0.conv1.weight"
    for path in paths:
        found = read_tensors(path.with_suffix(".safetensors"))
        assert found.hypotheses()[0].spec.name == "wrn-10-1", path
        assert torch.equal(found.tensors[name], weights()[name]), path


@pytest.mark.parametrize("key", KEYS)
def test_the_lines_name_the_key(tmp_path: Path, key: str) -> None:
    torch.save(CONTENTS[key], tmp_path / NAME)
    with pytest.raises(UnsafeFile) as error:
        read_tensors(tmp_path / NAME)
    assert f"c = c[{key!r}]" in str(error.value)
