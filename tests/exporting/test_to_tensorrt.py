"""Engines are really parsed, built and written here; running them needs a GPU (test_running.py)."""

from __future__ import annotations

import contextlib
import gc
import json
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import onnx
import pytest
import torch

from compress.engines import package as packages
from compress.engines.building import build_engine, cached_engine, gpu_here
from compress.engines.package import PACKAGES, import_package, package_named
from compress.engines.sidecar import (
    EngineFile,
    Gpu,
    read_sidecar,
    refuse_other_machine,
    sidecar_path,
)
from compress.errors import ExportError, ModelFileError, UnknownName, UsageError
from compress.exporting.fidelity import Proof
from compress.exporting.half import bf16_from_onnx, fp16_from_onnx
from compress.exporting.quantize import Quantization, int8_from_onnx
from compress.exporting.to_tensorrt import engine_from_onnx
from compress.files import sha256_of
from compress.profiling.inputs import make_input
from compress.profiling.runtime import Subject
from compress.profiling.tensorrt_gpu import TensorRt
from compress.profiling.timing import time_model
from tests.exporting import networks
from tests.profiling import tiny

pytest.importorskip("tensorrt_rtx")

RTX = "tensorrt-rtx"
PROOF = Proof(networks.images(4))


def typed(source: Path, path: Path, precision: str) -> Path:
    """The file in that precision, as engines take it."""
    if precision == "fp32":
        return source
    if precision == "int8":
        options = Quantization(activations="int8")
        images = networks.images(16)
        int8_from_onnx(source, path, calibration=images, proof=PROOF, options=options)
    else:
        convert = {"fp16": fp16_from_onnx, "bf16": bf16_from_onnx}[precision]
        convert(source, path, proof=PROOF)
    return path


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
@pytest.mark.parametrize("name", networks.FAMILIES)
def test_engines_of_every_family_and_precision_are_built(
    name: str, precision: str, floats: dict[str, Path], tmp_path: Path
) -> None:
    source = typed(floats[name], tmp_path / "typed.onnx", precision)
    path = tmp_path / "made" / "f.engine"
    artifact, described = engine_from_onnx(source, path, package=RTX, batches=(1, 8), proof=PROOF)
    assert [each.name for each in sorted(path.parent.iterdir())] == ["f.engine", "f.engine.json"]
    assert path.stat().st_size == described.size_bytes == artifact.size_bytes > 10_000
    assert artifact.format == RTX
    assert artifact.precision == described.precision == precision
    assert artifact.source["onnx_sha256"] == sha256_of(source)
    assert read_sidecar(path) == described
    assert described.batches == (1, 8)
    assert described.input_shape == networks.SHAPE
    assert described.spec == artifact.spec
    assert described.spec is not None
    assert described.normalization is not None
    assert described.version == import_package(package_named(RTX)).__version__
    # Nothing is claimed of what was not run.
    assert (described.fidelity is None) == (described.gpu is None) == (gpu_here() is None)


def test_activations_with_zero_points_are_refused(floats: dict[str, Path], tmp_path: Path) -> None:
    source = tmp_path / "int8.onnx"
    int8_from_onnx(floats["resnet-8"], source, calibration=networks.images(16), proof=PROOF)
    with pytest.raises(UsageError, match=r"uint8 with zero points.*--precision int8 --to tens"):
        engine_from_onnx(source, tmp_path / "f.engine", package=RTX, proof=PROOF)
    # What the package itself says of such a file that does not tell how it was made.
    model = onnx.load(source)
    del model.metadata_props[:]
    onnx.save(model, source)
    with pytest.raises(ExportError, match=r"does not take int8\.onnx: .*zero point"):
        engine_from_onnx(source, tmp_path / "f.engine", package=RTX, proof=PROOF)
    assert not list(tmp_path.glob("*.engine*"))


