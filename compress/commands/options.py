"""Options that several subcommands share. Imports click alone, so that --help stays fast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from compress.commands.inputs import check_data, check_models

if TYPE_CHECKING:
    from compress.data.dataset import Dataset
    from compress.training.options import TrainingOptions

# More than any machine has; ONNX Runtime would start them all, and never come to an end.
MAX_THREADS = 4096

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

DATA_HELP = (
    "The data set: default (embedded), cifar10, cifar100, fashion-mnist, an .npz file with "
    "x_train, y_train, x_test and y_test, or a folder of class folders."
)


def seed_option(meaning: str | None = None) -> Decorator:
    """``--seed``, and what it is of."""
    return click.option(
        "--seed", type=click.IntRange(min=0), default=0, show_default=True, help=meaning
    )


def threads_option(meaning: str) -> Decorator:
    """``--threads`` of the sessions that a command opens, and what else is to be said of it."""
    return click.option("--threads", type=click.IntRange(1, MAX_THREADS), help=meaning)


def output_option() -> Decorator:
    """``--output-name``, of commands that look at a file's answers."""
    return click.option(
        "--output-name",
        metavar="NAME",
        help="The output of the ONNX file that holds the logits, if it has several candidates.",
    )


def ignore_runs_option() -> Decorator:
    """``--ignore-runs``, of commands that choose a student."""
    return click.option(
        "--ignore-runs",
        is_flag=True,
        help="Ignore the results of your earlier runs on this data; `compress runs list` shows "
        "them.",
    )


