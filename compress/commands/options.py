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
    "default (embedded), cifar10, cifar100, fashion-mnist, an .npz file with x_train, y_train, "
    "x_test, y_test, or a folder of class folders."
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
        help="The output of an ONNX file that its answers are, where several could be.",
    )


def ignore_runs_option() -> Decorator:
    """``--ignore-runs``, of commands that choose a student."""
    return click.option(
        "--ignore-runs",
        is_flag=True,
        help="Choose without what your own runs on this data have shown; `compress runs list` "
        "shows them.",
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
            help="Where cifar10, cifar100 and fashion-mnist lie or are downloaded to.",
        ),
        click.option(
            "--image-size",
            type=click.IntRange(min=8),
            help="Height and width that the images of a folder are brought to.",
        ),
    ]
    if validation:
        options.append(
            click.option(
                "--validation",
                type=int,
                help="Images held out of the training data. [default: a tenth, at most 5000]",
            )
        )
    if training:
        options += [
            click.option("--limit-train", type=int, help="Use only so many training images."),
            click.option(
                "--flip/--no-flip",
                default=None,
                help="Whether images may be mirrored. [default: the named data sets and colour "
                "images may, other grey ones not]",
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
        raise UsageError(f"Without --data there is nothing that {' and '.join(given)} could mean.")


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
        click.option("--epochs", type=int, default=200, show_default=True),
        click.option("--batch-size", type=int, default=128, show_default=True),
        click.option("--lr", type=float, default=0.1, show_default=True, help="Of SGD."),
        click.option(
            "--schedule",
            default="steps",
            show_default=True,
            help="Of the learning rate: steps (the paper's), one-cycle (better in few epochs) or "
            "cosine.",
        ),
        click.option("--momentum", type=float, default=0.9, show_default=True),
        click.option("--weight-decay", type=float, default=1e-4, show_default=True),
        click.option(
            "--dropout", type=float, default=0.3, show_default=True, help="In WRN blocks."
        ),
        click.option(
            "--crop-padding",
            type=int,
            default=4,
            show_default=True,
            help="Pixels by which training images are shifted at random.",
        ),
        click.option(
            "--autocast",
            default="auto",
            show_default=True,
            help="bf16: the student's passes in bfloat16, up to twice as fast on processors and "
            "GPUs that have it; off; or auto: on such GPUs.",
        ),
        click.option(
            "--label-smoothing",
            type=float,
            default=0.0,
            show_default=True,
            help="Share of each label that is spread over all classes.",
        ),
        click.option(
            "--ema",
            type=float,
            default=0.0,
            show_default=True,
            help="Keep an exponential moving average of the weights: 0.999, say. 0 keeps the last.",
        ),
        click.option(
            "--memory-format",
            default="auto",
            show_default=True,
            help="channels_last, contiguous, measured (the faster one, tried at the start), or "
            "auto: measured on a GPU, else channels_last.",
        ),
        click.option(
            "--compile",
            default="auto",
            show_default=True,
            help="torch.compile: off, on, graphs (with CUDA graphs), measured (the fastest, tried "
            "at the start), or auto: on or off as measured on a GPU, else off.",
        ),
        click.option(
            "--fused",
            default="auto",
            show_default=True,
            help="The optimiser in one kernel: off, on, or auto: on a GPU.",
        ),
        click.option(
            "--tf32/--no-tf32",
            default=True,
            show_default=True,
            help="Whether a GPU's products may take TF32.",
        ),
        click.option(
            "--deterministic",
            is_flag=True,
            help="The same bits every time on a GPU, too, where auto then measures nothing. On a "
            "CPU they are the same in any case, unless something is measured.",
        ),
        seed_option(),
        click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda."),
        click.option("--out", type=click.Path(path_type=Path), help="The run folder."),
        click.option(
            "--resume",
            is_flag=True,
            help="Go on with the run in the folder, and say so where nothing was saved yet. The "
            "same command without it goes on, too.",
        ),
    )


def check_resume(out: Path, say: Callable[[str], None]) -> None:
    """What --resume adds: says where there is nothing to go on with."""
    if not any((out / name).exists() for name in ("last.ckpt", "previous.ckpt", "result.json")):
        say(f"Nothing was saved in {out} yet: this starts at the beginning.")


def read_training(options: dict[str, Any]) -> TrainingOptions:
    """What ``training_options`` say, and other fields of it where the command has the option.

    Raises:
        UsageError: a value cannot be.
    """
    from dataclasses import fields

    from compress.training.options import TrainingOptions

    names = [field.name for field in fields(TrainingOptions)]
    return TrainingOptions(**{name: options[name] for name in names if name in options})