def test_what_a_package_raises_is_told(
    floats: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise TypeError("what the package says\nin detail")

    monkeypatch.setattr("compress.exporting.to_tensorrt.build_engine", broken)
    message = r"wrn-10-1\.onnx cannot be built into an engine: tensorrt-rtx says: what the package"
    with pytest.raises(ExportError, match=message):
        engine_from_onnx(
            floats["wrn-10-1"],
            tmp_path / "f.engine",
            package="tensorrt-rtx",
            proof=Proof(networks.images(2)),
        )
    assert not list(tmp_path.iterdir())


def test_warnings_of_the_package_are_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    node = onnx.helper.make_node("NoSuchOperator", ["images"], ["logits"])
    source = tiny.save(tmp_path / "odd.onnx", [node], {}, [("images", (1, 2))])
    told: list[str] = []
    with pytest.raises(ExportError, match=r"tensorrt-rtx does not take odd\.onnx"):
        engine_from_onnx(source, tmp_path / "f.engine", package=RTX, proof=PROOF, say=told.append)
    assert any(line.startswith("error: ") and "NoSuchOperator" in line for line in told)
    assert capfd.readouterr() == ("", "")


def test_shapes_that_no_engine_has_are_refused(tmp_path: Path) -> None:
    package = package_named(RTX)
    source = tiny.convolution(tmp_path / "fixed.onnx", input_shape=(4, 3, 8, 8))

    def build(path: Path, *batches: int) -> EngineFile:
        return build_engine(path, tmp_path / "f.engine", package, batches=batches, precision="fp32")

    assert build(source, 4).batches == (4,)
    with pytest.raises(UsageError, match=r"fixed at a batch of 4; --batch 1,8 does not fit"):
        build(source, 1, 8)
    with pytest.raises(UsageError, match="an engine needs at least one"):
        build(source, 0)
    source = tiny.convolution(tmp_path / "open.onnx", input_shape=("batch", 3, "height", "width"))
    with pytest.raises(UsageError, match="does not fix the size of its images"):
        build(source, 1)
    assert build(tiny.convolution(tmp_path / "t.onnx"), 8, 1, 8).batches == (8, 1)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.onnx"
    with pytest.raises(ModelFileError, match="There is no file"):
        engine_from_onnx(path, tmp_path / "f.engine", package=RTX, proof=PROOF)
    path.write_bytes(b"no model")
    with pytest.raises(ModelFileError, match="is not an ONNX file"):
        engine_from_onnx(path, tmp_path / "f.engine", package=RTX, proof=PROOF)


def test_a_package_that_is_not_there_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'tensorrt-rtx'"):
        package_named("tensorrt_rtx")
    absent = replace(PACKAGES["tensorrt"], module="no_such_module")
    with pytest.raises(UsageError, match=r"is not installed.*compress-distill\[tensorrt\]"):
        import_package(absent)
    (tmp_path / "tensorrt_without_libraries.py").write_text(
        "raise ImportError('libnvinfer.so.11: cannot open shared object file')"
    )
    monkeypatch.syspath_prepend(tmp_path)
    half_there = replace(PACKAGES["tensorrt"], module="tensorrt_without_libraries")
    with pytest.raises(UsageError, match=r"libnvinfer\.so\.11.*NVIDIA's package index"):
        import_package(half_there)
    assert packages.PACKAGES["tensorrt-rtx"].install.endswith('"compress-distill[tensorrt-rtx]"')


def test_an_engine_is_built_once_for_a_file_and_a_batch_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))
    source = tiny.convolution(tmp_path / "m.onnx")
    package = package_named(RTX)
    path = cached_engine(source, package, batch=2, precision="fp32")
    assert path.parent == tmp_path / "cache" / "engines"
    assert read_sidecar(path).batches == (2,)
    written = path.stat().st_mtime_ns
    assert cached_engine(source, package, batch=2, precision="fp32") == path
    assert path.stat().st_mtime_ns == written
    others = {cached_engine(source, package, batch=3, precision="fp32")}
    tiny.convolution(source, scale=2.0)
    others.add(cached_engine(source, package, batch=2, precision="fp32"))
    assert len({path, *others}) == 3
    # One that was cut short is built again.
    path.write_bytes(path.read_bytes()[:-1])
    tiny.convolution(source)
    assert cached_engine(source, package, batch=2, precision="fp32") == path
    read_sidecar(path)


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    path = tmp_path / "f.engine"
    source = tiny.convolution(tmp_path / "m.onnx")
    build_engine(source, path, package_named(RTX), batches=(1,), precision="fp32")
    return path


