"""Files of every kind: read without executing anything, or refused with their own message."""

from __future__ import annotations

import argparse
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from compress.errors import CheckpointError, UnsafeFile, UsageError
from compress.models.checkpoint import read_tensors, save_checkpoint
from compress.models.hypothesis import instantiate
from compress.models.registry import build, spec_of
from compress.spec import Normalization
from tests.models.layouts import CifarResNet, XternalzWRN, randomise

NORMALIZATION = Normalization((0.1, 0.2, 0.30000000000000004), (0.5, 0.6, 0.7))


def weights(seed: int = 0) -> dict[str, Tensor]:
    return dict(randomise(CifarResNet(1), seed).state_dict())


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in tensors.items()}


def same(found: Any, expected: dict[str, Tensor]) -> bool:
    return list(found) == list(expected) and all(
        torch.equal(a, b) for a, b in zip(found.values(), expected.values(), strict=True)
    )


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("key", ["", "state_dict", "net", "model", "zzz"])
def test_bare_and_nested_in_both_torch_formats(tmp_path: Path, legacy: bool, key: str) -> None:
    path = tmp_path / "a.th"
    content = {key: weights(), "best_acc": 91.5, "epoch": 3} if key else weights()
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    found = read_tensors(path)
    assert same(found.tensors, weights())
    assert found.ordered
    assert found.hypotheses()[0].spec.name == "resnet-8x0.25"
    assert found.metadata == ({"best_acc": 91.5, "epoch": 3} if key else {})


def test_data_parallel_under_net_with_a_numpy_scalar(tmp_path: Path) -> None:
    for legacy in (False, True):
        path = tmp_path / f"{legacy}.pth"
        content = {"net": prefixed("module.", weights()), "acc": np.float64(91.2), "epoch": 9}
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
        found = read_tensors(path)
        assert found.metadata == {"epoch": 9}
        assert found.hypotheses()[0].spec.name == "resnet-8x0.25"


