"""Files that would take more memory, time or depth than there is are refused, and told from."""

from __future__ import annotations

import os
import pickletools
import resource
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from compress.errors import CheckpointError
from compress.models.checkpoint import read_tensors
from tests.models.layouts import CifarResNet, randomise


def weights() -> dict[str, Tensor]:
    return dict(randomise(CifarResNet(1)).state_dict())


@pytest.fixture(autouse=True)
def in_time_and_memory() -> Iterator[None]:
    """Each in a few seconds and without a gigabyte more; a crash would end the process."""
    start = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert time.monotonic() - start < 60
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20  # KiB


def archive(
    path: Path, data: bytes, entries: dict[str, bytes] | None = None, *, compress: bool = False
) -> Path:
    """A file in torch's zip format with this pickle."""
    kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind) as file:
        file.writestr("a/data.pkl", data)
        for name, content in {"version": b"3\n", **(entries or {})}.items():
            file.writestr(f"a/{name}", content)
    return path


def refused(path: Path, message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as error:
        read_tensors(path)
    assert str(path) in str(error.value)
    assert len(str(error.value)) < 1_000


# ---------------------------------------------------------------------------------------------
# Memory


@pytest.mark.parametrize("legacy", [False, True])
def test_a_tensor_of_stride_0_claims_what_the_file_does_not_hold(
    tmp_path: Path, legacy: bool
) -> None:
    path = tmp_path / "a.pt"
    content = weights() | {"fc.weight": torch.zeros(1).expand(10, 1_000_000_000)}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    assert path.stat().st_size < 100_000
    refused(path, r"'fc\.weight' .* claims 40,000,000,000 bytes .*holds 4 for it")
    # Small ones are what they say.
    small = weights()
    small["layer1.0.bn1.bias"] = torch.tensor(0.5).expand(4)
    torch.save(small, path, _use_new_zipfile_serialization=not legacy)
    assert read_tensors(path).hypotheses()[0].spec.name == "resnet-8x0.25"


def test_views_of_one_storage_claim_more_together_than_it_is(tmp_path: Path) -> None:
    storage = torch.zeros(1_000_000)
    views = {f"v{index}": storage[index:] for index in range(1_000)}
    torch.save(weights() | views, tmp_path / "a.pt")
    refused(tmp_path / "a.pt", "claim 3,99.* bytes in total, but the file holds 4,0")


def test_storages_that_are_larger_than_their_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"w": torch.zeros(7)}, path)
    with zipfile.ZipFile(path) as file:
        data = file.read("a/data.pkl")
    assert data.count(b"K\x07") == 2
    # The storage, then the shape: 1 TB of both, where reading goes on behind the 28 bytes.
    number = b"\x8a\x05" + (1 << 37).to_bytes(5, "little")
    archive(path, data.replace(b"K\x07", number), {"data/0": bytes(28)})
    refused(path, "storage '0' claims 549,755,813,888 bytes, but the file has 28")
    archive(path, data)
    refused(path, "storage '0' .* is not there")
    torch.save({"w": torch.zeros(7)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes().replace(b"K\x07", number))
    refused(path, "storage '.*' claims 549,755,813,888 bytes")


def test_a_file_with_a_hole_of_a_terabyte_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    for legacy in (False, True):
        torch.save({"w": torch.zeros(7)}, path, _use_new_zipfile_serialization=not legacy)
        os.truncate(path, 1 << 40)
        refused(path, "has 1,099,511,627,776 bytes; 4,294,967,296 is the most")


def test_zip_bombs(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.pt", b"N" * 300_000_000 + b".", compress=True)
    assert path.stat().st_size < 1 << 20
    refused(path, "bytes unpack to 300,")
    path = archive(tmp_path / "b.pt", b"}.", {"data/0": bytes(100_000_000)}, compress=True)
    refused(path, "bytes unpack to 100,")
    path = archive(tmp_path / "c.pt", b"\x80\x02N" + b"0N" * (33 << 20) + b".")
    refused(path, "its pickle is 69,")
    path = archive(tmp_path / "d.pt", b"}.", {"DATA.PKL": b"]."})
    refused(path, "two entries of its zip archive have the same name")


def test_tensors_that_are_made_of_nothing(tmp_path: Path) -> None:
    """torch.Tensor(10^12) is among what torch's restricted unpickler would call."""
    number = b"\x8a\x06" + (10**12).to_bytes(6, "little")
    for name in (b"torch\nTensor", b"torch\nFloatStorage"):
        path = archive(tmp_path / "a.pt", b"\x80\x02c" + name + b"\n" + number + b"\x85R.")
        refused(path, r"would import and call torch\.")


# ---------------------------------------------------------------------------------------------
# Shared, nested and endless containers


def shared(levels: int, make: Callable[[Any], Any]) -> Any:
    value: Any = make(1)
    for _ in range(levels):
        value = make(value)
    return value


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kind", ["lists", "dictionaries", "tuples", "mixed"])
def test_shared_containers_are_gone_into_once(tmp_path: Path, kind: str, legacy: bool) -> None:
    makers: dict[str, Callable[[Any], Any]] = {
        "lists": lambda value: [value] * 3,
        "dictionaries": lambda value: dict.fromkeys("abcdefgh", value),
        "tuples": lambda value: (value, value),
        "mixed": lambda value: {"a": [value, value], "b": (value,)},
    }
    path = tmp_path / "a.pt"
    content = {"args": shared(100, makers[kind]), "lr": 0.1, "net": weights(), "epoch": 3}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    assert path.stat().st_size < 100_000
    found = read_tensors(path)
    assert found.hypotheses()[0].spec.name == "resnet-8x0.25"
    assert (found.metadata["lr"], found.metadata["epoch"]) == (0.1, 3)


def test_containers_that_hold_themselves(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    endless: list[Any] = []
    endless.append(endless)
    circle: dict[str, Any] = {"lr": 0.1}
    circle["parent"] = circle
    torch.save({"history": endless, "args": circle, "net": weights(), "epoch": 3}, path)
    found = read_tensors(path)
    assert found.hypotheses()[0].spec.name == "resnet-8x0.25"
    assert found.metadata["epoch"] == 3
    assert "history" not in found.metadata
    assert found.metadata["args"]["lr"] == 0.1


def test_long_lists_beside_the_weights_are_left_out(tmp_path: Path) -> None:
    torch.save({"net": weights(), "a": [0.5] * 200_000, "b": 1}, tmp_path / "a.pt")
    assert read_tensors(tmp_path / "a.pt").metadata == {"b": 1}
    torch.save({"a": [0.5] * 50_000, "net": weights()}, tmp_path / "a.pt")
    assert len(read_tensors(tmp_path / "a.pt").metadata["a"]) == 50_000


@pytest.mark.parametrize("where", ["metadata", "key", "root"])
def test_deep_nesting(tmp_path: Path, where: str) -> None:
    deep = {
        "metadata": b"\x80\x02}X\x01\x00\x00\x00a" + b"]" * 50_000 + b"a" * 49_999 + b"s.",
        "key": b"\x80\x02})" + b"\x85" * 50_000 + b"K\x01s.",
        "root": b"\x80\x02" + b"}K\x01" * 50_000 + b"N" + b"s" * 50_000 + b".",
    }[where]
    refused(
        archive(tmp_path / "a.pt", deep), "tuples in tuples" if where == "key" else "no tensors"
    )


def test_a_pickle_that_grows_exponentially(tmp_path: Path) -> None:
    content = b"\x80\x02}" + b")" + b"2\x86" * 60 + b"K\x01s."
    refused(archive(tmp_path / "a.pt", content), "a key.*tuples in tuples|one of its keys")


def test_the_keys_at_the_end_of_an_old_file_are_looked_at_too(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"w": torch.zeros(7)}, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    with path.open("rb") as file:
        for _ in range(4):
            for opcode, _, _ in pickletools.genops(file):
                del opcode
        start = file.tell()
    path.write_bytes(whole[:start] + b"\x80\x02}" + b")" + b"2\x86" * 60 + b"K\x01s." + bytes(99))
    refused(path, "one of its keys is made of tuples in tuples")
    evil = b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00ls\x85R."
    path.write_bytes(whole[:start] + evil)
    refused(path, r"would import and call posix\.system")


# ---------------------------------------------------------------------------------------------
# Names and numbers of tensors


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("name", ["a." * 100_000 + "w", "a" * 1_001, "x" + "." * 30, "9" * 5_000])
def test_long_names(tmp_path: Path, suffix: str, name: str) -> None:
    path = tmp_path / f"a{suffix}"
    content = {**weights(), name: torch.zeros(3)}
    if suffix == ".pt":
        torch.save(content, path)
    else:
        save_file(content, path)
    refused(path, r"a tensor with a name of [\d,]+ characters in [\d,]+ parts")


@pytest.mark.parametrize(
    ("count", "shape", "message"),
    [
        (20_000, (4,), "not of a known network"),
        (20_000, (4, 4, 3, 3), "more than any known network"),
        (50_001, (1,), "holds 50,001 tensors"),
    ],
)
def test_many_tensors(tmp_path: Path, count: int, shape: tuple[int, ...], message: str) -> None:
    path = tmp_path / "a.safetensors"
    save_file({f"layer{i % 100}.{i}.w": torch.ones(shape) for i in range(count)}, path)
    with pytest.raises(CheckpointError, match=message):
        read_tensors(path).hypotheses()


def test_many_layers_beside_one_another_end_in_time(tmp_path: Path) -> None:
    """Each of the steps that compare layers with layers has as many as it may."""
    content: dict[str, Tensor] = {"conv": torch.ones(4, 3, 3, 3)}
    for index in range(900):
        content[f"b.{index}.c1.weight"] = torch.ones(4, 4, 3, 3)
        content[f"b.{index}.c2.weight"] = torch.ones(4, 4, 3, 3)
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            content[f"n.{index}.{leaf}"] = torch.ones(4)
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="not of a known network"):
        read_tensors(tmp_path / "a.pt").hypotheses()


# ---------------------------------------------------------------------------------------------
# What is no file


def test_pipes_and_devices_are_not_opened(tmp_path: Path) -> None:
    pipe = tmp_path / "a.pt"
    os.mkfifo(pipe)
    refused(pipe, "is a named pipe; a regular file is needed")
    for device in ("/dev/zero", "/dev/null"):
        refused(Path(device), "is a character device")
    link = tmp_path / "b.pt"
    link.symlink_to("/dev/zero")
    refused(link, "is a character device")


# ---------------------------------------------------------------------------------------------
# safetensors headers and descriptions


def raw_safetensors(path: Path, header: bytes, data: bytes = b"") -> Path:
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


@pytest.mark.parametrize(
    "header",
    [
        b'{"a":' + b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[1e3],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4000000000000]}}',
        b'{"a":{"dtype":"F32","shape":null,"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"Q7","shape":[1],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[18446744073709551615,2],"data_offsets":[0,4]}}',
        b'{"__metadata__":{"a":3},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        b'{"__metadata__":[],"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        b'{"a":7}',
        b"{}",
    ],
)
def test_headers_of_safetensors(tmp_path: Path, header: bytes) -> None:
    refused(raw_safetensors(tmp_path / "a.safetensors", header, bytes(4)), "damaged|no tensors")


def test_a_crash_would_be_seen_in_a_process_of_its_own(tmp_path: Path) -> None:
    """Reading behind a storage's bytes ends a process without an exception."""
    path = tmp_path / "a.pt"
    torch.save({"w": torch.zeros(7)}, path)
    with zipfile.ZipFile(path) as file:
        data = file.read("a/data.pkl")
    number = b"\x8a\x05" + (1 << 30).to_bytes(5, "little")
    archive(path, data.replace(b"K\x07", number), {"data/0": bytes(28)})
    code = (
        "from pathlib import Path\nfrom compress.models.checkpoint import read_tensors\n"
        "from compress.errors import CheckpointError\n"
        f"try:\n    read_tensors(Path({str(path)!r}))\n"
        "except CheckpointError:\n    print('refused')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "refused\n"