def test_a_description_belongs_to_its_engine(engine: Path) -> None:
    beside = sidecar_path(engine)
    text = beside.read_text()
    described = read_sidecar(engine)
    assert json.loads(text) == json.loads(json.dumps(described.to_dict()))
    engine.write_bytes(engine.read_bytes() + b" ")
    with pytest.raises(ModelFileError, match="describes another file"):
        read_sidecar(engine)
    beside.write_text("{}")
    with pytest.raises(ModelFileError, match="does not describe an engine"):
        read_sidecar(engine)
    beside.unlink()
    with pytest.raises(ModelFileError, match=r"has no f\.engine\.json beside it"):
        read_sidecar(engine)
    engine.unlink()
    with pytest.raises(ModelFileError, match="There is no engine"):
        read_sidecar(engine)


def test_an_engine_is_used_only_where_it_belongs(engine: Path) -> None:
    ours, other = Gpu("NVIDIA L4", "8.9"), Gpu("NVIDIA A10", "8.6")
    described = replace(read_sidecar(engine), package="tensorrt", version="11.4", gpu=ours)
    here = {"package": "tensorrt", "version": "11.4", "gpu": ours, "system": described.system}

    def check(described: EngineFile = described, **changes: object) -> None:
        refuse_other_machine(engine, described, **(here | changes))  # type: ignore[arg-type]

    check()
    check(replace(described, gpu=None), gpu=other)
    with pytest.raises(ModelFileError, match=r"built on NVIDIA L4 .* this is NVIDIA A10"):
        check(gpu=other)
    with pytest.raises(ModelFileError, match=r"11\.4, but this is tensorrt 11\.5; .*Plan 9"):
        check(version="11.5", system="Plan 9 mips")
    # TensorRT for RTX compiles for the GPU when it loads an engine.
    rtx = replace(described, package=RTX)
    check(rtx, package=RTX, gpu=other)


def test_without_a_gpu_nothing_is_run_and_that_is_said(engine: Path) -> None:
    if gpu_here() is not None:
        pytest.skip("there is a GPU")
    from compress.engines.running import Engine

    with pytest.raises(UsageError, match="needs an NVIDIA GPU, but torch"):
        Engine(engine)


@pytest.mark.tensorrt
@pytest.mark.parametrize("package", PACKAGES)
def test_an_engine_computes_what_its_file_does(
    package: str, floats: dict[str, Path], tmp_path: Path
) -> None:
    from compress.engines.running import Engine

    proof = Proof(networks.images(37))
    for precision in ("fp32", "fp16", "int8"):
        source = typed(floats["wrn-10-1"], tmp_path / f"{precision}.onnx", precision)
        path = tmp_path / f"{precision}.engine"
        _, described = engine_from_onnx(source, path, package=package, batches=(1, 8), proof=proof)
        assert described.fidelity is not None
        assert described.gpu == gpu_here()
        engine, images = Engine(path), torch.zeros((3, *networks.SHAPE)).cuda()
        with pytest.raises(UsageError, match=r"for batches of 1, 8, not of 3.*--batch 1,3,8"):
            engine.prepare(images, torch.cuda.Stream())
        timing = time_model(path, batch=8, runtime=package, max_s=2)
        assert 0 < timing.median.low <= timing.median.high


def test_an_engine_says_what_it_is_called_with(floats: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "f.engine"
    source = typed(floats["wrn-10-1"], tmp_path / "f.onnx", "fp16")
    build_engine(source, path, package_named(RTX), batches=(1, 8), precision="fp16")
    runtime = TensorRt(RTX)
    for each, precision in ((path, "fp16"), (floats["wrn-10-1"], "fp32")):
        subject = Subject("f", path=each)
        assert runtime.precision(subject) == precision
        images = make_input(runtime, subject, batch=8)
        assert images.shape == (8, *networks.SHAPE)


def test_what_is_replayed_keeps_what_it_works_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CUDA graph holds no context of TensorRT: the call that was captured has to."""
    from compress.engines import running

    class Context:
        pass

    def captured() -> tuple[Callable[[], object], weakref.ref[Context]]:
        context = Context()

        def start() -> None:
            assert isinstance(context, Context)

        return running._captured(start, Mock()), weakref.ref(context)

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Mock)
    monkeypatch.setattr(torch.cuda, "graph", lambda *_, **__: contextlib.nullcontext())
    replay, alive = captured()
    gc.collect()
    assert alive() is not None
    del replay
    gc.collect()
    assert alive() is None
