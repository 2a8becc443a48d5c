"""How a command is made of a function of the Python API, and the options that several share.

Nothing here imports torch or numpy, so that --help stays fast.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from compress.errors import UsageError
from compress.training.options import DEFAULTS

# More than any machine has; ONNX Runtime would start them all, and never come to an end.
MAX_THREADS = 4096

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

FIRST = "Options"
PERCENT = "PERCENT"
NORMALIZATION = "a known name, or MEAN,MEAN,MEAN/STD,STD,STD."
DATA_HELP = (
    "The data set: default (embedded), cifar10, cifar100, fashion-mnist, an .npz file with "
    "x_train, y_train, x_test and y_test, or a folder of class folders."
)


def twin(
    name: str, function: Callable[..., Any], *, first: tuple[str, ...] = ()
) -> Callable[[Callable[..., Any]], click.Command]:
    """A command that takes its options' defaults from a function of the Python API.

    Args:
        name: of the command.
        function: that it calls. An option that is called like one of its arguments gets its
            default, unless it has one already.
        first: the options that people need first, by the names of their arguments; the help shows
            them before all others.
    """

    def decorate(body: Callable[..., Any]) -> click.Command:
        command = click.command(name, cls=Sectioned)(body)
        arguments = inspect.signature(function).parameters
        for option in command.params:
            if not isinstance(option, click.Option):
                continue
            if option.name in first:
                option.section = FIRST  # type: ignore[attr-defined]
            argument = arguments.get(option.name or "")
            if argument is not None and argument.default not in (argument.empty, None, False):
                percent = option.metavar == PERCENT
                option.default = f"{argument.default:g}%" if percent else argument.default
                option.show_default = True
        command.params.sort(key=lambda each: _place(each.name or "", first))
        return command

    return decorate


def _place(name: str, first: tuple[str, ...]) -> int:
    return first.index(name) if name in first else len(first)


class Sectioned(click.Command):
    """A command whose help shows its options in sections."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """As click does, with a heading for each ``section``."""
        sections: dict[str, list[tuple[str, str]]] = {FIRST: []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                title = getattr(parameter, "section", "Other options")
                sections.setdefault(title, []).append(record)
        if not sections[FIRST]:
            sections = {FIRST: [record for records in sections.values() for record in records]}
        other = sections.pop("Other options", [])
        for title, records in (*sections.items(), ("Other options", other)):
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def section(title: str, *decorators: Decorator) -> Decorator:
    """One decorator that applies several; the help shows their options under a heading."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            function = decorator(function)
        made: list[click.Parameter] = getattr(function, "__click_params__", [])
        for parameter in made[-len(decorators) :]:
            parameter.section = title  # type: ignore[attr-defined]
        return function

    return decorate


# --- Values that are written as texts ------------------------------------------------------------


def text_option(*names: str, read: Callable[[Any, str], Any], **more: Any) -> Decorator:
    """An option whose text stands for a value.

    Args:
        names: as click takes them, the flag first.
        read: the text (of an option that can be repeated, the texts) and the flag -> the value;
            raises UsageError.
        more: for click.
    """

    def callback(_: click.Context, param: click.Parameter, text: Any) -> Any:
        return None if text is None else read(text, param.opts[0])

    return click.option(*names, callback=callback, **more)


def parse_shape(text: str, option: str) -> tuple[int, int, int]:
    """'3,32,32' or '3x32x32' -> (3, 32, 32): channels, height and width.

    Raises:
        UsageError: not three positive whole numbers.
    """
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
    """'3%' or '3' -> 3.0.

    Raises:
        UsageError: no such number.
    """
    try:
        return float(text.strip().removesuffix("%"))
    except ValueError as error:
        raise UsageError(f"{option} is '{text}'; it takes percents, such as 3%.") from error


def parse_numbers(text: str, option: str) -> tuple[int, ...]:
    """'1,8,32' -> (1, 8, 32).

    Raises:
        UsageError: something else than positive whole numbers, or one of them twice.
    """
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1 or len(set(numbers)) < len(numbers):
        raise UsageError(
            f"{option} is '{text}'; it takes different positive whole numbers, separated by "
            "commas, such as 1,8,32."
        )
    return numbers


