"""compress distill: teacher and budget in, a student that keeps the budget out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from compress.commands.budget import budget_options, read_budget
from compress.commands.inputs import input_file
from compress.commands.options import (
    check_resume,
    data_options,
    ignore_runs_option,
    load_data,
    read_training,
    training_options,
)

if TYPE_CHECKING:
    from rich.console import Console

    from compress.pipelines.distill.result import BudgetResult, DistillResult, FineTuningResult

# ``compress.pipelines.distill.FLOAT_ONNX``, which would import torch.
FLOAT_FILE = "student.fp32.onnx"

# Options of the recipes that are options of this command too, by the name that both have.
RECIPE_OPTIONS = ("temperature", "lr_d")


@click.command("distill")
@click.option(
    "--teacher",
    "teachers",
    **input_file(),
    multiple=True,
    help="A trained checkpoint: .pt, .pth, .th or .safetensors. Repeat it to learn from several; "
    "the student is compared with the first. [default: the embedded one]",
)
@click.option("--teacher-arch", help="Architecture of the teacher, if its weights do not show it.")
@click.option(
    "--normalize",
    help="Normalisation of the teacher's input: a known name, or MEAN,MEAN,MEAN/STD,STD,STD. "
    "[default: the checkpoint's, or found on validation images]",
)
@data_options()
@budget_options()
@click.option(
    "--max-precision-loss",
    type=float,
    default=0.5,
    show_default=True,
    help="Points of validation accuracy that a reduced precision may be shown to cost at most.",
)
@click.option(
    "--qat-epochs",
    type=int,
    help="Epochs of quantisation-aware distillation, if int8 may cost more than that; 0 turns it "
    "off. [default: a tenth of --epochs, at least 2]",
)
@click.option(
    "--qat-lr",
    type=float,
    help="Initial learning rate of quantisation-aware distillation. "
    "[default: a thousandth of --lr]",
)
@click.option(
    "--max-accuracy-drop",
    type=float,
    metavar="POINTS",
    help="Points of test accuracy that the student may lose against the teacher, by the rule of "
    "`compress check`: exit code 1 if it loses more, 3 if that is undecided. [default: no limit]",
)
@click.option("--student", help="Train this student, such as wrn-10-2, instead of choosing one.")
@click.option(
    "--tradeoff",
    **input_file(),
    help="Choose from a table that `compress select --save` measured on the serving machine.",
)
@click.option(
    "--no-cache", is_flag=True, help="Time candidates again even if their latency is cached."
)
@ignore_runs_option()
@click.option(
    "--recipe",
    default=None,
    help="Training method: supervised, kd, dkd, dist, logit-gan, fitnet, at, dln, ktan or ktan+kd; "
    "`compress recipes` describes them. [default: dist]",
)
@click.option("--temperature", type=float, help="Same as --set temperature=VALUE.")
@click.option(
    "--lr-d", type=float, help="Same as --set lr_d=VALUE, the discriminator's learning rate."
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="Set an option of the recipe; `compress recipes` lists them. Can be repeated.",
)
@click.option(
    "--student-init",
    **input_file(),
    help="Start from this checkpoint of the student instead of random weights.",
)
@click.option(
    "--views",
    type=int,
    default=1,
    show_default=True,
    help="How many views of each image the teacher answers. 1: only the image itself, while the "
    "student sees new crops. N: N crops, which the student sees in turn. 0: every new crop, in "
    "every step.",
)
@click.option(
    "--teacher-dropout",
    type=float,
    default=0.0,
    show_default=True,
    help="Dropout rate of the teacher while it gives logits; needs --views 0.",
)
@click.option(
    "--outputs-dir",
    type=click.Path(path_type=Path),
    help="Folder that keeps the teacher's outputs for later runs. "
    "[default: ~/.cache/compress/outputs]",
)
@training_options()
@click.option("--json", "as_json", is_flag=True, help="Print result.json on stdout.")
def command(
    teachers: tuple[Path, ...],
    teacher_arch: str | None,
    normalize: str | None,
    student: str | None,
    tradeoff: Path | None,
    no_cache: bool,
    ignore_runs: bool,
    recipe: str | None,
    settings: tuple[str, ...],
    student_init: Path | None,
    outputs_dir: Path | None,
    max_precision_loss: float,
    max_accuracy_drop: float | None,
    qat_epochs: int | None,
    qat_lr: float | None,
    device: str,
    out: Path | None,
    resume: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Turn a trained network into a small one that keeps a budget, in a file that can ship.

    The command chooses a student by timing candidates on this machine, trains it with the
    teacher's help, exports it to ONNX, verifies the file and times it beside the teacher. Without
    --teacher and --data it runs on the embedded example. Run the same command again to resume
    after an interruption.

    The result improves the next choice on the same data. `compress runs` lists and removes such
    results, and --ignore-runs chooses without them.
    """
    import json

    from compress.commands.display import Display, say_loading

    say_loading()
    from compress.data.normalization import resolve
    from compress.errors import UsageError
    from compress.pipelines.distill import DistillRequest, assist, check_words, distill
    from compress.recipes.registry import DEFAULT_RECIPE, make_recipe, read_options
    from compress.training.engine import choose_device
    from compress.training.quantization_aware import FineTuning
    from compress.training.team import joined

    if not teachers and options["data"] != "default":
        raise UsageError(
            "The embedded teacher fits only the embedded data. Give a teacher for --data "
            f"{options['data']} with --teacher (`compress train` makes one)."
        )
    teacher = teachers[0] if teachers else None
    name = recipe or DEFAULT_RECIPE
    chosen = read_options(name, settings) | {
        option: options[option] for option in RECIPE_OPTIONS if options[option] is not None
    }
    training = read_training(options)
    method = make_recipe(name, **chosen)
    budget = read_budget(options, tradeoff)
    if student is None:
        budget.require_limit()
    stated = resolve(normalize) if normalize else None
    choose_device(device)
    tuning = FineTuning(qat_epochs, qat_lr)
    loss = max_precision_loss / 100
    drop = None if max_accuracy_drop is None else max_accuracy_drop / 100
    check_words(budget, student, tradeoff, loss, drop, tuning)
    out = out or _default_folder(teacher, budget, student, method.name, training.seed)
    with Display() as display, joined(device) as team:
        if resume:
            check_resume(out, display.message)
        display.message(f"Reading the images of --data {options['data']}.")
        request = DistillRequest(
            data=team.rank_zero_first(
                "data",
                lambda: load_data(
                    options,
                    seed=training.seed,
                    models=(*teachers, student_init),
                    say=display.message,
                ),
            ),
            out=out,
            recipe=method,
            options=training,
            budget=budget,
            student=student,
            teacher=teacher,
            more_teachers=teachers[1:],
            student_init=student_init,
            teacher_arch=teacher_arch,
            normalization=stated,
            tradeoff=tradeoff,
            outputs_dir=outputs_dir,
            device=device,
            use_cache=not no_cache,
            ignore_runs=ignore_runs,
            max_precision_loss=loss,
            max_accuracy_drop=drop,
            fine_tuning=tuning,
        )
        if not team.first:
            assist(request, team)
            return
        result = distill(request, display, team)
    if as_json:
        click.echo(json.dumps(result.to_dict(), indent=2))
    else:
        print_result(result, request.out)
    judge(result, request.out)


