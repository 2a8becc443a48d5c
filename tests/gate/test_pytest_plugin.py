"""The fixture, in pytest's own runner: a process of its own, with a repository of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from compress.cli import main
from tests.gate.small import classifier, images

ROOT = Path(__file__).resolve().parents[2]

CONFTEST = 'pytest_plugins = ["compress.gate.pytest_plugin"]\n'

TESTS = """
from compress.gate.accuracy import AccuracyRule
from compress.gate.latency import LatencyRule
from compress.gate.limits import SizeRule
from compress.gate.verdict import Outcome

ANYTHING = {"latency": LatencyRule(1000.0), "size": SizeRule(1e9)}

def test_passes(compress_check):
    verdict = compress_check("student.onnx", **ANYTHING)
    assert verdict.outcome is Outcome.PASS

def test_fails(compress_check):
    compress_check("wrong.onnx", **ANYTHING)

def test_undecided(compress_check):
    compress_check("near.onnx", **ANYTHING)

def test_skipped(compress_check):
    compress_check("near.onnx", "compress-baseline.json", undecided="skip", **ANYTHING)
"""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    model = classifier(tmp_path / "student.onnx")
    classifier(tmp_path / "wrong.onnx", noise=0.5)
    classifier(tmp_path / "near.onnx", noise=0.01)
    data = str(images(tmp_path / "data.npz", model))
    assert main(["baseline", "update", str(model), "--data", data, "--reason", "first"]) == 0
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_gate.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    return tmp_path


def test_a_test_fails_with_the_lines_of_the_check(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", "--tb=short"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 passed, 1 skipped" in done.stdout.replace("2 failed, ", ""), done.stdout
    for line in (
        "PASSED test_gate.py::test_passes",
        "FAILED test_gate.py::test_fails",
        "FAILED test_gate.py::test_undecided",
    ):
        assert line in done.stdout
    assert re.search(r"^accuracy +FAIL ", done.stdout, re.MULTILINE)
    assert re.search(r"^accuracy +INCONCLUSIVE ", done.stdout, re.MULTILINE)
    assert "outcome: FAIL" in done.stdout
    assert "Traceback" not in done.stdout
    assert done.returncode == 1


def test_the_plugin_waits_for_nothing_heavy() -> None:
    code = "import sys, compress.gate.pytest_plugin; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
