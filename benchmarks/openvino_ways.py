r"""OpenVINO directly, and through ONNX Runtime: which is faster and steadier here?

    python -m benchmarks.openvino_ways student.onnx wrn-16-2 --trials runs/openvino-ways \
        --threads 1,2 --batch 1,8 --output benchmarks/results/openvino_ways.md

The ways run each file in the same rounds: directly, compiled for the shape of the call or for any
batch, threads bound to cores or not; and through ONNX Runtime's provider (the package
onnxruntime-ep-openvino), with the batch fixed or open. All of them in float32, one stream, the same
number of threads; all have to give the same answers, which bfloat16 does not. ONNX Runtime alone
stands beside them. Files are ONNX files, or names of networks, which are exported untrained.

The provider offers no device on processors of other makers than Intel, though OpenVINO runs on
them. --any-vendor tells it here that the processor is Intel's, as an open change to it would
(https://github.com/microsoft/onnxruntime/pull/31981), so that the ways can be compared.

Every comparison is a line of a file in the folder of trials, so the program can be stopped and
started.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from benchmarks.agreement import heading, model_file
from benchmarks.trials import append, read
from compress.files import sha256_of, write_text
from compress.profiling import openvino_cpu, protocol
from compress.profiling.estimates import MINIMUM_ROUNDS, ratio_of_rounds
from compress.profiling.inputs import make_input
from compress.profiling.machine import fingerprint
from compress.profiling.onnxruntime_cpu import OnnxSession
from compress.profiling.registry import runtime_named
from compress.profiling.runtime import Input, Output, Session, Subject

TRIALS = "openvino_ways.jsonl"
CHOSEN = "directly, one shape"
# Of the largest answer. float32 stays below 1e-5 of it, bfloat16 has 8 bits.
SAME = 1e-3
INTEL = 0x8086


class ThroughOnnxRuntime:
    """A session of ONNX Runtime whose provider is OpenVINO's, set as ours is.

    The provider ignores its documented options for threads, streams and precision and asks for
    them in the configuration that it loads.

    Args:
        path: the ONNX file.
        device: the provider's.
        threads: that compute.
        images: of the shape that open dimensions are fixed at; None leaves them open.
    """

    def __init__(
        self, path: Path, device: Any, *, threads: int, images: Input | None = None
    ) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = threads
        if images is not None:
            spec = runtime_named("onnxruntime").input_of(Subject(path.name, path=path))
            for name, size in zip(spec.shape, images.shape, strict=True):
                if isinstance(name, str):
                    options.add_free_dimension_override_by_name(name, size)
        settings = {
            name: ("YES" if value else "NO") if isinstance(value, bool) else str(value)
            for name, value in openvino_cpu.settings(threads).items()
        }
        options.add_provider_for_devices([device], {"load_config": json.dumps({"CPU": settings})})
        self._session = ort.InferenceSession(path, options)
        self._input = self._session.get_inputs()[0].name
        self._names = [each.name for each in self._session.get_outputs()]
        self._answer: list[Output] = []

    def infer(self, images: Input) -> None:
        """Runs a batch."""
        self._answer = self._session.run(self._names, {self._input: images})

    def outputs(self) -> dict[str, Output]:
        """Arrays of the last call by name."""
        return dict(zip(self._names, self._answer, strict=True))

    def synchronize(self) -> None:
        """Nothing: a call on the CPU returns when it is done."""

    def close(self) -> None:
        """Frees the session."""
        del self._session


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("models", nargs="+", help="ONNX files or names of networks")
    parser.add_argument("--trials", type=Path, required=True, help="a folder")
    parser.add_argument("--output", type=Path, required=True, help="a Markdown file")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--batch", default="1,8")
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--any-vendor", action="store_true")
    options = parser.parse_args()
    if options.rounds < MINIMUM_ROUNDS:
        sys.exit(f"At least {MINIMUM_ROUNDS} rounds give an interval.")
    options.trials.mkdir(parents=True, exist_ok=True)
    file = options.trials / TRIALS
    device, said = provider_device(options.any_vendor)
    machine = fingerprint().digest
    for each in read(file):
        if each["machine"] != machine or each["provider"] != said:
            sys.exit(f"{file} is of another machine or provider; name another folder.")
    paths = [model_file(name, options.trials) for name in options.models]
    for path in paths:
        for batch in map(int, options.batch.split(",")):
            for threads in map(int, options.threads.split(",")):
                about = {
                    "machine": machine,
                    "provider": said,
                    "model": path.name,
                    "sha256": sha256_of(path),
                    "batch": batch,
                    "threads": threads,
                    "rounds": options.rounds,
                }
                if not any(about.items() <= each.items() for each in read(file)):
                    print(f"{path.name}, batch {batch}, {threads} thread(s)", flush=True)
                    found = compare(path, batch, threads, options.rounds, device)
                    append(file, {**about, **found})
    text = "\n".join(markdown(read(file)))
    write_text(options.output, text)
    print(text)


def compare(path: Path, batch: int, threads: int, rounds: int, device: Any) -> dict[str, Any]:
    """The median of each way in each round, in seconds."""
    images = make_input(runtime_named("openvino"), Subject(path.name, path=path), batch=batch)
    direct, through = openvino_cpu.OpenVinoSession, ThroughOnnxRuntime
    ways: dict[str, Callable[[], Session]] = {
        CHOSEN: partial(direct, path, threads=threads, images=images),
        "directly, any batch": partial(direct, path, threads=threads),
        "directly, one shape, threads bound": partial(
            direct, path, threads=threads, images=images, bound=True
        ),
        "ONNX Runtime alone": partial(OnnxSession, path, threads=threads),
    }
    if device is not None:
        ways |= {
            "through ONNX Runtime, one shape": partial(
                through, path, device, threads=threads, images=images
            ),
            "through ONNX Runtime, any batch": partial(through, path, device, threads=threads),
        }
    answers = {way: answer(load, images) for way, load in ways.items()}
    for way in other_answers(answers):
        sys.exit(f"{path.name}: '{way}' answers otherwise than '{CHOSEN}'; it is not float32.")
    timing = protocol.measure(
        ways,
        dict.fromkeys(ways, images),
        min_rounds=rounds,
        max_rounds=rounds,
        threads=threads,
    )
    return {"round_medians_s": {way: timing.round_medians(way).tolist() for way in ways}}


def answer(load: Callable[[], Session], images: Input) -> np.ndarray:
    session = load()
    try:
        session.infer(images)
        return np.asarray(next(iter(session.outputs().values())))
    finally:
        session.close()


def other_answers(answers: dict[str, np.ndarray]) -> list[str]:
    """The ways whose answers are not those of the chosen one."""
    expected = answers[CHOSEN]
    allowed = SAME * float(np.max(np.abs(expected)))
    return [
        way
        for way, found in answers.items()
        if not float(np.max(np.abs(found - expected))) <= allowed
    ]


def provider_device(any_vendor: bool) -> tuple[Any, str]:
    """The provider's CPU device; or None, and a sentence on what the provider is or why not."""
    try:
        import onnxruntime_ep_openvino as provider
    except ImportError:
        return None, "Not timed: through ONNX Runtime. onnxruntime-ep-openvino is not installed."
    makers = ", ".join(dict.fromkeys(each.device.vendor for each in ort.get_ep_devices()))
    if any_vendor:
        for each in ort.get_ep_devices():
            call_it_intel(each.device)
    ort.register_execution_provider_library("openvino", provider.get_library_path())
    for each in ort.get_ep_devices():
        said = each.ep_metadata
        if each.ep_name == provider.get_ep_name() and said.get("ov_device") == "CPU":
            told = f"Through ONNX Runtime: the provider {said['version']}."
            if any_vendor:
                told += (
                    f" It offers no device on processors of {makers}; its look at the maker was "
                    "set aside here."
                )
            return each, told
    return None, (
        f"Not timed: through ONNX Runtime. Its provider offers no device on processors of {makers} "
        "(https://github.com/microsoft/onnxruntime/pull/31981), OpenVINO itself runs on them."
    )


