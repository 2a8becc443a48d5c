from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compress.errors import ModelFileError, UsageError
from compress.exporting.fidelity import Proof
from compress.exporting.quantize import int8_from_onnx
from compress.profiling.costs import costs_of_onnx
from compress.profiling.kernels import kernels_of, share
from compress.profiling.layers import PROFILERS
from compress.results import Kernel
from tests.profiling import tiny


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("kernels")
    files = {name: folder / f"{name}.onnx" for name in ("fp32", "int8")}
    tiny.convolution(files["fp32"])
    images = np.random.default_rng(0).standard_normal((8, 3, 8, 8), dtype=np.float32)
    int8_from_onnx(files["fp32"], files["int8"], calibration=images, proof=Proof(images))
    return files


@pytest.mark.parametrize("runtime", PROFILERS)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_what_is_run_is_told(runtime: str, precision: str, files: dict[str, Path]) -> None:
    kernels = kernels_of(files[precision], runtime, batch=2)
    assert [kernel.kind for kernel in kernels] == ["convolution", "product"]
    assert [kernel.precision for kernel in kernels] == [precision, precision]
    assert [kernel.macs for kernel in kernels] == [costs_of_onnx(files["fp32"]).macs - 40, 40]
    if runtime == "onnxruntime":
        names = ["QLinearConv", "QGemm"] if precision == "int8" else ["Conv", "Gemm"]
        assert [kernel.kernel for kernel in kernels] == names


def test_shares_are_of_convolutions_by_number_or_by_macs() -> None:
    kernels = [
        Kernel("a", "convolution", "Conv", "fp32", 100),
        Kernel("b", "convolution", "QLinearConv", "int8", 300),
        Kernel("c", "convolution", "QLinearConv", "int8", 600),
        Kernel("d", "product", "Gemm", "fp32", 5000),
    ]
    assert share(kernels) == pytest.approx(2 / 3)
    assert share(kernels, of_macs=True) == pytest.approx(0.9)
    assert share(kernels, "fp32", of_macs=True) == pytest.approx(0.1)
    with pytest.raises(UsageError, match="no convolutions"):
        share(kernels[3:])


def test_who_does_not_tell_and_what_cannot_be_run(tmp_path: Path) -> None:
    path = tiny.convolution(tmp_path / "m.onnx")
    with pytest.raises(UsageError, match=r"torch does not report .* Use onnxruntime or openvino"):
        kernels_of(path, "torch")
    path.write_bytes(b"no model")
    with pytest.raises(ModelFileError, match="not an ONNX file"):
        kernels_of(path)
