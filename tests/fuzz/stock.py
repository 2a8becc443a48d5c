"""Valid files of every kind, small and made when a case first needs them."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.fuzz import guard
from tests.fuzz.case import Folders, Stock
from tests.fuzz.runner import COMPRESS, Fault, in_a_child

CLASSES, SIZE, TRAIN, TEST = 4, 8, 40, 20
SHAPE = f"1,{SIZE},{SIZE}"
RUN = shlex.split(
    "distill --data data.npz --teacher teacher.safetensors --student wrn-10-1 --epochs 1 --out run "
    "--device cpu --threads 1 --batch-size 20 --outputs-dir outputs"
)
#: From which candidates are chosen: a few that are quickly timed.
SELECT = f"select --num-classes {CLASSES} --input-shape {SHAPE} --threads 1 --budget-mb 0.4".split()


class FileStock:
    """The valid files in a folder, each made once.

    Args:
        folder: that they are kept in.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, name: str) -> Path:
        """A file or folder of ``MAKERS``; those that are made first are there, too."""
        target = self.folder / name
        if not target.exists():
            unfinished = self.folder / f"unfinished-{name}"
            if unfinished.exists():
                shutil.rmtree(unfinished)
            unfinished.mkdir()
            MAKERS[name](self, unfinished)
            (unfinished / name).rename(target)
            shutil.rmtree(unfinished)
        return target


def arrays(channels: int = 1) -> dict[str, NDArray[Any]]:
    """A data set whose classes are told apart by their brightness."""
    rng = np.random.default_rng(0)
    found: dict[str, NDArray[Any]] = {}
    for split, count in (("train", TRAIN), ("test", TEST)):
        labels = np.arange(count) % CLASSES
        shape = (count, SIZE, SIZE) if channels == 1 else (count, SIZE, SIZE, channels)
        noise = rng.integers(0, 40, shape)
        found[f"x_{split}"] = (60 * labels.reshape(-1, *[1] * (len(shape) - 1)) + noise).astype(
            np.uint8
        )
        found[f"y_{split}"] = labels.astype(np.int64)
    return found


def classifier(*, channels: int = 1, classes: Sequence[str] = ()) -> onnx.ModelProto:
    """An ONNX model that has the images of ``arrays`` right: a convolution, a mean, a product."""
    centres = (60 * np.arange(CLASSES) + 20) / 255
    rng = np.random.default_rng(1)
    kernel = np.zeros((6, channels, 3, 3), dtype=np.float32)
    kernel[:2, :, 1, 1] = 1 / channels
    kernel[2:] = rng.standard_normal((4, channels, 3, 3)) / 9
    matrix = np.zeros((CLASSES, 6), dtype=np.float32)
    matrix[:, :2] = 100 * centres[:, None]
    weights = {
        "kernel": kernel,
        "shift": np.zeros(6, dtype=np.float32),
        "matrix": matrix,
        "bias": (-100 * centres**2).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["images", "kernel", "shift"], ["maps"], "c", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["maps"], ["active"], "r"),
        helper.make_node("GlobalAveragePool", ["active"], ["pooled"], "p"),
        helper.make_node("Flatten", ["pooled"], ["flat"], "f"),
        helper.make_node("Gemm", ["flat", "matrix", "bias"], ["logits"], "g", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", channels, SIZE, SIZE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", CLASSES])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    known = {
        "compress.normalization": json.dumps({"mean": [0.0] * channels, "std": [1.0] * channels}),
        "compress.classes": json.dumps([*classes] or [str(label) for label in range(CLASSES)]),
        "compress.precision": "fp32",
        "compress.source": "{}",
        "compress.toolchain": "{}",
    }
    helper.set_model_props(model, known)
    return model


def command(stock: FileStock, folder: Path, words: Sequence[str], *needs: str) -> Path:
    """Runs a command of the tool beside copies of other valid files; gives the folder.

    Folders among them are copied into its cache.

    Raises:
        Fault: it failed.
    """
    folders = Folders(folder / "case")
    folders.make()
    for name in needs:
        source = stock.path(name)
        if source.is_dir():
            shutil.copytree(source, folders.cache / "compress" / name)
        else:
            shutil.copyfile(source, folders.files / name)

    def run() -> None:
        code = guard.run(folders, guard.command_named(COMPRESS), words)
        if code not in (0, 1):
            raise Fault(f"`compress {' '.join(words)}` ended with {code}")

    try:
        in_a_child(run)
    except Fault as error:
        raise Fault(f"{error}: {folders.said[1].read_text()}") from error
    return folders.files


