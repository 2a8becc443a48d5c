from __future__ import annotations

from pathlib import Path

from benchmarks.named_outputs import measure
from tests.profiling import tiny


def test_it_compares_a_call_that_names_its_outputs_with_one_that_does_not(tmp_path: Path) -> None:
    path = tiny.products(tmp_path / "m.onnx", layers=1, size=8)
    found = measure("onnxruntime", path, blocks=3)
    assert list(found) == ["named afterwards", "named within the call"]
    assert found["named afterwards"][1] == 0
    assert found["named afterwards"][0] > 0