def parse_names(text: str, _: str) -> tuple[str, ...]:
    """'a, b' -> ('a', 'b')."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def parse_seeds(text: str, option: str) -> tuple[int, ...]:
    """'0, 2' -> (0, 2).

    Raises:
        UsageError: one is no whole number.
    """
    try:
        return tuple(map(int, parse_names(text, option)))
    except ValueError as error:
        raise UsageError(f"{option} is '{text}'; it takes numbers: 0,1,2.") from error


def parse_settings(texts: tuple[str, ...], option: str) -> dict[str, str]:
    """('NAME=VALUE', ...) -> {NAME: VALUE}.

    Raises:
        UsageError: a text has another form.
    """
    for text in texts:
        if "=" not in text:
            raise UsageError(f"{option} takes NAME=VALUE, and '{text}' is none.")
    pairs = (text.partition("=") for text in texts)
    return {name.strip().replace("-", "_"): value.strip() for name, _, value in pairs}


def parse_by_task(texts: tuple[str, ...], option: str) -> dict[str, str]:
    """('TASK=VALUE', ...) -> {TASK: VALUE}; a value without a task is under "".

    Raises:
        UsageError: a task is given twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        task, equals, value = text.partition("=")
        # An equals sign further on is a part of a path.
        named = bool(equals) and "/" not in task and "\\" not in task
        task, value = (task, value) if named else ("", text)
        if task in found:
            raise UsageError(f"{option} gives {f'{task} twice' if task else 'two values'}.")
        found[task] = value
    return found


PATH = click.Path(path_type=Path)


# --- Options -------------------------------------------------------------------------------------


def seed_option(meaning: str = "Seed of everything that is drawn.") -> Decorator:
    """``--seed``, and what it is of."""
    return click.option(
        "--seed", type=click.IntRange(min=0), default=0, show_default=True, help=meaning
    )


def threads_option(meaning: str) -> Decorator:
    """``--threads`` of the sessions that a command opens, and what else is to be said of it."""
    return click.option("--threads", type=click.IntRange(1, MAX_THREADS), help=meaning)


def shape_option(meaning: str = "Shape of an image, if the model does not fix it.") -> Decorator:
    """``--shape`` of an image."""
    return text_option("--shape", read=parse_shape, metavar="C,H,W", help=meaning)


def normalize_option(meaning: str = f"Normalisation of the input: {NORMALIZATION}") -> Decorator:
    """``--normalize``."""
    return click.option("--normalize", help=meaning)


def output_option() -> Decorator:
    """``--output-name``, of commands that look at a file's answers."""
    return click.option(
        "--output-name",
        metavar="NAME",
        help="The output of the ONNX file that holds the logits, if it has several candidates.",
    )


def device_option(what: str) -> Decorator:
    """``--device``."""
    return click.option(
        "--device", default="auto", show_default=True, help=f"{what}: auto, cpu or cuda."
    )


def json_option(what: str = "one JSON object") -> Decorator:
    """``--json``."""
    return click.option("--json", "as_json", is_flag=True, help=f"Print {what} on stdout.")


def precision_loss_option() -> Decorator:
    """``--max-precision-loss``."""
    return click.option(
        "--max-precision-loss",
        type=float,
        help="Points of validation accuracy that a reduced precision may be shown to cost at most.",
    )


def choice_options() -> Decorator:
    """How a student is chosen, besides the budget."""
    return section(
        "Choice of the student",
        click.option(
            "--no-cache",
            is_flag=True,
            help="Time candidates again even if their latency is cached.",
        ),
        click.option(
            "--ignore-runs",
            is_flag=True,
            help="Ignore the results of your earlier runs on this data; `compress runs list` shows "
            "them.",
        ),
    )


def data_dir_option() -> Decorator:
    """``--data-dir``."""
    return click.option(
        "--data-dir",
        type=PATH,
        help="Folder of cifar10, cifar100 and fashion-mnist; they are downloaded to it.",
    )


