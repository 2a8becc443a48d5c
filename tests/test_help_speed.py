"""--help answers at once: nothing heavy is imported, and it takes little longer than click does."""

import os
import statistics
import subprocess
import sys
import time

import pytest

from compress.cli import COMMANDS

HEAVY = (
    "torch",
    "torchvision",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "openvino",
    "rich",
    "matplotlib",
)
CALLS = [["--help"], *([name, "--help"] for name in COMMANDS)]

# Prints which of the heavy packages are there after `compress ARGUMENTS`.
PROBE = f"""
import sys
from compress.cli import main
code = main(sys.argv[1:])
print(sorted({set(HEAVY)!r} & set(sys.modules)), file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize("arguments", CALLS, ids=" ".join)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments], capture_output=True, text=True, check=False
    )
    assert done.stderr == "[]\n"
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: compress")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which compiled files are kept, as they are where people install it."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PYTHONPYCACHEPREFIX": str(tmp_path_factory.mktemp("compiled"))}


def elapsed_s(arguments: list[str], environment: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True, env=environment
    )
    return time.perf_counter() - start


def medians_s(calls: list[list[str]], rounds: int, environment: dict[str, str]) -> list[float]:
    """Median time of each call. The calls take turns, so that a busy machine slows all alike."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, seen in zip(calls, times, strict=True):
            seen.append(elapsed_s(call, environment))
    return [statistics.median(seen) for seen in times]


@pytest.mark.parametrize("arguments", CALLS, ids=" ".join)
def test_help_takes_less_than_twice_the_import_of_click(
    arguments: list[str], compiled: dict[str, str]
) -> None:
    calls = [["-c", "import click"], ["-m", "compress", *arguments]]
    # The first calls write and read the compiled files; and what another program's burst has
    # spoilt is measured once more, longer.
    medians_s(calls, 2, compiled)
    for rounds in (7, 21):
        bare, full = medians_s(calls, rounds, compiled)
        if full < 2 * bare:
            return
    pytest.fail(f"{' '.join(arguments)}: {full * 1e3:.0f} ms, import click {bare * 1e3:.0f} ms")
