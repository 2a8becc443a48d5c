"""compress.data.sources: every way in, and what is said of what cannot be used."""

import gzip
import hashlib
import io
import pickle
import struct
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from compress.data import sources
from compress.errors import DataError, UnknownName, UsageError

Arrays = dict[str, NDArray[Any]]


def small(shape: tuple[int, ...] = (8, 8, 3), classes: int = 3) -> Arrays:
    """Arrays of a valid data set: 12 training and 6 test images."""
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (12, *shape), dtype=np.uint8),
        "y_train": np.arange(12) % classes,
        "x_test": rng.integers(0, 256, (6, *shape), dtype=np.uint8),
        "y_test": np.arange(6) % classes,
    }


def save(path: Path, arrays: Arrays) -> Path:
    with path.open("wb") as file:
        np.savez(file, allow_pickle=True, **arrays)
    return path


# --- .npz ----------------------------------------------------------------------------------------


def test_npz_nhwc_becomes_nchw(tmp_path: Path) -> None:
    arrays = small((9, 8, 3))
    raw = sources.read_npz(save(tmp_path / "blobs.npz", arrays))
    assert raw.name == "blobs"
    assert raw.source == "blobs.npz"
    assert raw.train_images[:].dtype == torch.uint8
    assert raw.train_images.shape == (12, 3, 9, 8)
    assert raw.train_images[:].is_contiguous()
    assert np.array_equal(raw.train_images[:][5, 2].numpy(), arrays["x_train"][5, :, :, 2])
    assert raw.train_labels.dtype == torch.int64
    assert raw.test_labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert raw.class_names == ("0", "1", "2")
    assert raw.flip


def test_npz_grey_and_column_labels_and_names(tmp_path: Path) -> None:
    arrays = small((8, 8))
    arrays["y_train"] = arrays["y_train"].astype(np.uint8)[:, None]
    arrays["class_names"] = np.array(["a", "b", "ç"])
    raw = sources.read_npz(save(tmp_path / "a.npz", arrays))
    assert raw.test_images.shape == (6, 1, 8, 8)
    assert raw.train_labels.tolist() == [0, 1, 2] * 4
    assert raw.class_names == ("a", "b", "ç")
    assert not raw.flip  # digits and letters are grey, and a mirrored one is another or none


def test_npz_normalisation_is_that_of_the_training_images(tmp_path: Path) -> None:
    arrays = small()
    raw = sources.read_npz(save(tmp_path / "a.npz", arrays))
    scaled = arrays["x_train"].astype(np.float64) / 255
    assert raw.normalization.mean == pytest.approx(scaled.mean((0, 1, 2)), abs=1e-6)
    assert raw.normalization.std == pytest.approx(scaled.std((0, 1, 2)), abs=1e-6)


def test_a_channel_of_one_colour_can_be_normalised() -> None:
    found = sources.measure_normalization(torch.full((2, 1, 8, 8), 51, dtype=torch.uint8))
    assert found.mean == (0.2,)
    assert found.std == (round(1 / 255, 6),)


def changed(key: str, value: NDArray[Any]) -> Arrays:
    return small() | {key: value}


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (changed("x_train", np.zeros((12, 8, 8, 3), np.float32)), "x_train is float32.*by 255"),
        (changed("x_train", np.zeros((12, 8, 8, 3), np.int64)), "x_train is int64"),
        (changed("x_train", np.zeros((12, 3, 8, 8), np.uint8)), r"transpose\(0, 2, 3, 1\)"),
        (changed("x_train", np.zeros((12, 8, 8, 4), np.uint8)), "1 or 3 channels"),
        (changed("x_train", np.zeros((12, 192), np.uint8)), "not NHW or NHWC"),
        (changed("x_train", np.zeros((11, 8, 8, 3), np.uint8)), "11 images, y_train 12 labels"),
        (changed("x_test", np.zeros((6, 9, 8, 3), np.uint8)), "test images"),
        (changed("x_test", np.zeros((6, 4, 4, 3), np.uint8)), "8x8 or larger"),
        (changed("x_test", np.zeros((0, 8, 8, 3), np.uint8)), "x_test is empty"),
        (changed("y_train", np.arange(12) % 3 + 1), "labels are 1, 2, 3; number the classes from"),
        (changed("y_train", np.arange(12) % 3 - 1), "from 0 without gaps"),
        (changed("y_train", np.arange(12) % 3 * 2), "labels are 0, 2, 4"),
        (changed("y_train", np.zeros(12, np.int64)), "only one class"),
        (changed("y_train", np.eye(3)[np.arange(12) % 3].astype(int)), r"argmax\(axis=1\)"),
        (changed("y_train", np.arange(12) % 3 / 1.0), "y_train is float64"),
        (changed("y_train", np.array(3)), "one label an image"),
        (changed("y_test", np.array([0, 1, 2, 7, 1, 2])), "no training image has: 7"),
        (changed("y_test", np.array(["a", "b", "c"] * 2)), "y_test is <U1"),
        (changed("y_test", np.array([{}] * 6)), "y_test cannot be read.*allow_pickle"),
        (changed("class_names", np.array(["a", "b"])), "not 3 strings"),
    ],
)
def test_npz_faults_are_named(tmp_path: Path, arrays: Arrays, words: str) -> None:
    with pytest.raises(DataError, match=words):
        sources.read_npz(save(tmp_path / "a.npz", arrays))