def call_it_intel(device: Any) -> None:
    """Changes the vendor in ONNX Runtime's own description of a device.

    The description begins with the device's kind (0: a CPU) and the vendor's number, 32 bits each;
    where it does not, nothing is changed and the program ends.
    """
    # What a Python object of ONNX Runtime's stands for is the pointer behind its header.
    place = ctypes.c_void_p.from_address(id(device) + object.__basicsize__).value
    if place is None:
        sys.exit("This version of ONNX Runtime describes devices otherwise.")
    kind_and_vendor = (ctypes.c_uint32 * 2).from_address(place)
    if list(kind_and_vendor) != [0, device.vendor_id]:
        sys.exit("This version of ONNX Runtime describes devices otherwise.")
    kind_and_vendor[1] = INTEL


def markdown(trials: list[dict[str, Any]]) -> list[str]:
    """The page, of whatever comparisons there are."""
    rounds = ", ".join(map(str, sorted({each["rounds"] for each in trials})))
    lines = [
        "# Ways to run a file by OpenVINO",
        "",
        heading(),
        f"float32, one stream; {rounds} rounds; `python -m benchmarks.openvino_ways`.",
        *dict.fromkeys(each["provider"] for each in trials),
        "",
        f"Ratio: time / time of '{CHOSEN}', the way in use, with its 95% interval. Spread: between "
        "the rounds' medians, the middle half as a share of the median.",
        "",
        "| file | batch | threads | way | median, ms | ratio | spread |",
        "|---|---:|---:|---|---:|---|---:|",
    ]
    for each in trials:
        for way in each["round_medians_s"]:
            lines.append(
                f"| {each['model']} | {each['batch']} | {each['threads']} | "
                f"{row(way, each['round_medians_s'])} |"
            )
    lines += ["", *over_all(trials), ""]
    return lines


def row(way: str, round_medians_s: dict[str, list[float]]) -> str:
    """Median, ratio and spread of a way."""
    medians = np.array(round_medians_s[way])
    ratio = ratio_of_rounds(medians, np.array(round_medians_s[CHOSEN]))
    shown = ""
    if way != CHOSEN and ratio is not None:
        shown = f"{ratio.value:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"
    return f"{way} | {1e3 * float(np.median(medians)):.3f} | {shown} | {spread_of(medians):.1%}"


def spread_of(medians: np.ndarray) -> float:
    """The middle half of the rounds' medians, as a share of their median."""
    low, high = np.quantile(medians, (0.25, 0.75))
    return float((high - low) / np.median(medians))


def over_all(trials: list[dict[str, Any]]) -> list[str]:
    """For each way a line: the geometric mean of its ratios, the median of its spreads."""
    logs: dict[str, list[float]] = {}
    spreads: dict[str, list[float]] = {}
    for each in trials:
        medians = {way: np.array(found) for way, found in each["round_medians_s"].items()}
        for way, found in medians.items():
            logs.setdefault(way, []).append(float(np.median(np.log(found / medians[CHOSEN]))))
            spreads.setdefault(way, []).append(spread_of(found))
    return [
        f"- {way}: {math.exp(float(np.mean(logs[way]))):.3f} times '{CHOSEN}' (geometric mean of "
        f"{len(logs[way])}), spread {np.median(spreads[way]):.1%} (median)"
        for way in logs
    ]


if __name__ == "__main__":
    main()