def data_options(
    meaning: str = DATA_HELP,
    *,
    size: str = "Resize the images of a folder to this height and width.",
    validation: bool = True,
    training: bool = True,
) -> Decorator:
    """--data and what goes with it.

    Args:
        meaning: of --data.
        size: what --image-size means.
        validation: whether the command looks at validation images.
        training: whether it trains.
    """
    options: list[Decorator] = [
        click.option("--data", type=str, help=meaning),
        data_dir_option(),
        click.option("--image-size", type=click.IntRange(min=8), help=size),
    ]
    if validation:
        options.append(
            click.option(
                "--validation",
                type=int,
                help="Number of training images held out for validation. [default: a tenth, at "
                "most 5000]",
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
    return section("Data", *options)


def budget_options() -> Decorator:
    """What a student may cost and how that is measured."""
    return section(
        "Budget",
        click.option("--budget-ms", type=float, help="Latency budget: milliseconds per call."),
        text_option(
            "--headroom",
            read=parse_percent,
            metavar=PERCENT,
            help="Part of --budget-ms left free when the student is chosen, because a machine is "
            "not always equally fast. [default: 20% on a virtual machine, else 3%]",
        ),
        click.option(
            "--budget-mb", type=float, help="Size budget: megabytes (10^6 bytes) of the file."
        ),
        click.option(
            "--speedup", type=float, help="How many times faster than the teacher, measured here."
        ),
        click.option("--batch", type=int, help="Images per call."),
        click.option(
            "--percentile",
            type=float,
            help="Percentile of the latency that the budget applies to.",
        ),
        click.option(
            "--threads",
            type=int,
            help="Threads that serve the model. [default: the cores that this process may use]",
        ),
        click.option(
            "--runtime",
            help="Runtime that serves the model: onnxruntime, openvino, onnxruntime-cuda, "
            "onnxruntime-tensorrt, tensorrt or tensorrt-rtx; fastest takes the installed one that "
            "runs a mid-sized candidate fastest.",
        ),
        click.option(
            "--precision",
            help="Precision of the file: fp32, fp16, bf16 or int8; auto chooses it together with "
            "the network. A reduced precision that is not faster here is not used.",
        ),
    )


TRAINING: Mapping[str, str] = {
    "epochs": "Epochs of training.",
    "batch_size": "Images per step.",
    "lr": "Initial learning rate of SGD.",
    "schedule": "Learning rate schedule: steps (the paper's), one-cycle (better for few epochs) or "
    "cosine.",
    "momentum": "Momentum of SGD.",
    "weight_decay": "Weight decay (L2 penalty) of SGD.",
    "dropout": "Dropout rate in the blocks of a WRN.",
    "crop_padding": "Shift training images at random by up to this many pixels.",
    "autocast": "bf16 runs the student in bfloat16, up to twice as fast on processors and GPUs "
    "that support it; off does not; auto does on such GPUs.",
    "label_smoothing": "Spread this share of each label over all classes.",
    "ema": "Decay of an exponential moving average of the weights, such as 0.999; 0 is off.",
    "memory_format": "Memory layout: channels_last, contiguous, measured (time both at the start "
    "and take the faster), or auto (measured on a GPU, channels_last on a CPU).",
    "compile": "Use of torch.compile: off, on, graphs (with CUDA graphs), measured (time all at "
    "the start and take the fastest), or auto (time on and off on a GPU, off on a CPU).",
    "fused": "Run the optimiser as one fused kernel: off, on, or auto (on a GPU).",
    "tf32": "Allow TF32 in matrix products and convolutions on a GPU.",
    "deterministic": "Give bit-identical results on a GPU; the auto options then measure nothing. "
    "A CPU always does, unless an option is measured.",
    "seed": "Seed of the initial weights, the order of the images, the crops and the dropout.",
}
"""The fields of ``TrainingOptions`` that train and distill have options for."""

TEACHING: Mapping[str, str] = {
    "views": "How many views of each image the teacher answers. 1: only the image itself, while "
    "the student sees new crops. N: N crops, which the student sees in turn. 0: every new crop, in "
    "every step.",
    "teacher_dropout": "Dropout rate of the teacher while it gives logits; needs --views 0.",
}
"""Those that distill has besides."""


def field_option(name: str, meaning: str) -> Decorator:
    """The option of a field of ``TrainingOptions``."""
    default, flag = getattr(DEFAULTS, name), f"--{name.replace('_', '-')}"
    if default is False:
        return click.option(flag, is_flag=True, help=meaning)
    both = f"{flag}/--no-{flag[2:]}" if default is True else flag
    return click.option(both, type=type(default), default=default, show_default=True, help=meaning)


def training_options(also: Mapping[str, str] | None = None) -> Decorator:
    """Epochs, optimiser and seed, and the run's folder; ``also``: further fields."""
    fields = {**TRAINING, **(also or {})}
    return section(
        "Training",
        *(field_option(name, meaning) for name, meaning in fields.items()),
        device_option("Where to train"),
        click.option("--out", type=PATH, help="Folder of the run."),
        click.option(
            "--resume",
            is_flag=True,
            help="Resume the run in the folder, with a note if nothing is saved there yet. The "
            "same command resumes without this option, too.",
        ),
    )


def tell(text: str) -> None:
    """Says on stderr what is being done, for commands without a display."""
    click.echo(text, err=True)
