r"""How many times faster and smaller than its teacher a student is, and at what accuracy.

    compress export resnet56.th --data cifar10.npz --output runs/headline/resnet-56.onnx
    python -m benchmarks.headline runs/headline/resnet-56.onnx=runs/headline/resnet-56.onnx \
        wrn-40-10=wrn-34-4 --data cifar10.npz --trials runs/headline --threads 1 \
        --output benchmarks/results/headline.md

A pair is TEACHER=STUDENT: float32 ONNX files that this package made, scored on the test images of
``--data``; or names of networks, which are exported untrained and only timed. The student is
converted to every precision as `compress export` does; a student may be its teacher in reduced
precision. The teacher stays in float32.

Teacher and student, in every precision and every runtime that takes it, run in the same rounds, in
which the fastest form of each is found. The ratios are of other rounds, of what they need alone, so
that what was lucky in the choice is not lucky in the figure. What ships is the student in its
fastest form. Its accuracy is compared with the teacher's by the paired rule of `compress check`.

Every pair is a line of a file in the folder of trials, so the program can be stopped and started.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.agreement import heading, model_file
from benchmarks.precision import converted, images_of, interval
from benchmarks.trials import append, read
from compress.data.dataset import Dataset, load_dataset
from compress.errors import ModelFileError
from compress.exporting import read_artifact
from compress.exporting.fidelity import answers_to
from compress.exporting.half import predictor_of_any
from compress.files import sha256_of, write_text
from compress.gate.accuracy import AccuracyRule, compare_accuracy
from compress.onnx_file import size_of
from compress.profiling import protocol
from compress.profiling.inputs import make_input
from compress.profiling.machine import fingerprint
from compress.profiling.protocol import Timing
from compress.profiling.registry import RUNTIMES, runtime_named, why_not
from compress.profiling.runtime import Session, Subject
from compress.profiling.timing import is_clear
from compress.results import Estimate
from compress.spec import PRECISIONS
from compress.tasks.classification import LOGITS, Paired
from compress.tradeoff.measure import untrained
from compress.units import format_bytes

TRIALS = "headline.jsonl"
TEACHER, STUDENT = "teacher", "student"
# The same ratio in one runtime and one precision is told of this one.
ONE_RUNTIME, ONE_PRECISION = "onnxruntime", "fp32"
MAX_S = 180.0


class Form(NamedTuple):
    """The teacher or the student as it could be served."""

    role: str
    precision: str
    runtime: str

    def told(self) -> str:
        """In a table."""
        return f"{self.precision} in {self.runtime}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("pairs", nargs="+", help="TEACHER=STUDENT")
    parser.add_argument("--trials", type=Path, required=True, help="a folder")
    parser.add_argument("--output", type=Path, required=True, help="a Markdown file")
    parser.add_argument("--data", help="that files are calibrated and scored on")
    parser.add_argument("--runtimes", default="onnxruntime,openvino,torch-compile")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    options = parser.parse_args()
    options.trials.mkdir(parents=True, exist_ok=True)
    runtimes = options.runtimes.split(",")
    if missing := [why_not(name) for name in runtimes if why_not(name)]:
        sys.exit(" ".join(missing))
    file, machine = options.trials / TRIALS, fingerprint().digest
    if any(each["machine"] != machine for each in read(file)):
        sys.exit(f"{file} is of another machine; name another folder.")
    data = None if options.data is None else load_dataset(options.data)
    for pair in options.pairs:
        teacher, student = (model_file(model, options.trials) for model in pair.split("="))
        about = {
            "machine": machine,
            "pair": [teacher.stem, student.stem],
            "sha256": [sha256_of(teacher), sha256_of(student)],
            "runtimes": runtimes,
            "threads": options.threads,
            "batch": options.batch,
        }
        if any(about.items() <= each.items() for each in read(file)):
            continue
        print(pair, flush=True)
        scored = data if pair.endswith(".onnx") else None
        append(file, about | compared(teacher, student, scored, options, runtimes))
    text = "\n".join(markdown(read(file)))
    write_text(options.output, text)
    print(text)


def compared(
    teacher: Path,
    student: Path,
    data: Dataset | None,
    options: argparse.Namespace,
    runtimes: Sequence[str],
) -> dict[str, Any]:
    """All that is measured of a pair."""
    files = {(TEACHER, "fp32"): teacher}
    for precision in PRECISIONS:
        path = converted(student, precision, data, options.trials)
        if path is not None:
            files[STUDENT, precision] = path
    forms, refused = able(files, runtimes, options)
    choosing = timed(files, forms, options, seed=0)
    fastest = {
        role: min((each for each in forms if each.role == role), key=partial(median_of, choosing))
        for role in (TEACHER, STUDENT)
    }
    ship = fastest[STUDENT]
    one = Form(TEACHER, ONE_PRECISION, ONE_RUNTIME), Form(STUDENT, ONE_PRECISION, ONE_RUNTIME)
    pairs = {"fastest": (fastest[TEACHER], ship), "one": one}
    pairs["runtime"] = (Form(TEACHER, ONE_PRECISION, ship.runtime), ship)
    needed = list(dict.fromkeys(form for pair in pairs.values() for form in pair if form in forms))
    timing = timed(files, needed, options, seed=1)
    ratios = {
        name: timing.ratio(*map(key, pair))
        for name, pair in pairs.items()
        if all(form in needed for form in pair)
    }
    return {
        "fastest": {role: list(form) for role, form in fastest.items()},
        "ratios": {name: ratio.to_dict() for name, ratio in ratios.items()},
        "latency_ms": [[*form, latency(choosing, form).to_dict(1e3)] for form in forms],
        "refused": refused,
        "size_bytes": {
            "teacher": size_of(teacher),
            "student": size_of(files[STUDENT, ship.precision]),
            "student in fp32": size_of(student),
        },
        "accuracy": None if data is None else judged(teacher, files[STUDENT, ship.precision], data),
        "rounds": [len(choosing.rounds), len(timing.rounds)],
    }


def key(form: Form) -> str:
    """What a form is called in a timing."""
    return " ".join(form)


def median_of(timing: Timing, form: Form) -> float:
    """Seconds."""
    return timing.median(key(form))


def latency(timing: Timing, form: Form) -> Estimate:
    """Seconds, with the interval."""
    found = timing.latency(key(form))
    if found is None:
        sys.exit(f"{key(form)}: too few rounds for an interval.")
    return found


def subject_of(form: Form, path: Path) -> Subject:
    """A file, or for torch the network that it says it is of, with other weights."""
    if RUNTIMES[form.runtime].takes == "onnx":
        return Subject(key(form), path=path)
    spec = read_artifact(path).spec
    if spec is None:
        sys.exit(f"{path} does not say which network it is of; leave {form.runtime} out.")
    return Subject(key(form), module=partial(untrained, spec), input_shape=spec.input_shape)


def able(
    files: Mapping[tuple[str, str], Path], runtimes: Sequence[str], options: argparse.Namespace
) -> tuple[list[Form], dict[str, str]]:
    """The forms that can run, and why others cannot. torch is only asked for float32."""
    forms, refused = [], {}
    for (role, precision), path in files.items():
        for runtime in runtimes:
            if RUNTIMES[runtime].takes == "torch" and precision != "fp32":
                continue
            form = Form(role, precision, runtime)
            try:
                loaded(form, path, options).close()
            except ModelFileError as error:
                refused[key(form)] = str(error)
                continue
            forms.append(form)
    return forms, refused


def loaded(form: Form, path: Path, options: argparse.Namespace) -> Session:
    """A session."""
    runtime, subject = runtime_named(form.runtime), subject_of(form, path)
    images = make_input(runtime, subject, batch=options.batch)
    return runtime.load(subject, threads=options.threads, images=images)


def timed(
    files: Mapping[tuple[str, str], Path],
    forms: Sequence[Form],
    options: argparse.Namespace,
    *,
    seed: int,
) -> Timing:
    """All forms in the same rounds, until the ratio of any two that matter is known within 2%."""
    inputs = {
        key(form): make_input(
            runtime_named(form.runtime),
            subject_of(form, files[form.role, form.precision]),
            batch=options.batch,
        )
        for form in forms
    }
    first = key(forms[0])

    def narrow(timing: Timing) -> bool:
        return all(is_clear(timing.ratio(first, key(form)), None) for form in forms[1:])

    return protocol.measure(
        {
            key(form): partial(loaded, form, files[form.role, form.precision], options)
            for form in forms
        },
        inputs,
        stop=narrow,
        max_s=MAX_S,
        threads=options.threads,
        seed=seed,
    )


def judged(teacher: Path, student: Path, data: Dataset) -> dict[str, Any]:
    """The student's file against the teacher's, on the same test images."""
    labels = data.test.targets.numpy()
    right = [
        (
            answers_to(predictor_of_any(path), images_of(path, data, data.test.images))[
                LOGITS
            ].argmax(1)
            == labels
        )
        for path in (student, teacher)
    ]
    found = compare_accuracy(
        Paired.of(*(each.tolist() for each in right)), AccuracyRule(), "the teacher"
    )
    return {"data": data.name, "images": len(labels), **found.to_dict()}


def markdown(lines: list[dict[str, Any]]) -> list[str]:
    """The page, of whatever there is."""
    page = [
        "# Times faster and smaller than the teacher",
        "",
        heading(),
        "",
        "Times faster: the teacher's median call by the student's, with its 95% interval, all in",
        "the same rounds. First each in its fastest form, the teacher in float32 and the student",
        "in the precision and runtime that are fastest for it; then both in the student's runtime;",
        f"then both in {ONE_PRECISION} in {ONE_RUNTIME}. Times smaller likewise, of the files.",
        "",
        "| teacher, fastest | student, fastest | faster | in the student's runtime | "
        f"both {ONE_PRECISION} in {ONE_RUNTIME} | smaller | both fp32 | accuracy |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in lines:
        (teacher, student), ratios, size = each["pair"], each["ratios"], each["size_bytes"]
        best = {role: Form(*form) for role, form in each["fastest"].items()}
        smaller, narrow = size["teacher"] / size["student"], size["student in fp32"]
        page.append(
            f"| {teacher}, {best[TEACHER].told()} | {student}, {best[STUDENT].told()} | "
            f"{interval(ratios['fastest'], '.2f')} | {interval(ratios.get('runtime'), '.2f')} | "
            f"{interval(ratios['one'], '.2f')} | {smaller:.1f} | {size['teacher'] / narrow:.1f} | "
            f"{about_accuracy(each['accuracy'])} |"
        )
    page.append("")
    for each in lines:
        page += detail(each)
    return page


def about_accuracy(found: dict[str, Any] | None) -> str:
    """A cell."""
    if found is None:
        return "untrained"
    return f"{found['outcome']}: {found['reason']} ({found['data']}, test)"


def detail(each: dict[str, Any]) -> list[str]:
    """Every form of a pair."""
    teacher, student = each["pair"]
    size = each["size_bytes"]
    rows = [
        f"## {teacher} and {student}",
        "",
        f"{each['threads']} threads, batch {each['batch']}; {each['rounds'][0]} rounds to find the "
        f"fastest (below), {each['rounds'][1]} for the ratios. "
        f"{format_bytes(size['teacher'])} and {format_bytes(size['student'])}.",
        "",
        "| of | precision | runtime | ms |",
        "|---|---|---|---|",
    ]
    for role, precision, runtime, found in each["latency_ms"]:
        rows.append(f"| {role} | {precision} | {runtime} | {interval(found, '.3f')} |")
    for name, why in each["refused"].items():
        rows.append(f"| {name.replace(' ', ' | ')} | not run: {why} |")
    return [*rows, ""]


if __name__ == "__main__":
    main()
