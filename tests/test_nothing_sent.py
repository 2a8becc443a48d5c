"""No command looks up a host, and none leaves a file but those that it was asked for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

import compress
from compress.environment import SENDS_NOTHING, keep_to_this_machine

# A namespace without a route: the kernel counts every attempt to reach a host.
UNSHARE = ("unshare", "--user", "--map-root-user", "--net")
ROOT = Path(compress.__file__).resolve().parents[1]


def _namespaces() -> bool:
    if shutil.which(UNSHARE[0]) is None:
        return False
    return subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0


needs_namespaces = pytest.mark.skipif(not _namespaces(), reason="no network namespaces here")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("home", "tmp", "cache", "work"):
        (tmp_path / name).mkdir()
    return tmp_path


def _model(path: Path) -> Path:
    """A network of 10 classes for the embedded images: their pixels' mean, ten times."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 32, 32])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 10])],
        [helper.make_tensor("w", TensorProto.FLOAT, [1, 10], [float(i) for i in range(10)])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


def _unreachable(code: str, home: Path) -> tuple[int, str]:
    """How many hosts Python code tried to reach in a namespace of its own, and what it printed."""
    counted = (
        "import atexit, pathlib\n"
        "def routes():\n"
        "    lines = pathlib.Path('/proc/net/snmp').read_text().splitlines()\n"
        "    names, values = [line.split() for line in lines if line.startswith('Ip: ')]\n"
        "    print('NO ROUTE', dict(zip(names, values))['OutNoRoutes'])\n"
        "atexit.register(routes)\n"
    )
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "HOME": str(home / "home"),
        "TMPDIR": str(home / "tmp"),
        "COMPRESS_CACHE": str(home / "cache"),
    }
    done = subprocess.run(
        [*UNSHARE, sys.executable, "-c", counted + code],
        capture_output=True,
        text=True,
        cwd=home / "work",
        env=environment,
        check=False,
    )
    assert "NO ROUTE" in done.stdout, done.stderr
    said, _, count = done.stdout.rpartition("NO ROUTE")
    return int(count), said + done.stderr


@needs_namespaces
def test_a_look_up_is_seen(home: Path) -> None:
    code = (
        "import socket\n"
        "try:\n    socket.getaddrinfo('example.com', 80)\nexcept OSError:\n    pass\n"
        "with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:\n"
        "    try:\n        one.connect(('192.0.2.1', 9))\n    except OSError:\n        pass\n"
    )
    assert _unreachable(code, home)[0] > 0


@needs_namespaces
@pytest.mark.parametrize(
    "arguments",
    [
        ["profile", "model.onnx", "--runtime", "all", "--batch", "1", "--threads", "1"],
        ["evaluate", "model.onnx", "--normalize", "0.5/0.5"],
        ["export", "model.onnx", "--output", "half.onnx", "--precision", "fp16"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_command_reaches_for_no_host_and_leaves_nothing(home: Path, arguments: list[str]) -> None:
    _model(home / "work" / "model.onnx")
    tried, said = _unreachable(
        f"from compress.cli import main\ncode = main({arguments!r})\nprint('EXIT', code)\n", home
    )
    assert "EXIT 0" in said, said
    assert tried == 0
    left = [
        path for path in home.rglob("*") if path.is_file() and home / "cache" not in path.parents
    ]
    asked = {home / "work" / name for name in ("model.onnx", "half.onnx")}
    assert {path for path in left if path.name != ".lock"} <= asked


def test_the_environment_of_the_user_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SENDS_NOTHING:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    keep_to_this_machine()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "0"
    assert os.environ["DO_NOT_TRACK"] == "1"
    for name in SENDS_NOTHING:
        monkeypatch.delenv(name, raising=False)