def test_optimizer_state_is_not_the_network(tmp_path: Path) -> None:
    network = CifarResNet(1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    network(torch.zeros(2, 3, 16, 16)).sum().backward()
    optimizer.step()
    path = tmp_path / "a.pt"
    content = {"optimizer": optimizer.state_dict(), "student": network.state_dict()}
    torch.save(content, path)
    assert same(read_tensors(path).tensors, dict(network.state_dict()))


def test_of_a_model_and_its_average_the_model_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"model_ema": weights(1), "model": weights(2)}, path)
    found = read_tensors(path)
    assert same(found.tensors, weights(2))
    (note,) = found.hypotheses()[0].notes
    assert "'model' is used, 'model_ema' ignored" in note
    flat = prefixed("ema_model.", weights(1)) | prefixed("model.", weights(2))
    torch.save({"state_dict": flat}, path)
    assert torch.equal(read_tensors(path).tensors["conv1.weight"], weights(2)["conv1.weight"])


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_of_two_networks_the_stated_one_is_taken(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    small, large = weights(), dict(randomise(CifarResNet(2)).state_dict())
    if suffix == ".pt":
        torch.save({"s": small, "t": large}, path)
    else:
        save_file(prefixed("s.", small) | prefixed("t.", large), path)
    found = read_tensors(path)
    assert found.hypotheses()[0].spec.name == "resnet-8x0.25"
    second = found.hypotheses(arch="resnet-14x0.25")[0]
    assert second.spec.name == "resnet-14x0.25"
    assert torch.equal(second.state_dict["linear.weight"], large["linear.weight"])
    assert second.notes[0] == "The file holds 2 networks; 't' is used, 's' ignored."
    with pytest.raises(CheckpointError, match=r"a resnet-8x0.25, not the resnet-20"):
        found.hypotheses(arch="resnet-20")


def test_parameters_and_statistics_in_two_mappings(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    full = weights()
    statistics = {name: value for name, value in full.items() if "running" in name}
    parameters = {name: value for name, value in full.items() if name not in statistics}
    torch.save({"params": parameters, "stats": statistics}, path)
    assert set(read_tensors(path).tensors) == set(full)


def test_others_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file(prefixed("module.", weights()), path, metadata={"author": "somebody"})
    found = read_tensors(path)
    assert not found.ordered
    assert found.metadata == {"author": "somebody"}
    assert found.hypotheses()[0].spec.name == "resnet-8x0.25"


def test_normalisation_beside_the_weights_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"model": weights(), "mean": [0.1, 0.2, 0.3], "std": (0.4, 0.5, 0.6)}, path)
    assert read_tensors(path).normalization == Normalization((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


@pytest.mark.parametrize("where", [None, "normalize", "args"])
def test_a_normalisation_of_bytes_beside_the_weights_is_divided(
    tmp_path: Path, where: str | None
) -> None:
    path = tmp_path / "a.pt"
    stated = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}
    torch.save({"model": weights(), **({where: stated} if where else stated)}, path)
    found = read_tensors(path).normalization
    assert found == Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert found.of_bytes


def test_a_normalisation_of_two_scales_is_not_used_and_told(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    stated = {"mean": [123.675, 116.28, 103.53], "std": [0.229, 0.224, 0.225]}
    torch.save({"model": weights(), **stated}, path)
    found = read_tensors(path)
    assert found.normalization is None
    (note,) = found.notes
    assert "was not used" in note
    assert "(123.675, 116.28, 103.53)" in note


# ---------------------------------------------------------------------------------------------
# Our own


def own(path: Path) -> nn.Module:
    network = build(spec_of("wrn-10-1", num_classes=3))
    randomise(network)
    save_checkpoint(
        path, network, normalization=NORMALIZATION, classes=["a", "b", "c"], extra={"seed": 4}
    )
    return network


def test_round_trip_is_exact(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "student.safetensors"
    network = own(path)
    found = read_tensors(path)
    assert found.spec == spec_of("wrn-10-1", num_classes=3)
    assert found.normalization == NORMALIZATION
    assert found.classes == ("a", "b", "c")
    assert found.metadata == {"seed": 4}
    (hypothesis,) = found.hypotheses(arch="wrn-10-1")
    for said, message in (
        ("wrn-10-2", r"is a wrn-10-1, not the wrn-10-2"),
        ("wrn-10-1,shortcut=input", r"with shortcut=preactivation, not the stated input"),
    ):
        with pytest.raises(CheckpointError, match=message):
            found.hypotheses(arch=said)
    again = instantiate(hypothesis)
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(again(images), network.eval()(images))
    before = path.read_bytes()
    own(path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["student.safetensors"]


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("preresnet-11x0.25", {"shortcut": "input", "stride_conv": 2}),
        ("inception-x0.125", {"shortcut": "unpadded", "conv_bias": True}),
    ],
)
def test_round_trip_of_the_other_families(
    tmp_path: Path, name: str, fields: dict[str, Any]
) -> None:
    path = tmp_path / "network.safetensors"
    spec = spec_of(name, num_classes=7, input_shape=(1, 17, 16), **fields)
    network = build(spec).eval()
    save_checkpoint(path, network, normalization=None)
    (hypothesis,) = read_tensors(path).hypotheses()
    assert hypothesis.spec == spec
    images = torch.randn(2, 1, 17, 16)
    with torch.inference_mode():
        assert torch.equal(instantiate(hypothesis)(images), network(images))


def test_nothing_else_than_plain_values_is_kept(tmp_path: Path) -> None:
    network = build(spec_of("resnet-8"))
    path = tmp_path / "a.safetensors"
    for extra, message in (
        ({"when": object()}, "plain values"),
        ({"loss": float("nan")}, "plain values"),
        ({"spec": {}}, "cannot be set"),
    ):
        with pytest.raises(UsageError, match=message):
            save_checkpoint(path, network, normalization=None, classes=(), extra=extra)
    with pytest.raises(UsageError, match="10 classes, but 2 names"):
        save_checkpoint(path, network, normalization=None, classes=["a", "b"])
    assert not path.exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("spec"),
        lambda d: d["spec"].update(depth=1_000_000_006),
        lambda d: d["spec"].update(depth="10"),
        lambda d: d["spec"].update(width=2.0, stem_channels=16),
        lambda d: d["spec"].update(colour="red"),
        lambda d: d.update(spec=[]),
        lambda d: d.update(normalization={"mean": [0.1], "std": [0.5]}),
        lambda d: d.update(normalization={"mean": [0.1, 0.1, 0.1], "std": [0.5, 0.5, 0.0]}),
        lambda d: d.update(classes=["a"]),
        lambda d: d.update(classes=[1, 2, 3]),
        lambda d: d.update(classes="abc"),
        lambda d: d.update(classes=None),
        lambda d: d.update(normalization=3),
        lambda d: d.update(normalization={"mean": [1e400] * 3, "std": [0.5] * 3}),
        lambda d: d.update(normalization={"mean": [[0.1]] * 3, "std": [0.5] * 3}),
        lambda d: d["spec"].update(num_classes=10**12),
        lambda d: d["spec"].update(stem_channels=-3),
        lambda d: d["spec"].update(depth=float("inf")),
        lambda d: d["spec"].update(depth=None),
        lambda d: d["spec"].update(input_shape=[3, 10**12, 10**12]),
    ],
)
def test_a_damaged_description_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    path = tmp_path / "a.safetensors"
    own(path)
    with safe_open(path, framework="pt") as file:
        described = json.loads(file.metadata()["compress"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(described)
    save_file(tensors, path, metadata={"compress": json.dumps(described)})
    with pytest.raises(CheckpointError, match="damaged"):
        read_tensors(path)
    for text in ("{not json", "[]", "null", "3", "[" * 200_000, '{"spec":' * 100_000):
        save_file(tensors, path, metadata={"compress": text})
        with pytest.raises(CheckpointError, match="damaged"):
            read_tensors(path)


# ---------------------------------------------------------------------------------------------
# Bad files


class Attack:
    """Unpickling this would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return Path.touch, (str(self.path),)  # pragma: no cover - never called by our reader


class Eval:
    def __init__(self, text: str) -> None:
        self.text = text

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return eval, (self.text,)


@pytest.mark.parametrize("how", ["zip", "legacy", "bare pickle", "protocol 4"])
def test_a_pickle_that_runs_code_is_listed_and_not_run(tmp_path: Path, how: str) -> None:
    path, mark = tmp_path / "evil.pth", tmp_path / "mark"
    content = {"state_dict": weights(), "x": Eval(f"open({str(mark)!r}, 'w')")}
    if how == "bare pickle":
        path.write_bytes(pickle.dumps({"x": content["x"]}))
    else:
        torch.save(
            content,
            path,
            _use_new_zipfile_serialization=how != "legacy",
            pickle_protocol=4 if how == "protocol 4" else 2,
        )
    with pytest.raises(UnsafeFile, match=r"eval") as error:
        read_tensors(path)
    assert "Nothing was executed" in str(error.value)
    assert "evil.safetensors" in str(error.value)
    assert not mark.exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_other_objects_are_named(tmp_path: Path, legacy: bool) -> None:
    for content, name in (
        ({"state_dict": weights(), "args": argparse.Namespace(a=1)}, "argparse.Namespace"),
        ({"state_dict": weights(), "scores": np.zeros(3)}, "numpy.ndarray"),
        (XternalzWRN(1), "tests.models.layouts.XternalzWRN"),
    ):
        path = tmp_path / "a.pt"
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
        with pytest.raises(UnsafeFile, match=name.replace(".", r"\.")):
            read_tensors(path)


def test_the_conversion_that_is_offered_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.pt"
    torch.save({"state_dict": weights(), "args": argparse.Namespace(a=1)}, path)
    with pytest.raises(UnsafeFile) as error:
        read_tensors(path)
    lines = [line.strip() for line in str(error.value).splitlines() if line.startswith("    ")]
    monkeypatch.chdir(tmp_path)
    exec("\n".join(lines), {})
    assert read_tensors(tmp_path / "a.safetensors").hypotheses()[0].spec.name == "resnet-8x0.25"


def onnx_like() -> bytes:
    return b"\x08\x0a\x12\x07pytorch\x1a\x06" + bytes(60)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pt", b"", "is empty"),
        ("a.pt", b"hello, this is a text", "text file that starts with 'hello"),
        ("a.safetensors", b"hello, this is a text", "not a safetensors file"),
        ("a.pth", b"<!DOCTYPE html><html>404</html>", "web page"),
        ("a.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
        ("a.onnx", onnx_like(), "ONNX"),
        ("a.pt", onnx_like(), "ONNX"),
        ("a.h5", b"\x89HDF\r\n\x1a\n" + bytes(50), "HDF5"),
        ("a.pt.gz", b"\x1f\x8b\x08" + bytes(50), "gzip"),
        ("a.pt", bytes(range(128, 256)), "of an unknown kind"),
        ("a.safetensors", struct.pack("<Q", 50) + b'{"a": 1', "damaged or cut short"),
        ("a.pt", b"PK\x03\x04" + bytes(100), "damaged or cut short"),
    ],
)
def test_files_of_other_kinds(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as error:
        read_tensors(path)
    assert str(path) in str(error.value)


def test_missing_folder_npz_and_torchscript(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="There is no file"):
        read_tensors(tmp_path / "none.pt")
    with pytest.raises(CheckpointError, match="is a folder"):
        read_tensors(tmp_path)
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    with pytest.raises(CheckpointError, match=r"not torch's; it holds x\.npy"):
        read_tensors(tmp_path / "a.npz")
    script = tmp_path / "script.pt"
    with zipfile.ZipFile(script, "w") as archive:
        for entry in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"script/{entry}", b"x")
    with pytest.raises(UnsafeFile, match="TorchScript"):
        read_tensors(script)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.999])
def test_truncated_files(tmp_path: Path, kind: str, share: float) -> None:
    path = tmp_path / "a"
    if kind == "safetensors":
        save_file(weights(), path)
    else:
        torch.save({"net": weights()}, path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointError, match="damaged or cut short"):
        read_tensors(path)


def test_damaged_bytes_never_give_a_traceback(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for legacy in (False, True):
        path = tmp_path / f"{legacy}.pt"
        torch.save({"net": weights()}, path, _use_new_zipfile_serialization=not legacy)
        whole = np.frombuffer(path.read_bytes(), dtype=np.uint8)
        for _ in range(40):
            damaged = whole.copy()
            places = rng.integers(0, 3000, size=20)
            damaged[places] = rng.integers(0, 256, size=20)
            path.write_bytes(damaged.tobytes())
            try:
                read_tensors(path).hypotheses()
            except CheckpointError:
                continue


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3, "note": "nothing here"}, "holds no tensors; it has 'epoch', 'note'"),
        ([torch.zeros(2)], "holds a list"),
        (torch.zeros(2), "one tensor without a name"),
        ({}, "holds no tensors"),
    ],
)
def test_torch_files_without_weights(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "a.pt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=message):
        read_tensors(path)
    save_file({}, tmp_path / "b.safetensors")
    with pytest.raises(CheckpointError, match="no tensors"):
        read_tensors(tmp_path / "b.safetensors")


def test_weights_that_are_not_finite(tmp_path: Path) -> None:
    broken = weights()
    broken["layer2.0.conv1.weight"].view(-1)[:2] = torch.tensor([float("nan"), float("inf")])
    torch.save({"net": broken}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"'layer2.0.conv1.weight' .* 2 value\(s\)"):
        read_tensors(tmp_path / "a.pt")


def test_an_unknown_network_is_read_and_refused_later(tmp_path: Path) -> None:
    torch.save({"optimizer": {"state": {}}, "model": nn.Linear(3, 4).state_dict()}, tmp_path / "a")
    with pytest.raises(CheckpointError, match="not of a known network"):
        read_tensors(tmp_path / "a").hypotheses()