def judge(result: DistillResult, out: Path) -> None:
    """Ends the command where the student is not one to ship.

    Raises:
        StudentRefused: it is no better than chance, or too far behind the teacher.
        BudgetMissed: it does not keep the budget.
        PrecisionLost: it loses too much in fewer bits.
        Inconclusive: one of these is not decided, and none of them fails.
    """
    from compress.errors import BudgetMissed, Inconclusive, PrecisionLost, StudentRefused
    from compress.gate.verdict import Outcome
    from compress.limits import Judgement
    from compress.tasks.task import Standing

    file, drop = out / result.student.file, result.accuracy_drop
    chance = result.student.chance
    if chance.standing is Standing.NO_BETTER:
        raise StudentRefused(
            f"{file} is {chance.text} Train longer, change --lr or --recipe, or choose a larger "
            "student."
        )
    if drop.outcome is Outcome.FAIL:
        raise StudentRefused(
            f"{file} loses more than --max-accuracy-drop allows: {drop.reason}. Train longer, "
            "choose a larger student, or allow a larger drop."
        )
    budget = result.budget.outcome
    if budget == Judgement.MISSED:
        raise BudgetMissed(
            f"{file} does not keep the budget. Ask for a smaller student or allow more."
        )
    precision = result.target.precision
    narrowed = None if result.shipped is None else result.shipped.outcome
    if narrowed == Judgement.MISSED:
        raise PrecisionLost(
            f"{file} loses more in {precision} than is allowed. Take another precision, or allow "
            "more with --max-precision-loss."
        )
    if budget == Judgement.UNDECIDED:
        raise Inconclusive(
            f"Whether {file} keeps the budget is not decided. Time it again on a quiet machine "
            "(`compress profile`), ask for a smaller student or allow more."
        )
    if narrowed == Judgement.UNDECIDED:
        raise Inconclusive(
            f"Whether {file} loses more in {precision} than is allowed is not decided. Take more "
            "validation images (--validation), another precision, or allow more with "
            "--max-precision-loss."
        )
    if drop.outcome is Outcome.INCONCLUSIVE:
        raise Inconclusive(
            f"Whether {file} loses more than --max-accuracy-drop allows is undecided: "
            f"{drop.reason}."
        )


