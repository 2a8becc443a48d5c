"""What users get wrong, and what the command line must answer.

python -m tests.bad_inputs        prints every command with its exit code and its answer
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from compress.cli import main
from compress.data.normalization import normalize
from compress.models.checkpoint import save_checkpoint
from compress.models.registry import build, spec_of
from compress.spec import Normalization
from tests.profiling import tiny

CLASSES, SIZE = 4, 8


@dataclass(frozen=True)
class BadInput:
    """A command with one thing wrong.

    Attributes:
        what: is wrong.
        command: words; {f} is the folder that ``make_files`` filled.
        exit_code: that it must end with.
        says: a part of the answer.
    """

    what: str
    command: str
    exit_code: int
    says: str


TASK = "distill --data {f}/data.npz --student wrn-10-1 --epochs 1 --out {f}/out --device cpu"
GOOD = f"{TASK} --teacher {{f}}/teacher.safetensors"
NO_STUDENT = GOOD.replace("--student wrn-10-1 ", "")

BAD_INPUTS = (
    BadInput("no such teacher", f"{TASK} --teacher {{f}}/none.pt", 2, "there is no file"),
    BadInput("an empty teacher", f"{TASK} --teacher {{f}}/empty.pt", 2, "empty"),
    BadInput("a text file as the teacher", f"{TASK} --teacher {{f}}/text.pt", 2, "text"),
    BadInput("a folder as the teacher", f"{TASK} --teacher {{f}}", 2, "folder"),
    BadInput("a pickle that runs code", f"{TASK} --teacher {{f}}/evil.pt", 2, "system"),
    BadInput("a truncated .safetensors", f"{TASK} --teacher {{f}}/cut.safetensors", 2, "cut"),
    BadInput("a truncated .pt", f"{TASK} --teacher {{f}}/cut.pt", 2, "cut"),
    BadInput("weights that are not a number", f"{TASK} --teacher {{f}}/nan.pt", 2, "nan"),
    BadInput("an unknown architecture", f"{TASK} --teacher {{f}}/mlp.pt", 2, "known networks are"),
    BadInput(
        "a teacher of other classes", f"{TASK} --teacher {{f}}/seven.safetensors", 2, "7 classes"
    ),
    BadInput("a teacher at chance", f"{TASK} --teacher {{f}}/untrained.safetensors", 2, "chance"),
    BadInput("--data without its teacher", TASK, 2, "--teacher"),
    BadInput(
        "an unknown data set", GOOD.replace("{f}/data.npz", "cifar-10"), 2, "Did you mean 'cifar10'"
    ),
    BadInput("a corrupt .npz", GOOD.replace("data.npz", "corrupt.npz"), 2, "corrupt.npz"),
    BadInput("an .npz without y_test", GOOD.replace("data.npz", "part.npz"), 2, "y_test"),
    BadInput("float images", GOOD.replace("data.npz", "float.npz"), 2, "float"),
    BadInput("an empty image folder", GOOD.replace("{f}/data.npz", "{f}/hollow"), 2, "hollow"),
    BadInput("no budget", NO_STUDENT, 2, "--budget-ms"),
    BadInput("a negative budget", f"{NO_STUDENT} --budget-ms -2", 2, "--budget-ms is -2"),
    BadInput("a budget that is no number", f"{NO_STUDENT} --budget-ms two", 2, "'two'"),
    BadInput("an endless budget", f"{NO_STUDENT} --budget-mb inf", 2, "--budget-mb is inf"),
    BadInput("an impossible budget", f"{NO_STUDENT} --budget-mb 0.001", 1, "nearest is"),
    BadInput("an unknown recipe", f"{GOOD} --recipe logitgan", 2, "Did you mean 'logit-gan'"),
    BadInput("an option of another recipe", f"{GOOD} --recipe kd --set l1=mean", 2, "l1"),
    BadInput("no such network", GOOD.replace("wrn-10-1", "wrn-11-1"), 2, "the nearest is 10"),
    BadInput(
        "no network at all", GOOD.replace("wrn-10-1", "small"), 2, "is not the name of a network"
    ),
    BadInput("no epochs", GOOD.replace("--epochs 1", "--epochs 0"), 2, "epochs is 0"),
    BadInput("too many validation images", f"{GOOD} --validation 5000", 2, "5000 validation"),
    BadInput("an unknown device", GOOD.replace("cpu", "tpu"), 2, "auto, cpu or cuda"),
    BadInput("a run folder that is a file", GOOD.replace("{f}/out", "{f}/text.pt"), 2, "text.pt"),
    BadInput(
        "a run folder with other files", GOOD.replace("{f}/out", "{f}/thesis"), 2, "thesis.tex"
    ),
    BadInput("no normalisation", f"{GOOD} --normalize nice", 2, "nice"),
    BadInput(
        "a table that is none",
        f"{NO_STUDENT} --budget-ms 2 --tradeoff {{f}}/text.pt".replace("{f}/out", "{f}/out2"),
        2,
        "text.pt",
    ),
    BadInput("an unknown subcommand", "distil", 2, "distill"),
    BadInput("an unknown option", f"{GOOD} --epoch 3", 2, "--epochs"),
    BadInput("an unknown key in TOML", "--config {f}/typo.toml distill", 2, "budget-ms"),
    BadInput("evaluating no ONNX file", "evaluate {f}/text.onnx --data {f}/data.npz", 2, "ONNX"),
    BadInput("profiling an empty file", "profile {f}/empty.onnx", 2, "empty.onnx"),
    BadInput("profiling a truncated file", "profile {f}/cut.onnx", 2, "is incomplete"),
    BadInput("profiling without the weights", "profile {f}/split.onnx", 2, "split.data"),
    BadInput("profiling an open image size", "profile {f}/open.onnx", 2, "'height' is open"),
    BadInput(
        "an image size that does not fit",
        "profile {f}/open.onnx --shape 3,8",
        2,
        "channels, height and width",
    ),
    BadInput("profiling two inputs", "profile {f}/two.onnx", 2, "has 2 inputs"),
    BadInput("profiling NaN", "profile {f}/nan.onnx --threads 1", 2, "not finite"),
    BadInput("the same by OpenVINO", "profile {f}/split.onnx --runtime openvino", 2, "split.data"),
    BadInput("an unknown runtime", "profile {f}/open.onnx --runtime onnx", 2, "'onnxruntime'"),
    BadInput("a student in torch", f"{NO_STUDENT} --budget-ms 2 --runtime torch", 2, "ONNX file"),
    BadInput("an unknown runtime to serve", f"{GOOD} --runtime fast", 2, "Did you mean 'fastest'"),
    BadInput(
        "exporting nothing", "export {f}/none.pt --output {f}/out.onnx", 2, "there is no file"
    ),
    BadInput("training without an architecture", "train --arch vgg --out {f}/out", 2, "vgg"),
)


class Evil:
    """Unpickling it would make a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"mkdir {self.folder / 'harmed'}",)