def _data(stock: FileStock, folder: Path) -> None:
    np.savez(folder / "data.npz", **arrays())  # type: ignore[arg-type]


def _model(stock: FileStock, folder: Path) -> None:
    onnx.save(classifier(), folder / "model.onnx")


def _external(stock: FileStock, folder: Path) -> None:
    (folder / "external").mkdir()
    onnx.save(
        classifier(),
        folder / "external/model.onnx",
        save_as_external_data=True,
        location="model.data",
        size_threshold=0,
    )


def _teacher(stock: FileStock, folder: Path) -> None:
    from compress.data.normalization import normalize
    from compress.models.checkpoint import save_checkpoint
    from compress.models.registry import build, spec_of
    from compress.spec import Normalization
    from tests.bad_inputs import teach

    torch.manual_seed(0)
    gray = Normalization((0.5,), (0.25,))
    spec = spec_of("wrn-10-1", num_classes=CLASSES, input_shape=(1, SIZE, SIZE))
    network = build(spec)
    found = arrays()
    teach(network, normalize(torch.from_numpy(found["x_train"])[:, None], gray), found["y_train"])
    save_checkpoint(folder / "teacher.safetensors", network, normalization=gray)


def _zipped(stock: FileStock, folder: Path) -> None:
    torch.save({"state_dict": weights(stock), "epoch": 3}, folder / "teacher.pt")


def _legacy(stock: FileStock, folder: Path) -> None:
    torch.save(
        {"state_dict": weights(stock), "epoch": 3},
        folder / "teacher.pth",
        _use_new_zipfile_serialization=False,
    )


def weights(stock: Stock) -> dict[str, torch.Tensor]:
    """Those of the teacher."""
    from safetensors.torch import load_file

    return dict(load_file(stock.path("teacher.safetensors")))


def _baseline(stock: FileStock, folder: Path) -> None:
    words = "baseline update model.onnx --data data.npz --reason first -o baseline.json --threads 1"
    made = command(stock, folder, words.split(), "model.onnx", "data.npz")
    target = folder / "baseline"
    target.mkdir()
    for pattern in ("baseline*", "data.npz", "model.onnx"):
        for path in made.glob(pattern):
            path.rename(target / path.name)


def _table(suffix: str) -> Callable[[FileStock, Path], None]:
    def make(stock: FileStock, folder: Path) -> None:
        name = f"table{suffix}"
        made = command(stock, folder, [*SELECT, "--save", name], "latency")
        (made / name).rename(folder / name)

    return make


def _latency(stock: FileStock, folder: Path) -> None:
    """The cache of measurements that choosing leaves."""
    command(stock, folder, SELECT)
    (folder / "case/cache/compress/latency").rename(folder / "latency")


def _run(stock: FileStock, folder: Path) -> None:
    """A run that is finished, with the teacher's outputs that it kept, and all that it was of."""
    from compress.tradeoff.runs import OwnRun, load_runs, record_run

    made = command(stock, folder, RUN, "data.npz", "teacher.safetensors")
    cache = folder / "case/cache/compress"
    if not load_runs(folder=cache):
        # A student of one epoch may be no better than chance, and is not remembered then.
        record_run(OwnRun("0" * 64, "wrn-10-1", "dist", 1, 40, 0.5, 8, 0), folder=cache)
    cache.rename(made / "cache")
    made.rename(folder / "run")


MAKERS: dict[str, Callable[[FileStock, Path], None]] = {
    "data.npz": _data,
    "model.onnx": _model,
    "external": _external,
    "teacher.safetensors": _teacher,
    "teacher.pt": _zipped,
    "teacher.pth": _legacy,
    "baseline": _baseline,
    "table.csv": _table(".csv"),
    "table.json": _table(".json"),
    "latency": _latency,
    "run": _run,
}
