"""``import compress`` costs nothing, offers its functions, and type checkers see what they give."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import compress

HEAVY = ("torch", "torchvision", "numpy", "onnx", "onnxruntime", "rich", "click", "PIL")


def run(program: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout


def test_the_import_loads_nothing_heavy_and_lists_its_functions() -> None:
    program = (
        "import sys, compress\n"
        f"print(sorted(set({HEAVY}) & set(sys.modules)))\n"
        "print(set(compress.__all__) <= set(dir(compress)))\n"
        "compress.distill, compress.profile, compress.CompressError\n"
        f"print(sorted(set({HEAVY}) & set(sys.modules)))\n"
        "import compress.pipelines.distill.names, compress.exporting, compress.profiling\n"
        "print(callable(compress.distill), callable(compress.export), callable(compress.profile))\n"
    )
    assert run(program).splitlines() == ["[]", "True", "[]", "True True True"]


def test_the_import_takes_less_than_50_ms() -> None:
    # The processor's time, which other programs do not add to.
    program = (
        "import time; start = time.process_time(); import compress; "
        "print(time.process_time() - start)"
    )
    assert min(float(run(program)) for _ in range(3)) < 0.05


def test_what_there_is_not_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'compress' has no attribute 'destill'"):
        compress.destill  # type: ignore[attr-defined]  # noqa: B018


SCRIPT = """
from pathlib import Path
import compress

choice = compress.select(budget_ms=2, precision="auto", say=print)
reveal_type(choice.spec.name)
report = compress.profile(Path("student.onnx"), against="teacher.onnx", batch=[1, 8])
reveal_type(report.model)
reveal_type(compress.check("student.onnx", max_slowdown=3).outcome)
reveal_type(compress.evaluate("student.onnx", data="cifar10").test)
compress.train("resnet-20", epochs=3, lr=0.1, tf32=False)
compress.export("a.pt", "a.onnx", precision="int8", data="cifar10")
try:
    compress.distill(teacher=["a.pt", "b.pt"], budget_ms=2, epochs=3, settings={"temperature": 4})
except compress.CompressError as error:
    print(error.exit_code)
compress.distill(epoch=3)
compress.distill(budget_ms="2")
"""


@pytest.mark.slow
def test_a_type_checker_sees_the_types(tmp_path: Path) -> None:
    api = pytest.importorskip("mypy.api")
    (tmp_path / "script.py").write_text(SCRIPT)
    cache = Path(__file__).resolve().parents[2] / ".mypy_cache"
    found, _, _ = api.run(
        [
            *("--strict", "--cache-dir", str(cache), "--follow-imports", "silent"),
            *("--ignore-missing-imports", str(tmp_path / "script.py")),
        ]
    )
    for told in (
        'Revealed type is "str"',
        'Revealed type is "compress.results.Profile"',
        'Revealed type is "compress.gate.verdict.Outcome"',
        'Revealed type is "float"',
        'Unexpected keyword argument "epoch" for "distill"',
        'Argument "budget_ms" to "distill" has incompatible type "str"',
    ):
        assert told in found.replace("builtins.", ""), found
    assert found.count("error:") == 2