def make_files(folder: Path) -> None:
    """Everything that the commands name."""
    rng = np.random.default_rng(0)
    labels = np.arange(200) % CLASSES
    # The classes are told apart by their brightness.
    noise = rng.integers(0, 40, (200, SIZE, SIZE))
    images = (60 * labels[:, None, None] + noise).astype(np.uint8)
    good: dict[str, Any] = {
        "x_train": images,
        "y_train": labels,
        "x_test": images[:40],
        "y_test": labels[:40],
    }
    np.savez(folder / "data.npz", **good)
    np.savez(folder / "part.npz", **{key: good[key] for key in ("x_train", "y_train", "x_test")})
    np.savez(folder / "float.npz", **(good | {"x_train": images / 255}))
    whole = (folder / "data.npz").read_bytes()
    (folder / "corrupt.npz").write_bytes(whole[:3000] + b"\0" * 500 + whole[3500:9000])
    (folder / "hollow").mkdir()
    (folder / "thesis").mkdir()
    (folder / "thesis/thesis.tex").write_text("a year's work")

    torch.manual_seed(0)
    gray = Normalization((0.5,), (0.25,))
    for name, classes in (("teacher", CLASSES), ("untrained", CLASSES), ("seven", 7)):
        spec = spec_of("wrn-10-1", num_classes=classes, input_shape=(1, SIZE, SIZE))
        network = build(spec)
        if name == "teacher":
            teach(network, normalize(torch.from_numpy(images)[:, None], gray), labels)
        save_checkpoint(folder / f"{name}.safetensors", network, normalization=gray)
    spec = spec_of("resnet-8", num_classes=CLASSES, input_shape=(1, SIZE, SIZE))
    weights = build(spec).state_dict()
    torch.save({"state_dict": weights}, folder / "whole.pt")
    for name in ("teacher.safetensors", "whole.pt"):
        content = (folder / name).read_bytes()
        (folder / f"cut{Path(name).suffix}").write_bytes(content[: len(content) // 2])
    torch.save({**weights, "linear.bias": weights["linear.bias"] * torch.nan}, folder / "nan.pt")
    torch.save(torch.nn.Sequential(torch.nn.Linear(8, 4)).state_dict(), folder / "mlp.pt")
    make_onnx_files(folder)
    (folder / "empty.pt").touch()
    (folder / "empty.onnx").touch()
    for name in ("text.pt", "text.onnx"):
        (folder / name).write_text("These are not the weights that you are looking for.\n")
    (folder / "evil.pt").write_bytes(pickle.dumps({"state_dict": Evil(folder)}))
    (folder / "typo.toml").write_text("[distill]\nbudget-sm = 2\n")


def make_onnx_files(folder: Path) -> None:
    """Files that cannot be run, each for a reason of its own."""
    whole = tiny.convolution(folder / "whole.onnx")
    (folder / "cut.onnx").write_bytes(whole.read_bytes()[:-9])
    onnx.save(
        onnx.load(whole),
        folder / "split.onnx",
        save_as_external_data=True,
        location="split.data",
        size_threshold=0,
    )
    (folder / "split.data").unlink()
    tiny.convolution(folder / "open.onnx", input_shape=("n", 3, "height", "width"))
    tiny.convolution(folder / "nan.onnx", scale=float("nan"))
    add = onnx.helper.make_node("Add", ["left", "right"], ["logits"])
    tiny.save(folder / "two.onnx", [add], {}, [(name, ("n", 3)) for name in ("left", "right")])


def teach(network: torch.nn.Module, images: torch.Tensor, labels: NDArray[np.int64]) -> None:
    """Trains a network until it knows the images."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    for _ in range(40):
        loss = torch.nn.functional.cross_entropy(network(images), torch.from_numpy(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def answer(bad: BadInput, folder: Path) -> tuple[int, str]:
    """The exit code, and everything that the command printed."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        exit_code = main(bad.command.format(f=folder).split())
    return exit_code, said.getvalue()


def print_all() -> None:
    """Every bad input and its answer, on stdout."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_files(folder)
        for number, bad in enumerate(BAD_INPUTS, 1):
            exit_code, said = answer(bad, folder)
            last = said.strip().splitlines()[-1].replace(f"{folder}/", "")
            sys.stdout.write(f"{number:>2}  exit {exit_code}  {bad.what}\n    {last}\n")


if __name__ == "__main__":
    print_all()
