"""compress distill: teacher and budget in, a student that keeps the budget out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from compress.api.distill import distill
from compress.commands.options import (
    NORMALIZATION,
    PATH,
    TEACHING,
    budget_options,
    choice_options,
    data_options,
    json_option,
    normalize_option,
    parse_settings,
    precision_loss_option,
    section,
    text_option,
    training_options,
    twin,
)

if TYPE_CHECKING:
    from compress.pipelines.distill.result import DistillResult


# Options of the recipes that are options of this command too, by the name that both have.
RECIPE_OPTIONS = ("temperature", "lr_d")


@twin("distill", distill, first=("teacher", "data", "budget_ms", "speedup", "out"))
@section(
    "Teacher",
    click.option(
        "--teacher",
        type=PATH,
        multiple=True,
        help="A trained checkpoint: .pt, .pth, .th or .safetensors. Repeat it to learn from "
        "several; the student is compared with the first. [default: the embedded one]",
    ),
    click.option(
        "--teacher-arch", help="Architecture of the teacher, if its weights do not show it."
    ),
    normalize_option(
        f"Normalisation of the teacher's input: {NORMALIZATION} "
        "[default: the checkpoint's, or found on validation images]"
    ),
    click.option(
        "--outputs-dir",
        type=PATH,
        help="Folder that keeps the teacher's outputs for later runs. "
        "[default: ~/.cache/compress/outputs]",
    ),
)
@data_options()
@budget_options()
@section(
    "Accuracy",
    precision_loss_option(),
    click.option(
        "--qat-epochs",
        type=int,
        help="Epochs of quantisation-aware distillation, if int8 may cost more than that; 0 turns "
        "it off. [default: a tenth of --epochs, at least 2]",
    ),
    click.option(
        "--qat-lr",
        type=float,
        help="Initial learning rate of quantisation-aware distillation. "
        "[default: a thousandth of --lr]",
    ),
    click.option(
        "--max-accuracy-drop",
        type=float,
        metavar="POINTS",
        help="Points of test accuracy that the student may lose against the teacher, by the rule "
        "of `compress check`: exit code 1 if it loses more, 3 if that is undecided. "
        "[default: no limit]",
    ),
)
@choice_options()
@section(
    "Choice of the student",
    click.option(
        "--student", help="Train this student, such as wrn-10-2, instead of choosing one."
    ),
    click.option(
        "--tradeoff",
        type=PATH,
        help="Choose from a table that `compress select --save` measured on the serving machine.",
    ),
)
@section(
    "Training",
    click.option(
        "--recipe",
        help="Training method: supervised, kd, dkd, dist, logit-gan, fitnet, at, dln, ktan or "
        "ktan+kd; `compress recipes` describes them.",
    ),
    click.option("--temperature", type=float, help="Same as --set temperature=VALUE."),
    click.option(
        "--lr-d", type=float, help="Same as --set lr_d=VALUE, the discriminator's learning rate."
    ),
    text_option(
        "--set",
        "settings",
        read=parse_settings,
        multiple=True,
        metavar="NAME=VALUE",
        help="Set an option of the recipe; `compress recipes` lists them. Can be repeated.",
    ),
    click.option(
        "--student-init",
        type=PATH,
        help="Start from this checkpoint of the student instead of random weights.",
    ),
)
@training_options(TEACHING)
@json_option("result.json")
def command(settings: dict[str, Any], as_json: bool, **options: Any) -> None:
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
    from compress.pipelines.distill.report import document_of
    from compress.report import terminal

    short = {name: options.pop(name) for name in RECIPE_OPTIONS}
    settings |= {name: value for name, value in short.items() if value is not None}
    with Display() as display:
        result = distill(**options, settings=settings, listener=display)
    if as_json:
        click.echo(json.dumps(result.to_dict(), indent=2))
    else:
        terminal.show(document_of(result, Path(result.folder).iterdir()))
    judge(result)


def judge(result: DistillResult) -> None:
    """Ends the command where the student is not one to ship.

    Raises:
        StudentRefused: it is no better than chance, or too far behind the teacher.
        BudgetMissed: it does not keep the budget.
        PrecisionLost: it loses too much in reduced precision.
        Inconclusive: one of these is not decided, and none of them fails.
    """
    from compress.errors import BudgetMissed, Inconclusive, PrecisionLost, StudentRefused
    from compress.gate.verdict import Outcome
    from compress.limits import Judgement
    from compress.tasks.task import Standing

    file, drop = result.file, result.accuracy_drop
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
    reduced = None if result.shipped is None else result.shipped.outcome
    if reduced == Judgement.MISSED:
        raise PrecisionLost(
            f"{file} loses more in {precision} than is allowed. Take another precision, or allow "
            "more with --max-precision-loss."
        )
    if budget == Judgement.UNDECIDED:
        raise Inconclusive(
            f"Whether {file} keeps the budget is not decided. Time it again on a quiet machine "
            "(`compress profile`), ask for a smaller student or allow more."
        )
    if reduced == Judgement.UNDECIDED:
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