def chain(*decorators: Decorator) -> Decorator:
    """One decorator that applies several, the first one shown first in the help."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def data_options(
    default: str | None = "default", *, validation: bool = True, training: bool = True
) -> Decorator:
    """--data and what goes with it; ``load_data`` reads them.

    Args:
        default: of --data.
        validation: whether the command looks at validation images.
        training: whether it trains.
    """
    options = [
        click.option("--data", default=default, show_default=default is not None, help=DATA_HELP),
        click.option(
            "--data-dir",
            type=click.Path(path_type=Path),
            help="Folder of cifar10, cifar100 and fashion-mnist; they are downloaded to it.",
        ),
        click.option(
            "--image-size",
            type=click.IntRange(min=8),
            help="Resize the images of a folder to this height and width.",
        ),
    ]
    if validation:
        options.append(
            click.option(
                "--validation",
                type=int,
                help="Number of training images held out for validation. "
                "[default: a tenth, at most 5000]",
            )
        )
    if training:
        options += [
            click.option("--limit-train", type=int, help="Use only this many training images."),
            click.option(
                "--flip/--no-flip",
                default=None,
                help="Mirror training images at random, or never. [default: mirror the named data "
                "sets and colour images, but not other grey images]",
            ),
        ]
    return chain(*options)


def tell(text: str) -> None:
    """Says on stderr what is being done, for commands without a display."""
    click.echo(text, err=True)


def load_data(
    options: dict[str, Any],
    *,
    seed: int,
    models: Sequence[Path | None] = (),
    say: Callable[[str], None] = tell,
) -> Dataset:
    """Reads the data set that ``data_options`` name; those that a command lacks may be missing.

    Args:
        options: of the command.
        seed: of the split.
        models: the files that the data is for, which are looked at first.
        say: is told of what takes long.

    Raises:
        InputError: one of them cannot be used.
    """
    from compress.data.dataset import load_dataset

    check_data(options["data"])
    check_models(*models)
    return load_dataset(
        options["data"],
        root=options["data_dir"],
        seed=seed,
        validation=options.get("validation"),
        limit_train=options.get("limit_train"),
        flip=options.get("flip"),
        image_size=options["image_size"],
        say=say,
    )


def refuse_without_data(**values: object) -> None:
    """Refuses options that say something of --data where there is none.

    Args:
        values: of those options, by name; None where they are not given.

    Raises:
        UsageError: one is given.
    """
    from compress.errors import UsageError

    given = [f"--{name.replace('_', '-')}" for name, value in values.items() if value is not None]
    if given:
        verb = "needs" if len(given) == 1 else "need"
        raise UsageError(f"{' and '.join(given)} {verb} --data, which is not given.")


def parse_shape(text: str, option: str) -> tuple[int, int, int]:
    """'3,32,32' or '3x32x32' -> (3, 32, 32): channels, height and width.

    Raises:
        UsageError: not three positive whole numbers.
    """
    from compress.errors import UsageError

    try:
        channels, height, width = map(int, text.lower().replace("x", ",").split(","))
    except ValueError:
        channels = height = width = 0
    if min(channels, height, width) < 1:
        raise UsageError(
            f"{option} is '{text}'; it takes channels, height and width, such as 3,32,32."
        )
    return channels, height, width


def parse_percent(text: str, option: str) -> float:
    """'3%' or '3' -> 0.03.

    Raises:
        UsageError: no such number.
    """
    from compress.errors import UsageError

    try:
        return float(text.strip().removesuffix("%")) / 100
    except ValueError as error:
        raise UsageError(f"{option} is '{text}'; it takes percents, such as 3%.") from error


def training_options() -> Decorator:
    """Epochs, optimiser and seed; the paper's values are the defaults."""
    return chain(
        click.option(
            "--epochs", type=int, default=200, show_default=True, help="Epochs of training."
        ),
        click.option(
            "--batch-size", type=int, default=128, show_default=True, help="Images per step."
        ),
        click.option(
            "--lr", type=float, default=0.1, show_default=True, help="Initial learning rate of SGD."
        ),
        click.option(
            "--schedule",
            default="steps",
            show_default=True,
            help="Learning rate schedule: steps (the paper's), one-cycle (better for few epochs) "
            "or cosine.",
        ),
        click.option(
            "--momentum", type=float, default=0.9, show_default=True, help="Momentum of SGD."
        ),
        click.option(
            "--weight-decay",
            type=float,
            default=1e-4,
            show_default=True,
            help="Weight decay (L2 penalty) of SGD.",
        ),
        click.option(
            "--dropout",
            type=float,
            default=0.3,
            show_default=True,
            help="Dropout rate in the blocks of a WRN.",
        ),
        click.option(
            "--crop-padding",
            type=int,
            default=4,
            show_default=True,
            help="Shift training images at random by up to this many pixels.",
        ),
        click.option(
            "--autocast",
            default="auto",
            show_default=True,
            help="bf16 runs the student in bfloat16, up to twice as fast on processors and GPUs "
            "that support it; off does not; auto does on such GPUs.",
        ),
        click.option(
            "--label-smoothing",
            type=float,
            default=0.0,
            show_default=True,
            help="Spread this share of each label over all classes.",
        ),
        click.option(
            "--ema",
            type=float,
            default=0.0,
            show_default=True,
            help="Decay of an exponential moving average of the weights, such as 0.999; 0 is off.",
        ),
        click.option(
            "--memory-format",
            default="auto",
            show_default=True,
            help="Memory layout: channels_last, contiguous, measured (time both at the start and "
            "take the faster), or auto (measured on a GPU, channels_last on a CPU).",
        ),
        click.option(
            "--compile",
            default="auto",
            show_default=True,
            help="Use of torch.compile: off, on, graphs (with CUDA graphs), measured (time all at "
            "the start and take the fastest), or auto (time on and off on a GPU, off on a CPU).",
        ),
        click.option(
            "--fused",
            default="auto",
            show_default=True,
            help="Run the optimiser as one fused kernel: off, on, or auto (on a GPU).",
        ),
        click.option(
            "--tf32/--no-tf32",
            default=True,
            show_default=True,
            help="Allow TF32 in matrix products and convolutions on a GPU.",
        ),
        click.option(
            "--deterministic",
            is_flag=True,
            help="Give bit-identical results on a GPU; the auto options then measure nothing. A "
            "CPU always does, unless an option is measured.",
        ),
        seed_option(),
        click.option(
            "--device",
            default="auto",
            show_default=True,
            help="Where to train: auto, cpu or cuda.",
        ),
        click.option("--out", type=click.Path(path_type=Path), help="Folder of the run."),
        click.option(
            "--resume",
            is_flag=True,
            help="Resume the run in the folder, with a note if nothing is saved there yet. The "
            "same command resumes without this option, too.",
        ),
    )


def check_resume(out: Path, say: Callable[[str], None]) -> None:
    """What --resume adds: says where there is nothing to go on with."""
    if not any((out / name).exists() for name in ("last.ckpt", "previous.ckpt", "result.json")):
        say(f"Nothing is saved in {out} yet, so training starts at the beginning.")


def read_training(options: dict[str, Any]) -> TrainingOptions:
    """What ``training_options`` say, and other fields of it where the command has the option.

    Raises:
        UsageError: a value cannot be.
    """
    from dataclasses import fields

    from compress.training.options import TrainingOptions

    names = [field.name for field in fields(TrainingOptions)]
    return TrainingOptions(**{name: options[name] for name in names if name in options})
