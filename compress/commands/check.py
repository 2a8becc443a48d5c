"""compress check: a candidate beside a baseline, for continuous integration."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from compress.api.check import check, self_test
from compress.commands.options import (
    DATA_HELP,
    PATH,
    PERCENT,
    data_options,
    json_option,
    normalize_option,
    output_option,
    parse_percent,
    seed_option,
    shape_option,
    tell,
    text_option,
    threads_option,
    twin,
)
from compress.streams import write_commands

if TYPE_CHECKING:
    from compress.gate.verdict import Verdict

# Options that --self-test goes with.
OF_SELF_TEST = ("max_slowdown", "shape", "threads", "max_seconds", "seed")


@twin(
    "check", check, first=("baseline", "max_slowdown", "max_accuracy_drop", "max_size", "budget_ms")
)
@click.argument("model", type=PATH, required=False)
@click.option("--baseline", type=PATH, help="The file that `compress baseline update` wrote.")
@text_option(
    "--max-slowdown",
    read=parse_percent,
    metavar=PERCENT,
    help="How much slower than the baseline's model MODEL may be.",
)
@click.option(
    "--max-accuracy-drop",
    type=float,
    metavar="POINTS",
    help="Points of test accuracy that MODEL may lose.",
)
@click.option(
    "--max-size",
    metavar="SIZE",
    help="Largest file: 5MB, 800kB, or 10% more than the baseline's model.",
)
@click.option(
    "--max-calibration-drop",
    type=float,
    metavar="POINTS",
    help="Points by which the expected calibration error may grow. [default: no limit]",
)
@click.option("--budget-ms", type=float, help="Latency budget: milliseconds per call.")
@click.option(
    "--percentile",
    type=click.FloatRange(50, 99.9),
    help="Percentile of the latency that --budget-ms applies to. [default: the baseline's]",
)
@shape_option("Shape of an image, if MODEL does not fix it. [default: the baseline's]")
@click.option(
    "--checkpoint",
    type=PATH,
    help="The checkpoint that MODEL must equal. [default: the one of its run folder, if any]",
)
@click.option(
    "--teacher",
    type=PATH,
    help="The baseline's teacher, to compare with if the baseline's model is missing.",
)
@data_options(
    f"{DATA_HELP} [default: the baseline's]",
    size="Resize the images of a folder to this height and width. [default: the baseline's]",
    validation=False,
    training=False,
)
@normalize_option()
@output_option()
@click.option(
    "--inconclusive",
    type=click.Choice(["fail", "warn"]),
    default="fail",
    show_default=True,
    help="Exit code of an undecided check: 3 (fail), or 0 with a warning (warn).",
)
@click.option(
    "--max-seconds",
    type=click.FloatRange(min=0, min_open=True),
    help="Start no further round of timing after this many seconds.",
)
@seed_option("Seed of the inputs and of the order of calls.")
@json_option()
@click.option(
    "--junit", type=click.Path(path_type=Path, dir_okay=False), help="Write a JUnit XML report."
)
@click.option(
    "--markdown", type=click.Path(path_type=Path, dir_okay=False), help="Write a Markdown report."
)
@click.option(
    "--self-test",
    "tests_itself",
    is_flag=True,
    help="Measure which slowdown can be detected here, with MODEL or the embedded teacher.",
)
@threads_option(
    "Threads of each session of --self-test. [default: the cores that this process may use]"
)
def command(
    model: Path | None,
    baseline: Path,
    threads: int | None,
    inconclusive: str,
    as_json: bool,
    junit: Path | None,
    markdown: Path | None,
    tests_itself: bool,
    **options: Any,
) -> None:
    """Compare MODEL, an ONNX file, with a baseline.

    Latency, size, accuracy and consistency are judged always, parity, calibration and budget on
    request. Each is PASS, FAIL or INCONCLUSIVE. Both models are timed here, in turns. Exit codes:
    0 all pass, 1 one fails, 3 one is inconclusive, 4 one could not be measured, 2 usage.
    """
    from compress.errors import CompressError, UsageError
    from compress.files import check_writable
    from compress.gate.report import document_of, unusable
    from compress.report import terminal

    passes = inconclusive == "warn"
    if tests_itself:
        _refuse_what_judges()
        given = {name: options[name] for name in OF_SELF_TEST if name in options}
        _self_test(model, given | {"threads": threads}, as_json, inconclusive_passes=passes)
        return
    for report in (junit, markdown):
        if report is not None:
            check_writable(report)
    try:
        if model is None:
            raise UsageError("Name the ONNX file to check: compress check student.onnx.")
        if threads is not None:
            raise UsageError(
                "--threads needs --self-test. A candidate uses the threads of its baseline, "
                "which `compress baseline update --threads` sets."
            )
        verdict = check(model, baseline=baseline, **options, say=tell)
    except CompressError as error:
        # Whoever reads the reports is to learn of it too.
        _report(unusable(error, model, baseline), junit, markdown, passes)
        raise
    if as_json:
        _print_json(
            verdict.to_dict() | {"exit_code": verdict.exit_code(inconclusive_passes=passes)}
        )
    else:
        terminal.show(document_of(verdict))
    _report(verdict, junit, markdown, passes)
    click.get_current_context().exit(verdict.exit_code(inconclusive_passes=passes))


def _report(verdict: Verdict, junit: Path | None, markdown: Path | None, passes: bool) -> None:
    """Writes the files, and tells GitHub where it is there."""
    from compress.files import write_text
    from compress.gate import reports
    from compress.gate.report import LEVEL, document_of
    from compress.report import markdown as in_markdown

    if junit is not None:
        reports.write_junit(junit, verdict)
    if markdown is not None:
        write_text(markdown, in_markdown.render(document_of(verdict), LEVEL))
    # On stderr, which GitHub reads too: stdout may be JSON for somebody else.
    write_commands(reports.workflow_commands_of(verdict, os.environ, inconclusive_passes=passes))
    try:
        reports.add_to_summary(verdict, os.environ)
    except OSError as error:
        # The verdict has been told; that it could not be shown once more changes nothing of it.
        tell(f"warning: cannot write the summary to $GITHUB_STEP_SUMMARY: {error}.")


def _refuse_what_judges() -> None:
    """Refuses options that a self-test has no use for.

    Raises:
        UsageError: there are some.
    """
    from click.core import ParameterSource

    from compress.errors import UsageError

    context = click.get_current_context()
    given = [
        each.opts[-1]
        for each in context.command.params
        if isinstance(each, click.Option)
        and each.name not in (*OF_SELF_TEST, "tests_itself", "as_json", "inconclusive")
        and context.get_parameter_source(each.name or "") is ParameterSource.COMMANDLINE
    ]
    if given:
        raise UsageError(f"--self-test judges no candidate. Leave out {' and '.join(given)}.")


def _self_test(
    model: Path | None, options: dict[str, Any], as_json: bool, *, inconclusive_passes: bool
) -> None:
    """Prints what the latency rule can tell here; ends with its exit code."""
    from compress.gate.verdict import Outcome
    from compress.report import terminal
    from compress.report.document import Document, Text

    found = self_test(model, **options, say=tell)
    undecided = found.outcome is Outcome.INCONCLUSIVE
    exit_code = 0 if undecided and inconclusive_passes else found.outcome.exit_code
    if as_json:
        _print_json(found.to_dict() | {"exit_code": exit_code})
    else:
        terminal.show(Document(tuple(map(Text, found.lines()))))
    click.get_current_context().exit(exit_code)


def _print_json(values: dict[str, Any]) -> None:
    import json

    click.echo(json.dumps(values, indent=2, allow_nan=False))