def test_npz_tells_all_faults_at_once(tmp_path: Path) -> None:
    arrays = small() | {
        "x_train": np.zeros((12, 8, 8, 3), np.float64),
        "y_train": np.zeros(5, np.int64),
        "x_test": np.zeros((6, 5, 5, 3), np.uint8),
        "y_test": np.zeros(6, np.float32),
    }
    with pytest.raises(DataError) as caught:
        sources.read_npz(save(tmp_path / "a.npz", arrays))
    for words in ("x_train is float64", "5 labels", "only one class", "5x5", "y_test is float32"):
        assert words in str(caught.value)


def test_npz_missing_keys_and_those_there_are_named(tmp_path: Path) -> None:
    arrays = small()
    arrays["train_images"] = arrays.pop("x_train")
    with pytest.raises(DataError, match=r"x_train missing \(it has .*train_images\).*savez"):
        sources.read_npz(save(tmp_path / "a.npz", arrays))


def npy_header(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "|u1", "fortran_order": False, "shape": shape}
    )
    return buffer.getvalue()


def damaged_files(folder: Path) -> Iterator[Path]:
    """Files that are no data set, each in its own way."""
    whole = save(folder / "whole.npz", small()).read_bytes()
    contents = {
        "empty.npz": b"",
        "text.npz": b"x_train, y_train\n1, 2\n",
        "half.npz": whole[: len(whole) // 2],
        "flipped.npz": whole[:400] + bytes(byte ^ 255 for byte in whole[400:500]) + whole[500:],
        "pickle.npz": pickle.dumps({"x_train": [1]}),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
        yield folder / name
    np.save(folder / "single.npy", np.zeros(3))
    yield folder / "single.npy"
    for name, member in {
        "huge.npz": npy_header((10**9, 10**9)),
        "short.npz": npy_header((50, 8, 8, 3)) + b"abc",
        "not-npy.npz": b"hello",
    }.items():
        with zipfile.ZipFile(folder / name, "w") as archive:
            for key in ("x_train", "y_train", "x_test", "y_test"):
                archive.writestr(f"{key}.npy", member)
        yield folder / name


def test_damaged_npz_files_are_data_errors(tmp_path: Path) -> None:
    for path in damaged_files(tmp_path):
        with pytest.raises(DataError, match=path.name):
            sources.read_npz(path)
    with pytest.raises(DataError, match=r"text\.npz is not .*: it begins with b'x_trai'"):
        sources.read_npz(tmp_path / "text.npz")
    with pytest.raises(DataError, match=r"it is empty"):
        sources.read_npz(tmp_path / "empty.npz")
    with pytest.raises(DataError, match=r"There is no data file .*none\.npz"):
        sources.read_npz(tmp_path / "none.npz")
    with pytest.raises(DataError):
        sources.read_npz(tmp_path)


def test_npz_never_unpickles(tmp_path: Path) -> None:
    marker = tmp_path / "executed"

    class Touch:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (marker,)

    arrays = changed("y_train", np.array([Touch()] * 12, dtype=object))
    path = save(tmp_path / "a.npz", arrays)
    (tmp_path / "b.npz").write_bytes(pickle.dumps(Touch()))
    for file in (path, tmp_path / "b.npz"):
        with pytest.raises(DataError):
            sources.read_npz(file)
    assert not marker.exists()


# --- idx -----------------------------------------------------------------------------------------


def idx_bytes(array: NDArray[np.uint8]) -> bytes:
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def write_idx(folder: Path, *, packed: bool = True) -> Arrays:
    """The four files of a small Fashion-MNIST: 20 training and 10 test images."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    arrays: Arrays = {
        "train-images-idx3-ubyte": rng.integers(0, 256, (20, 28, 28), dtype=np.uint8),
        "train-labels-idx1-ubyte": (np.arange(20) % 10).astype(np.uint8),
        "t10k-images-idx3-ubyte": rng.integers(0, 256, (10, 28, 28), dtype=np.uint8),
        "t10k-labels-idx1-ubyte": np.arange(10).astype(np.uint8),
    }
    for name, array in arrays.items():
        content = idx_bytes(array)
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return arrays


@pytest.mark.parametrize("below", [".", "FashionMNIST/raw", "fashion-mnist"])
@pytest.mark.parametrize("packed", [True, False])
def test_fashion_mnist_is_used_where_it_lies(tmp_path: Path, below: str, packed: bool) -> None:
    arrays = write_idx(tmp_path / below, packed=packed)
    raw = sources.read_torchvision("fashion-mnist", tmp_path, download=False)
    assert raw.name == "fashion-mnist"
    assert raw.train_images.shape == (20, 1, 32, 32)
    inside = raw.train_images[:][:, 0, 2:-2, 2:-2].numpy()
    assert np.array_equal(inside, arrays["train-images-idx3-ubyte"])
    assert int(raw.train_images[:].sum()) == int(inside.astype(np.int64).sum())
    assert raw.class_names[9] == "Ankle boot"
    assert raw.normalization.mean == (0.286,)
    assert raw.flip


def test_a_folder_with_idx_files_needs_no_name(tmp_path: Path) -> None:
    write_idx(tmp_path)
    raw = sources.read_folder(tmp_path)
    assert raw.test_images.shape == (10, 1, 32, 32)
    assert raw.class_names == tuple("0123456789")
    assert raw.name == raw.source == tmp_path.name
    assert not raw.flip
    with pytest.raises(UsageError, match="--image-size is for folders of images"):
        sources.read_folder(tmp_path, image_size=32)


def test_fashion_mnist_is_recognised_by_its_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = write_idx(tmp_path)["train-images-idx3-ubyte"]
    monkeypatch.setattr(sources, "FASHION_SHA256", hashlib.sha256(pixels.tobytes()).hexdigest())
    raw = sources.read_folder(tmp_path)
    assert raw.name == "fashion-mnist"
    assert raw.class_names == sources.FASHION_CLASSES
    assert raw.normalization.mean == (0.286,)
    assert raw.flip
    assert raw.source == tmp_path.name


def test_the_real_fashion_mnist_is_recognised() -> None:
    if not sources.DEBIAN_FASHION.is_dir():
        pytest.skip("dataset-fashion-mnist is not installed")
    assert sources.read_folder(sources.DEBIAN_FASHION).class_names == sources.FASHION_CLASSES


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "begins with nothing"),
        (b"\x00\x00\x0d\x03" + bytes(20), "begins with 00 00 0d 03"),
        (b"\x00\x00\x08\x03" + struct.pack(">3I", 20, 28, 28) + bytes(100), "but 100 follow"),
        (b"\x00\x00\x08\x03" + struct.pack(">3I", 19, 28, 28) + bytes(19 * 784), "19 images"),
    ],
)
def test_damaged_idx_files_are_named(tmp_path: Path, content: bytes, words: str) -> None:
    write_idx(tmp_path, packed=False)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(DataError, match=words):
        sources.read_torchvision("fashion-mnist", tmp_path, download=False)


def test_a_truncated_gzip_is_named(tmp_path: Path) -> None:
    write_idx(tmp_path)
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"t10k-images.*Fetch it again"):
        sources.read_idx(tmp_path)


def test_other_idx_files_are_not_fashion_mnist(tmp_path: Path) -> None:
    write_idx(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(
        gzip.compress(idx_bytes((np.arange(20) % 2).astype(np.uint8)))
    )
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(
        gzip.compress(idx_bytes((np.arange(10) % 2).astype(np.uint8)))
    )
    with pytest.raises(DataError, match="not Fashion-MNIST: 2 classes"):
        sources.read_torchvision("fashion-mnist", tmp_path, download=False)


# --- torchvision ---------------------------------------------------------------------------------


@pytest.fixture
def small_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in CIFAR-10's format with 20 and 10 images, and torchvision told their checksums."""
    from torchvision.datasets import CIFAR10

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()

    def write(name: str, content: dict[str, Any]) -> list[str]:
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    def batch(count: int) -> dict[str, Any]:
        pixels = np.arange(count * 3072).reshape(count, 3072) % 251
        return {"data": pixels.astype(np.uint8), "labels": [i % 10 for i in range(count)]}

    meta = write("batches.meta", {"label_names": list("abcdefghij")})
    monkeypatch.setattr(CIFAR10, "train_list", [write("data_batch_1", batch(20))])
    monkeypatch.setattr(CIFAR10, "test_list", [write("test_batch", batch(10))])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": meta[1]})
    return tmp_path


def test_cifar_is_used_where_it_lies(small_cifar: Path) -> None:
    by_name = sources.read_torchvision("cifar10", small_cifar, download=False)
    assert by_name.train_images.shape == (20, 3, 32, 32)
    pixels = (np.arange(20 * 3072) % 251).reshape(20, 3, 32, 32)
    assert np.array_equal(by_name.train_images[:].numpy(), pixels)
    assert by_name.test_labels.tolist() == list(range(10))
    assert by_name.class_names == tuple("abcdefghij")
    assert by_name.flip
    assert by_name.source == "cifar-10-batches-py"
    for folder in (small_cifar, small_cifar / "cifar-10-batches-py"):
        by_folder = sources.read_folder(folder)
        assert torch.equal(by_folder.train_images[:], by_name.train_images[:])


def test_cifar_damaged_is_not_used(small_cifar: Path) -> None:
    with (small_cifar / "cifar-10-batches-py" / "test_batch").open("ab") as file:
        file.write(b"x")
    with pytest.raises(DataError, match="cifar10 is not there whole"):
        sources.read_torchvision("cifar10", small_cifar, download=False)


@pytest.mark.parametrize("name", sources.TORCHVISION_NAMES)
def test_a_failing_download_says_what_to_do(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise urllib.error.URLError("Temporary failure in name resolution")

    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    monkeypatch.setattr(sources, "DEBIAN_FASHION", tmp_path / "none")
    with pytest.raises(DataError, match=rf"{name} cannot be fetched.*\.npz file"):
        sources.read_torchvision(name, tmp_path)


def test_an_unknown_name_offers_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'cifar10'"):
        sources.read_torchvision("cifar-10", tmp_path)


def test_downloads_go_to_the_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert sources.default_root() == Path("/somewhere/compress/datasets")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert sources.default_root() == Path.home() / ".cache/compress/datasets"


# --- folders -------------------------------------------------------------------------------------


def write_images(
    folder: Path, per_class: dict[str, int], size: tuple[int, int] = (10, 8), mode: str = "RGB"
) -> None:
    """PNG files of one colour: the class's number times 20, plus the image's."""
    for label, (name, count) in enumerate(per_class.items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            level = label * 20 + index
            colour = level if mode == "L" else (level, 0, 255)
            Image.new(mode, size, colour).save(folder / name / f"{index:02d}.png")


@pytest.mark.parametrize("held_out", ["val", "test"])
def test_a_folder_with_two_splits(tmp_path: Path, held_out: str) -> None:
    write_images(tmp_path / "train", {"cat": 3, "dog": 2})
    write_images(tmp_path / held_out, {"cat": 1, "dog": 1})
    raw = sources.read_folder(tmp_path)
    assert raw.class_names == ("cat", "dog")
    assert raw.train_images.shape == (5, 3, 8, 10)
    assert raw.train_labels.tolist() == [0, 0, 0, 1, 1]
    assert raw.train_images[:][:, 0, 0, 0].tolist() == [0, 1, 2, 20, 21]
    assert raw.test_labels.tolist() == [0, 1]
    assert raw.name == raw.source == tmp_path.name
    assert raw.flip


def test_with_three_splits_val_joins_the_training_images(tmp_path: Path) -> None:
    for split, count in (("train", 2), ("val", 3), ("test", 1)):
        write_images(tmp_path / split, {"cat": count, "dog": count})
    raw = sources.read_folder(tmp_path)
    assert len(raw.train_labels) == 10
    assert len(raw.test_labels) == 2


def test_a_folder_without_splits_keeps_a_fifth_back(tmp_path: Path) -> None:
    write_images(tmp_path, {"cat": 10, "dog": 15})
    first, second = sources.read_folder(tmp_path), sources.read_folder(tmp_path)
    assert first.test_labels.bincount().tolist() == [2, 3]
    assert first.train_labels.bincount().tolist() == [8, 12]
    assert torch.equal(first.test_images[:], second.test_images[:])
    levels = torch.cat([first.train_images[:], first.test_images[:]])[:, 0, 0, 0]
    assert sorted(levels.tolist()) == [*range(10), *range(20, 35)]


def test_grey_images_stay_grey_only_if_all_are(tmp_path: Path) -> None:
    write_images(tmp_path, {"cat": 2, "dog": 2}, mode="L")
    grey = sources.read_folder(tmp_path)
    assert grey.train_images.shape[1] == 1
    assert not grey.flip
    Image.new("RGBA", (10, 8), (9, 8, 7, 6)).save(tmp_path / "cat" / "00.png")
    raw = sources.read_folder(tmp_path)
    pixels = torch.cat([raw.train_images[:], raw.test_images[:]])[:, :, 0, 0].tolist()
    assert sorted(pixels) == [[1, 1, 1], [9, 8, 7], [20, 20, 20], [21, 21, 21]]


def test_sizes_must_agree_unless_one_is_given(tmp_path: Path) -> None:
    write_images(tmp_path, {"cat": 3, "dog": 3})
    Image.new("RGB", (40, 20)).save(tmp_path / "dog" / "big.png")
    with pytest.raises(DataError, match=r"2 sizes: 8x10 .*20x40 \(big\.png\).*--image-size"):
        sources.read_folder(tmp_path)
    raw = sources.read_folder(tmp_path, image_size=16)
    assert raw.train_images.shape[1:] == (3, 16, 16)


def test_unreadable_images_are_all_named(tmp_path: Path) -> None:
    write_images(tmp_path, {"cat": 3, "dog": 3})
    whole = (tmp_path / "cat" / "00.png").read_bytes()
    (tmp_path / "cat" / "00.png").write_bytes(whole[:-30])
    (tmp_path / "cat" / "01.png").write_bytes(b"")
    (tmp_path / "dog" / "02.png").write_text("no image")
    with pytest.raises(DataError) as caught:
        sources.read_folder(tmp_path)
    message = str(caught.value)
    assert message.startswith("3 images in")
    for name in ("cat/00.png", "cat/01.png", "dog/02.png"):
        assert name in message


def test_folders_that_are_no_data_sets(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no folder"):
        sources.read_folder(tmp_path / "none")
    with pytest.raises(DataError, match="0 class folders"):
        sources.read_folder(tmp_path)
    (tmp_path / "a").mkdir()
    write_images(tmp_path, {"b": 2})
    Image.new("RGB", (8, 8)).save(tmp_path / "loose.png")
    with pytest.raises(DataError, match=r"loose\.png.*a/ holds no images"):
        sources.read_folder(tmp_path)


def test_one_image_cannot_be_split(tmp_path: Path) -> None:
    write_images(tmp_path, {"cat": 1, "dog": 3})
    with pytest.raises(DataError, match="cat holds one image"):
        sources.read_folder(tmp_path)


def test_splits_must_have_the_same_classes(tmp_path: Path) -> None:
    write_images(tmp_path / "train", {"cat": 2, "dog": 2})
    with pytest.raises(DataError, match="neither val/ nor test/"):
        sources.read_folder(tmp_path)
    write_images(tmp_path / "val", {"cat": 2, "wolf": 2})
    with pytest.raises(DataError, match="dog, wolf differ"):
        sources.read_folder(tmp_path)


# --- the embedded default ------------------------------------------------------------------------


def test_the_embedded_subset() -> None:
    raw = sources.read_embedded()
    assert raw.train_images.shape == (8000, 1, 32, 32)
    assert raw.test_images.shape == (2000, 1, 32, 32)
    assert raw.train_labels.bincount().tolist() == [800] * 10
    assert raw.test_labels.bincount().tolist() == [200] * 10
    assert raw.train_images[:][:, :, :2].max() == 0
    assert raw.class_names == sources.FASHION_CLASSES
    assert raw.flip
    # As the README beside the file says it.
    digest = hashlib.sha256()
    for images, labels in (
        (raw.train_images[:], raw.train_labels),
        (raw.test_images[:], raw.test_labels),
    ):
        digest.update(images[:, 0, 2:-2, 2:-2].contiguous().numpy().tobytes())
        digest.update(labels.to(torch.uint8).numpy().tobytes())
    readme = Path(sources.__file__).parent / "embedded" / "README.md"
    assert digest.hexdigest() in readme.read_text(encoding="utf-8")
