r"""What each precision costs and saves: latency, size, accuracy, kernels, share of the peak.

    compress export resnet56.th --data cifar10.npz --output runs/precision/resnet-56.onnx
    python -m benchmarks.precision runs/precision/resnet-56.onnx wrn-40-10 --data cifar10.npz \
        --trials runs/precision --threads 2 --output benchmarks/results/precision.md

Models are float32 ONNX files, which are converted as `compress export` does, calibrated on training
images and scored on the test images; or names of networks, which are exported untrained and only
timed. Each file runs in the same rounds as the float32 one, in every runtime that takes it. The
kernels are those that the runtime itself tells of (``compress.profiling.kernels``).

Every figure is a line of a file in the folder of trials, so the program can be stopped and started.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.agreement import heading, model_file
from benchmarks.trials import append, read
from compress.data.dataset import Dataset, load_dataset
from compress.data.normalization import normalize
from compress.errors import ModelFileError, PrecisionLost
from compress.exporting import read_artifact
from compress.exporting.fidelity import Proof, answers_to, compare
from compress.exporting.half import predictor_of_any
from compress.exporting.parity import Array
from compress.exporting.precision import reduced_for_timing, reduced_from_onnx
from compress.exporting.quantize import CALIBRATION_IMAGES, Quantization
from compress.files import sha256_of, write_text
from compress.gate.precision import PrecisionRule
from compress.profiling import Settings, Subject, profile
from compress.profiling.kernels import kernels_of, share
from compress.profiling.layers import PROFILERS
from compress.profiling.machine import fingerprint
from compress.profiling.timing import time_models
from compress.spec import PRECISIONS
from compress.training.evaluation import stratified_sample
from compress.units import format_bytes, format_percent

TRIALS = "precision.jsonl"
MAX_S = 60.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("models", nargs="+", help="float32 ONNX files or names of networks")
    parser.add_argument("--trials", type=Path, required=True, help="a folder")
    parser.add_argument("--output", type=Path, required=True, help="a Markdown file")
    parser.add_argument("--data", help="that ONNX files are calibrated and scored on")
    parser.add_argument("--images", type=int, help="of the test images, at most")
    parser.add_argument("--runtimes", default="onnxruntime,openvino")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    options = parser.parse_args()
    options.trials.mkdir(parents=True, exist_ok=True)
    file, machine = options.trials / TRIALS, fingerprint().digest
    if any(each["machine"] != machine for each in read(file)):
        sys.exit(f"{file} is of another machine; name another folder.")
    data = None if options.data is None else load_dataset(options.data)
    for model in options.models:
        source = model_file(model, options.trials)
        scored = data if model.endswith(".onnx") else None
        about = {"machine": machine, "model": source.stem, "sha256": sha256_of(source)}
        for precision in PRECISIONS:
            path = converted(source, precision, scored, options.trials)
            if path is None:
                continue
            scoring = {"kind": "accuracy", "precision": precision, "images": options.images}
            if scored is not None:
                once(file, about | scoring, partial(score, source, path, scored, options.images))
            for runtime in options.runtimes.split(","):
                timing = {"kind": "latency", "precision": precision, "runtime": runtime}
                how = {"threads": options.threads, "batch": options.batch}
                once(
                    file,
                    about | timing | how,
                    partial(time_file, source, path, runtime, options.threads, options.batch),
                )
    text = "\n".join(markdown(read(file), None if data is None else data.name))
    write_text(options.output, text)
    print(text)


def once(file: Path, about: dict[str, Any], measure: Callable[[], dict[str, Any]]) -> None:
    """Adds what is measured under these conditions, unless it is there."""
    if not any(about.items() <= each.items() for each in read(file)):
        print(", ".join(str(value) for key, value in about.items() if key != "sha256"), flush=True)
        append(file, about | measure())


def converted(source: Path, precision: str, data: Dataset | None, folder: Path) -> Path | None:
    """The file in a precision, made now where it is not there yet; None where it overflows."""
    if precision == "fp32":
        return source
    path = folder / f"{source.stem}-{precision}.onnx"
    if path.exists():
        return path
    artifact = read_artifact(source)
    if data is None:
        if artifact.spec is None:
            sys.exit(f"{source} does not say which network it is of; give --data.")
        reduced_for_timing(source, path, precision, shape=artifact.spec.input_shape)
        return path

    def calibration() -> Array:
        chosen = stratified_sample(data.train, data.task, CALIBRATION_IMAGES)
        return images_of(source, data, data.train.images[chosen])

    try:
        reduced_from_onnx(
            source,
            path,
            precision,
            proof=Proof(images_of(source, data, data.validation.images[:100])),
            calibration=calibration,
            options=Quantization(),
        )
    except PrecisionLost as error:
        print(error, flush=True)
        return None
    return path


def images_of(source: Path, data: Dataset, pixels: Any) -> Array:
    """Images as the network takes them."""
    stated = read_artifact(source).normalization or data.normalization
    found: Array = normalize(pixels, stated).numpy()
    return found


def score(source: Path, path: Path, data: Dataset, images: int | None) -> dict[str, Any]:
    """Accuracy on the test images beside the float32 file's."""
    pixels = images_of(source, data, data.test.images[:images])
    proof = Proof(pixels, data.test.targets[:images], task=data.task)
    expected, found = (answers_to(predictor_of_any(each), pixels) for each in (source, path))
    fidelity = compare(expected, found, proof)
    return {"fidelity": fidelity.to_dict(), "loss": PrecisionRule().of(fidelity).to_dict()}