def _default_folder(
    teacher: Path | None, budget: Any, student: str | None, recipe: str, seed: int
) -> Path:
    """runs/TEACHER-BUDGET-RECIPE-seedN, the same for the same request."""
    parts = [teacher.stem if teacher else "default"]
    if student is not None:
        parts.append(student)
    if budget.latency_s is not None:
        parts.append(f"{budget.latency_s * 1e3:g}ms")
    if budget.size_bytes is not None:
        parts.append(f"{budget.size_bytes / 1e6:g}mb")
    if budget.speedup is not None:
        parts.append(f"{budget.speedup:g}x")
    if budget.target.precision != "fp32":
        parts.append(budget.target.precision)
    return Path("runs") / "-".join([*parts, recipe, f"seed{seed}"])


def print_result(result: DistillResult, out: Path, console: Console | None = None) -> None:
    """Teacher and student side by side, and where the files lie, on stdout."""
    from rich.console import Console
    from rich.table import Table

    from compress.units import format_bytes, format_count, format_percent

    console = console or Console(highlight=False)
    teacher, student, n = result.teacher, result.student, result.data.n
    target, budget, speedup = result.target, result.budget, result.speedup

    def accuracy(of: str) -> tuple[str, str, str]:
        there, here = (getattr(model.accuracy, of) for model in (teacher, student))
        return format_percent(there), format_percent(here), f"{100 * (here - there):+.2f} points"

    def latency(key: str) -> tuple[str, str]:
        slow, fast = (f"{getattr(model.latency_ms, key):.3g}" for model in (teacher, student))
        return slow, fast

    def ratio(of: str, show: Callable[[float], str]) -> tuple[str, str, str]:
        there, here = (getattr(model, of) for model in (teacher, student))
        return show(there), show(here), f"{there / here:.1f} times smaller"

    low, high = latency("low"), latency("high")
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    table.add_column("", no_wrap=True)
    for model, header in ((teacher, "teacher"), (student, "student")):
        table.add_column(f"{header}\n{model.name}", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    drop = result.accuracy_drop
    table.add_row("test accuracy", *accuracy("test"))
    interval = " to ".join(f"{-100 * getattr(drop, end) + 0.0:+.2f}" for end in ("high", "low"))
    table.add_row("  95% interval", "", "", interval)
    table.add_row("validation accuracy", *accuracy("validation"))
    table.add_row("latency, ms", *latency("median"), f"{speedup.value:.2f} times faster")
    table.add_row(
        "  95% interval",
        f"{low[0]} to {high[0]}",
        f"{low[1]} to {high[1]}",
        f"{speedup.low:.2f} to {speedup.high:.2f}",
    )
    table.add_row("file", *ratio("size_bytes", format_bytes))
    table.add_row("parameters", *ratio("params", format_count))
    table.add_row("MACs an image", *ratio("macs", format_count))
    console.print(table)
    console.print()
    parity, precision, floats = student.parity, target.precision, student.file
    if precision != "fp32":
        precision, floats = f"{precision} (the teacher fp32)", FLOAT_FILE
    tuned = [found.fine_tuning for found in result.precisions.values() if found.fine_tuning]
    lines = [
        f"Latency is the median of a call with batch {budget.batch}, {target.runtime}, "
        f"{target.device}, {precision}, {target.threads} "
        f"{'thread' if target.threads == 1 else 'threads'}, timed in turns in a fresh process.",
        f"Accuracy is on {n.test:,} test and {n.validation:,} validation images (taken from the "
        "training data, so the teacher may have seen them). It is of the files, except the "
        f"teacher's on validation images, which is of its checkpoint; {result.recipe}, last of "
        f"{result.epochs} epochs, seed {result.seed}.",
        f"Verified: {floats} and the trained model agree on "
        f"{format_percent(parity.top1_agreement)} of {parity.images:,} images, logits within "
        f"{parity.max_abs_diff:.1e}.",
        *(
            f"In {name}, against float32 on validation images: {found.why}."
            for name, found in result.precisions.items()
        ),
        *map(_about_fine_tuning, tuned),
        *result.warnings,
    ]
    if drop.outcome is not None:
        lines.append(f"Against the teacher: {drop.reason}: {drop.outcome.value.upper()}.")
    if asked := _budget_text(budget):
        lines.append(f"Budget: {asked}: {budget.outcome}.")
    for line in lines:
        console.print(line, markup=False, soft_wrap=not console.is_terminal)
    console.print()
    for name, what in (
        (student.file, _what_student_is(result)),
        (FLOAT_FILE, "the float32 file it was made from"),
        ("student.safetensors", "its weights"),
        (teacher.file, "the teacher, in the same runtime"),
        ("tradeoff.csv", "every candidate and why it was taken or not"),
        ("result.json", "all of this as JSON"),
    ):
        if (out / name).exists():
            console.print(f"{out / name}  {what}", markup=False, soft_wrap=True)


def _what_student_is(result: DistillResult) -> str:
    """What is said beside the student's file."""
    from compress.gate.verdict import Outcome
    from compress.tasks.task import Standing

    standing = result.student.chance.standing
    if standing is Standing.NO_BETTER:
        return "the student, which is no better than chance"
    if result.accuracy_drop.outcome is Outcome.FAIL:
        return "the student, which loses more than is allowed"
    if standing is Standing.UNDECIDED:
        return "the student, perhaps no better than chance"
    return "the student, to ship"


def _about_fine_tuning(found: FineTuningResult) -> str:
    """What quantisation-aware distillation did."""
    about = f"Fine-tuned in int8 for {found.epochs} epochs from a learning rate of {found.lr:g}"
    if found.after is None:
        return f"{about}: it diverged, so the student from before ships."
    taken = "taken" if found.taken else "not used, because it is no better"
    return f"{about}, {taken}: before, {found.before.why}; after, {found.after.why}."


def _budget_text(budget: BudgetResult) -> str:
    """What was asked for and measured; empty where there was no limit."""
    parts = []
    if budget.latency_ms is not None and budget.measured_ms is not None:
        which = "median" if budget.percentile == 50 else f"p{budget.percentile:g}"
        measured = budget.measured_ms
        found = f"it is {measured.value:.3g}, up to {measured.high:.3g}"
        parts.append(f"{which} at most {budget.latency_ms:g} ms ({found})")
    if budget.size_mb is not None:
        parts.append(f"at most {budget.size_mb:g} MB")
    if budget.speedup is not None:
        parts.append(f"{budget.speedup:g} times faster than the teacher")
    return ", ".join(parts)
