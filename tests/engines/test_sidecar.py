"""compress.engines.sidecar: what is written is read; whatever else it holds is told by its name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from compress.engines.sidecar import EngineFile, Gpu, read_sidecar, sidecar_path, write_sidecar
from compress.errors import ModelFileError
from compress.files import sha256_of
from compress.models.registry import spec_of
from compress.results import Fidelity
from compress.spec import Normalization
from tests.schema.broken import answers, broken_json


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    path = tmp_path / "s.engine"
    path.write_bytes(b"an engine")
    return path


@pytest.fixture
def described(engine: Path) -> EngineFile:
    return EngineFile(
        package="tensorrt",
        version="11.0",
        gpu=Gpu("NVIDIA L4", "8.9"),
        system="Linux x86_64",
        sha256=sha256_of(engine),
        size_bytes=9,
        precision="fp16",
        batches=(1, 8),
        input_name="images",
        input_shape=(3, 8, 8),
        output_names=("logits",),
        source={"onnx_sha256": "0"},
        spec=spec_of("wrn-10-1", num_classes=2, input_shape=(3, 8, 8)),
        normalization=Normalization((0.5,), (0.25,)),
        classes=("cat", "dog"),
        fidelity=Fidelity(100, 0.98, 0.5, 0.01),
    )


def test_what_is_written_is_read(engine: Path, described: EngineFile) -> None:
    write_sidecar(engine, described)
    assert read_sidecar(engine) == described


def test_every_field_is_read_or_told(engine: Path, described: EngineFile) -> None:
    def read(text: str) -> None:
        sidecar_path(engine).write_text(text)
        read_sidecar(engine)

    document = described.to_dict() | {"schema_version": 1}
    counts = answers(broken_json(_plain(document)), read, ModelFileError)
    assert min(counts.values()) > 50


def _plain(value: object) -> object:
    """Tuples as the lists that JSON has."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return list(map(_plain, value)) if isinstance(value, tuple | list) else value


def test_a_pipe_in_its_place_is_not_opened(engine: Path) -> None:
    os.mkfifo(sidecar_path(engine))
    with pytest.raises(ModelFileError, match=r"has no s\.engine\.json beside it"):
        read_sidecar(engine)
