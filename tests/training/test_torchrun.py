"""Trainings that torchrun starts: they end clearly, and go on where they were."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from compress.files import read_json
from tests.pipelines.reproduce.tiny import make_data, make_experiment

TRAIN = ["train", "--arch", "wrn-10-0.5", "--batch-size", "15", "--device", "cpu"]
START_S = 100.0


@pytest.fixture(scope="module")
def npz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    images = rng.integers(0, 100, (120, 8, 8), dtype=np.uint8)
    path = tmp_path_factory.mktemp("data") / "noise.npz"
    np.savez(path, x_train=images, y_train=labels, x_test=images[:30], y_test=labels[:30])
    return path


def start(told: Path, *command: str, restarts: int = 0) -> subprocess.Popen[str]:
    """torchrun with two processes; what all of them say goes into the file ``told``."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    launcher += ["--max-restarts", str(restarts)]
    with told.open("w") as file:
        return subprocess.Popen(
            [sys.executable, *launcher, "-m", "compress", *command],
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )


def workers(launcher: subprocess.Popen[str]) -> list[int]:
    """Process ids by rank."""
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text()
    ranks = {}
    for pid in map(int, children.split()):
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        ranks.update({int(v[5:]): pid for v in variables if v.startswith(b"RANK=")})
    return [ranks[rank] for rank in sorted(ranks)]


def wait_for(pattern: str, told: Path, launcher: subprocess.Popen[str]) -> None:
    end_s = time.monotonic() + START_S
    while launcher.poll() is None and time.monotonic() < end_s:
        if re.search(pattern, told.read_text(), re.DOTALL):
            return
        time.sleep(0.01)
    pytest.fail(f"'{pattern}' is not in: {told.read_text()}")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
def test_a_killed_process_is_restarted_and_a_signal_saves(npz: Path, tmp_path: Path) -> None:
    out, told = tmp_path / "run", tmp_path / "told"
    command = [*TRAIN, "--data", str(npz), "--out", str(out), "--epochs", "400"]
    launcher = start(told, *command, restarts=1)
    try:
        wait_for("epoch   1  loss", told, launcher)
        os.kill(workers(launcher)[1], signal.SIGKILL)
        # The launcher starts both anew.
        wait_for("Resuming after .*\nepoch", told, launcher)
        launcher.send_signal(signal.SIGTERM)
        launcher.communicate(timeout=START_S)
    finally:
        launcher.kill()
    text = told.read_text()
    assert launcher.returncode != 0
    assert "; its state is saved." in text
    assert "terminated; run the same command again to go on" in text
    assert "this is a bug" not in text
    assert not (out / "result.json").exists()


@pytest.mark.slow
def test_a_run_is_told_once_and_so_is_a_refusal(npz: Path, tmp_path: Path) -> None:
    out, told = tmp_path / "run", tmp_path / "told"
    command = [*TRAIN, "--data", str(npz), "--out", str(out)]
    launcher = start(told, *command, "--epochs", "1", "--json")
    printed, _ = launcher.communicate(timeout=START_S)
    text = told.read_text()
    assert launcher.returncode == 0, text
    assert read_json(out / "run.json")["processes"] == 2
    assert json.loads(printed) == json.loads((out / "result.json").read_text())
    assert text.count("epoch   1  loss") == 1
    assert "2 processes share each batch." in text
    # The first process refuses another configuration, and the other ends with it.
    launcher = start(told, *command, "--epochs", "2")
    launcher.communicate(timeout=START_S)
    text = told.read_text()
    assert launcher.returncode != 0
    assert text.count("holds a run with another configuration") == 1
    assert "this is a bug" not in text


def test_a_launcher_without_a_port_is_refused(npz: Path, tmp_path: Path) -> None:
    place = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    command = [*TRAIN, "--data", str(npz), "--out", str(tmp_path / "run")]
    told = subprocess.run(
        [sys.executable, "-m", "compress", *command],
        capture_output=True,
        text=True,
        env={**os.environ, **place},
        timeout=START_S,
        check=False,
    )
    assert told.returncode == 2
    assert "Give torchrun a free --master-port" in told.stderr


@pytest.mark.slow
def test_processes_share_the_trainings_of_a_table(tmp_path: Path) -> None:
    file = make_experiment(tmp_path, make_data(tmp_path))
    out, told = tmp_path / "run", tmp_path / "told"
    launcher = start(told, "reproduce", str(file), "--device", "cpu", "--out", str(out))
    printed, _ = launcher.communicate(timeout=START_S)
    assert launcher.returncode == 0, told.read_text()
    assert printed.count("# Stripes") == 1
    assert read_json(out / "results.json")["finished"] == 6