def time_file(source: Path, path: Path, runtime: str, threads: int, batch: int) -> dict[str, Any]:
    """A file beside the float32 one, and the kernels that it runs; or why there are none."""
    settings = Settings(runtimes=(runtime,), threads=threads, batches=(batch,))
    speedup = None
    try:
        report = profile(Subject(path.stem, path=path), settings=settings)
        if path != source:
            names = {"fp32": source, "narrow": path}
            timing = time_models(names, batch=batch, threads=threads, runtime=runtime, max_s=MAX_S)
            speedup = timing.ratio("fp32", "narrow")
        kernels = (
            kernels_of(path, runtime, threads=threads, batch=batch) if runtime in PROFILERS else ()
        )
    except ModelFileError as error:
        return {"failed": str(error)}
    run = report.model.runs[0]
    convolutions = [kernel for kernel in kernels if kernel.kind == "convolution"]
    return {
        "size_bytes": report.model.size_bytes,
        "latency_ms": run.latency.to_dict(1e3),
        "speedup": None if speedup is None else speedup.to_dict(),
        "peak_share": None if run.peak is None else run.peak.share.to_dict(),
        "computes_in": run.precision,
        "warnings": list(run.warnings),
        "kernels": Counter(f"{each.kernel} {each.precision}" for each in convolutions),
        "share": {
            name: [share(kernels, name), share(kernels, name, of_macs=True)]
            for name in sorted({each.precision for each in convolutions})
        },
    }


def markdown(lines: list[dict[str, Any]], data: str | None) -> list[str]:
    """The page, of whatever there is; accuracies are on the test images of ``data``."""
    page = ["# What each precision costs and saves", "", heading(), ""]
    page += ["Latency is the median of a call with its 95% interval; 'faster' is the ratio to the"]
    page += ["float32 file from the same rounds, in the same runtime.", ""]
    for model in dict.fromkeys(each["model"] for each in lines):
        mine = [each for each in lines if each["model"] == model]
        page += [f"## {model}", ""]
        page += accuracy_table([each for each in mine if each["kind"] == "accuracy"], data)
        page += latency_table([each for each in mine if each["kind"] == "latency"])
    return page


def accuracy_table(lines: list[dict[str, Any]], data: str | None) -> list[str]:
    """Of one model: each precision on the test images."""
    if not lines:
        return ["Untrained: only latency is measured.", ""]
    rows = [f"Test images of {data}, each looked at by both files.", ""]
    rows += ["| precision | accuracy | same class as fp32 | judged |", "|---|---|---|---|"]
    for each in lines:
        found, loss = each["fidelity"], each["loss"]
        rows.append(
            f"| {each['precision']} | {format_percent(found['right'] / found['images'])} | "
            f"{format_percent(found['top1_agreement'])} | {loss['outcome']}: {loss['reason']} |"
        )
    return [*rows, ""]


def latency_table(lines: list[dict[str, Any]]) -> list[str]:
    """Of one model: each precision in each runtime, and the kernels of the convolutions."""
    rows = [
        "| runtime | threads, batch | precision | size | ms | faster | of peak | convolutions |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in sorted(lines, key=lambda line: str(line["runtime"])):
        where = f"| {each['runtime']} | {each['threads']}, {each['batch']} | {each['precision']} "
        if "failed" in each:
            rows.append(f"{where}|  |  |  |  | not run: {each['failed']} |")
            continue
        shares = ", ".join(
            f"{name} {count:.0%} ({macs:.0%} of MACs)"
            for name, (count, macs) in each["share"].items()
        )
        kernels = ", ".join(f"{count} {name}" for name, count in each["kernels"].items())
        rows.append(
            f"{where}| {format_bytes(each['size_bytes'])} | "
            f"{interval(each['latency_ms'], '.3f')} | {interval(each['speedup'], '.2f')} | "
            f"{interval(each['peak_share'], '.0%')} | "
            f"{shares}: {kernels} |"
        )
    return [*rows, ""]


def interval(estimate: dict[str, float] | None, digits: str) -> str:
    """'1.21 (1.19 to 1.24)'; nothing of nothing."""
    if estimate is None:
        return ""
    value, low, high = (format(estimate[key], digits) for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


if __name__ == "__main__":
    main()
