"""compress check: a candidate beside a baseline, for continuous integration."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from compress.commands.inputs import check_data, check_files
from compress.commands.options import (
    DATA_HELP,
    output_option,
    parse_percent,
    parse_shape,
    seed_option,
    threads_option,
)
from compress.streams import write_commands

if TYPE_CHECKING:
    from compress.gate.check import CheckRequest
    from compress.gate.limits import SizeRule
    from compress.gate.verdict import Verdict

# Options that --self-test goes with.
OF_SELF_TEST = (
    "self_test",
    "max_slowdown",
    "shape",
    "threads",
    "seed",
    "as_json",
    "inconclusive",
    "max_seconds",
)

BYTES = {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9}


@click.command("check")
@click.argument("model", type=click.Path(path_type=Path), required=False)
@click.option(
    "--baseline",
    type=click.Path(path_type=Path),
    default="compress-baseline.json",
    show_default=True,
    help="The file that `compress baseline update` wrote.",
)
@click.option(
    "--max-slowdown",
    default="3%",
    show_default=True,
    metavar="PERCENT",
    help="How much slower than the baseline's model MODEL may be.",
)
@click.option(
    "--max-accuracy-drop",
    type=float,
    default=0.5,
    show_default=True,
    metavar="POINTS",
    help="Points of test accuracy that MODEL may lose.",
)
@click.option(
    "--max-size",
    default="1%",
    show_default=True,
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
@click.option(
    "--shape",
    metavar="C,H,W",
    help="Shape of an image, if MODEL does not fix it. [default: the baseline's]",
)
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    help="The checkpoint that MODEL must equal. [default: the one of its run folder, if any]",
)
@click.option(
    "--teacher",
    type=click.Path(path_type=Path),
    help="The baseline's teacher, to compare with if the baseline's model is missing.",
)
@click.option("--data", help=f"{DATA_HELP} [default: the baseline's]")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Folder of cifar10, cifar100 and fashion-mnist; they are downloaded to it.",
)
@click.option(
    "--image-size",
    type=click.IntRange(min=8),
    help="Resize the images of a folder to this height and width. [default: the baseline's]",
)
@click.option(
    "--normalize", help="Normalisation of the input: a known name, or MEAN,MEAN,MEAN/STD,STD,STD."
)
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
    default=120.0,
    show_default=True,
    help="Start no further round of timing after this many seconds.",
)
@seed_option("Seed of the inputs and of the order of calls.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
@click.option(
    "--junit", type=click.Path(path_type=Path, dir_okay=False), help="Write a JUnit XML report."
)
@click.option(
    "--markdown", type=click.Path(path_type=Path, dir_okay=False), help="Write a Markdown report."
)
@click.option(
    "--self-test",
    is_flag=True,
    help="Measure which slowdown can be detected here, with MODEL or the embedded teacher.",
)
@threads_option(
    "Threads of each session of --self-test. [default: the cores that this process may use]"
)
def command(
    model: Path | None,
    inconclusive: str,
    as_json: bool,
    junit: Path | None,
    markdown: Path | None,
    self_test: bool,
    **options: Any,
) -> None:
    """Compare MODEL, an ONNX file, with a baseline.

    Latency, size, accuracy and consistency are judged always, parity, calibration and budget on
    request. Each is PASS, FAIL or INCONCLUSIVE. Both models are timed here, in turns. Exit codes:
    0 all pass, 1 one fails, 3 one is inconclusive, 4 one could not be measured, 2 usage.
    """
    from compress.errors import CompressError
    from compress.files import check_writable
    from compress.gate.check import check
    from compress.gate.report import document_of, unusable
    from compress.report import terminal

    if self_test:
        _refuse_what_judges()
        check_files(model)
        _self_test(model, options, as_json, inconclusive_passes=inconclusive == "warn")
        return
    passes = inconclusive == "warn"
    for report in (junit, markdown):
        if report is not None:
            check_writable(report)
    try:
        request = read_request(model, options)
        check_files(model, options["checkpoint"], options["teacher"])
        check_data(options["data"])
        verdict = check(request, _say)
    except CompressError as error:
        # Whoever reads the reports is to learn of it too.
        _report(unusable(error, model, options["baseline"]), junit, markdown, passes)
        raise
    if as_json:
        _print_json(
            verdict.to_dict() | {"exit_code": verdict.exit_code(inconclusive_passes=passes)}
        )
    else:
        terminal.show(document_of(verdict))
    _report(verdict, junit, markdown, passes)
    click.get_current_context().exit(verdict.exit_code(inconclusive_passes=passes))


def read_request(model: Path | None, options: dict[str, Any]) -> CheckRequest:
    """What the command line asks for.

    Raises:
        UsageError: there is no model, or an option cannot be.
    """
    from compress.data.normalization import resolve
    from compress.errors import UsageError
    from compress.gate.accuracy import AccuracyRule
    from compress.gate.calibration import CalibrationRule
    from compress.gate.check import CheckRequest
    from compress.gate.latency import LatencyRule

    if model is None:
        raise UsageError("Name the ONNX file to check: compress check student.onnx.")
    if options["threads"] is not None:
        raise UsageError(
            "--threads needs --self-test. A candidate uses the threads of its baseline, which "
            "`compress baseline update --threads` sets."
        )
    budget_ms, worse = options["budget_ms"], options["max_calibration_drop"]
    return CheckRequest(
        candidate=model,
        baseline=options["baseline"],
        latency=LatencyRule(parse_percent(options["max_slowdown"], "--max-slowdown")),
        size=parse_size(options["max_size"]),
        accuracy=AccuracyRule(options["max_accuracy_drop"] / 100),
        calibration=None if worse is None else CalibrationRule(worse / 100),
        budget_s=None if budget_ms is None else budget_ms / 1e3,
        percentile=options["percentile"],
        shape=parse_shape(options["shape"], "--shape") if options["shape"] else None,
        checkpoint=options["checkpoint"],
        teacher=options["teacher"],
        data=options["data"],
        data_dir=options["data_dir"],
        image_size=options["image_size"],
        normalization=resolve(options["normalize"]) if options["normalize"] else None,
        output_name=options["output_name"],
        max_s=options["max_seconds"],
        seed=options["seed"],
    )


def parse_size(text: str) -> SizeRule:
    """'5MB' -> at most so many bytes; '10%' -> at most so much more than the baseline.

    Raises:
        UsageError: neither.
    """
    import re

    from compress.errors import UsageError
    from compress.gate.limits import SizeRule

    found = re.fullmatch(r"\+?(\d+(?:\.\d+)?)\s*(%|[kmg]?b)", text.strip().lower())
    if found is None:
        raise UsageError(
            f"--max-size is '{text}'; it takes a size with its unit, such as 5MB or 800kB, or a "
            "growth, such as 10%."
        )
    number, unit = float(found[1]), found[2]
    return SizeRule(growth=number / 100) if unit == "%" else SizeRule(number * BYTES[unit])


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
        _say(f"warning: cannot write the summary to $GITHUB_STEP_SUMMARY: {error}.")


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
        and each.name not in OF_SELF_TEST
        and context.get_parameter_source(each.name or "") is ParameterSource.COMMANDLINE
    ]
    if given:
        raise UsageError(f"--self-test judges no candidate. Leave out {' and '.join(given)}.")


def _self_test(
    model: Path | None, options: dict[str, Any], as_json: bool, *, inconclusive_passes: bool
) -> None:
    """Prints what the latency rule can tell here; ends with its exit code."""
    from compress.gate.latency import LatencyRule
    from compress.gate.measuring import Settings
    from compress.gate.self_test import self_test
    from compress.gate.verdict import Outcome
    from compress.profiling import default_threads
    from compress.scratch import scratch_folder

    rule = LatencyRule(parse_percent(options["max_slowdown"], "--max-slowdown"))
    with scratch_folder("self-test") as folder:
        found = self_test(
            model or _embedded(folder),
            rule=rule,
            settings=Settings(
                threads=options["threads"] or default_threads(),
                shape=parse_shape(options["shape"], "--shape") if options["shape"] else None,
            ),
            max_s=options["max_seconds"],
            seed=options["seed"],
            say=_say,
        )
    undecided = found.outcome is Outcome.INCONCLUSIVE
    exit_code = 0 if undecided and inconclusive_passes else found.outcome.exit_code
    if as_json:
        _print_json(found.to_dict() | {"exit_code": exit_code})
    else:
        for line in found.lines():
            click.echo(line)
    click.get_current_context().exit(exit_code)


def _embedded(folder: Path) -> Path:
    """The embedded teacher as an ONNX file."""
    from compress.data.sources import embedded_teacher_path
    from compress.exporting import onnx_from_torch
    from compress.models.checkpoint import read_tensors
    from compress.models.hypothesis import instantiate

    _say("Exporting the embedded teacher.")
    network = instantiate(read_tensors(embedded_teacher_path()).hypotheses()[0])
    path = folder / "embedded-teacher.onnx"
    onnx_from_torch(network, path, spec=network.spec, normalization=None, classes=(), source={})
    return path


def _print_json(values: dict[str, Any]) -> None:
    import json

    click.echo(json.dumps(values, indent=2, allow_nan=False))


def _say(text: str) -> None:
    click.echo(text, err=True)
