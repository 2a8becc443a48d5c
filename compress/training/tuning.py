"""How the steps of a training are to be computed, decided once, before the first of them.

The last bits of a student depend on it. So on a CPU, and where --deterministic is asked for, what
nobody names is fixed, and two runs of one configuration end alike. On another GPU training, which
promises no bits, and wherever an option says "measured", the faster way is found by trying. What is
decided is shown, recorded in run.json, and kept when the run is resumed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import torch

from compress.errors import RunFolderError
from compress.profiling.costs import costs_of_module
from compress.schema import decode
from compress.schema.rules import known
from compress.training.options import MEASURED, TrainingOptions
from compress.training.passes import Learner
from compress.training.trial import Trial, fastest, trial_batch

LAYOUTS = ("channels_last", "contiguous")
TOLD = {"off": "not compiled", "on": "compiled", "graphs": "compiled with CUDA graphs"}
# Another way than the first one has to be so much faster, to be worth another student.
CLEARLY_FASTER = 0.9
# A training of fewer steps is over before trying layouts, or compiling, has paid for itself.
MEASURED_STEPS = 500
COMPILED_STEPS = 2000


@dataclass(frozen=True)
class Tuning:
    """How steps are computed.

    Attributes:
        memory_format: one of LAYOUTS.
        compile: "off", "on", or "graphs" for CUDA graphs too.
        fused: whether the optimiser updates all weights in one kernel.
        bf16: whether the student's passes are in bfloat16 where that is safe.
    """

    memory_format: Annotated[str, known(*LAYOUTS)] = "channels_last"
    compile: Annotated[str, known(*TOLD)] = "off"
    fused: bool = False
    bf16: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> Tuning:
        """What ``to_dict`` gave.

        Raises:
            RunFolderError: it was changed.
        """
        where = '"tuning" in the run folder\'s run.json has values that no run writes'
        mend = "Restore the file, or use another folder."
        return decode(cls, values, where, error=RunFolderError, mend=mend, complete=True)


def tune(
    student: Learner,
    device: torch.device,
    options: TrainingOptions,
    *,
    steps: int,
    say: Callable[[str], None],
) -> Tuning:
    """Decides, and says what and why in a line.

    Args:
        student: stays as it is.
        device: that trains.
        options: what is asked for.
        steps: of the whole training.
        say: is told what was decided and why.
    """
    on_gpu = device.type == "cuda"
    bf16 = takes_bf16(options, device)
    with torch.random.fork_rng([device] if on_gpu else []):
        layout, about_layout = _layout(student, device, options, steps, bf16)
        compiled, about_compiled = _compiled(student, device, options, steps, bf16, layout)
    fused = on_gpu if options.fused == "auto" else options.fused == "on"
    told = [f"{layout}{about_layout}", about_compiled]
    told.append("fused optimiser" if fused else "optimiser not fused")
    if bf16:
        told.append("bfloat16 autocast")
    if on_gpu:
        told.append("TF32" if options.tf32 else "no TF32")
        told.append("deterministic" if options.deterministic else "not deterministic")
    say(f"Steps: {', '.join(told)}.")
    return Tuning(layout, compiled, fused, bf16)


def takes_bf16(options: TrainingOptions, device: torch.device) -> bool:
    """Whether the student's passes are in bfloat16; "auto" is on GPUs that compute in it."""
    if options.autocast == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return options.autocast == "bf16"


def _is_measured(asked: str, device: torch.device, options: TrainingOptions, pays: bool) -> bool:
    """Whether what an option asks for is found by measuring; ``pays`` matters for "auto" alone."""
    if asked == "auto":
        return pays and device.type == "cuda" and not options.deterministic
    return asked == MEASURED


def _layout(
    student: Learner, device: torch.device, options: TrainingOptions, steps: int, bf16: bool
) -> tuple[str, str]:
    """The layout, and why."""
    asked = options.memory_format
    if not _is_measured(asked, device, options, steps >= MEASURED_STEPS):
        return (LAYOUTS[0] if asked == "auto" else asked), ""
    batch = trial_batch(options.batch_size, costs_of_module(student, student.spec.input_shape).macs)
    first_s, other_s = fastest(
        *(
            Trial(student, device, batch=batch, memory_format=name, bf16=bf16).step
            for name in LAYOUTS
        )
    )
    chosen = 1 if other_s < CLEARLY_FASTER * first_s else 0
    times_ms = (1e3 * first_s, 1e3 * other_s)
    about = (
        f" ({times_ms[chosen]:.1f} ms for a step of {batch} images, {LAYOUTS[1 - chosen]} "
        f"{times_ms[1 - chosen]:.1f})"
    )
    return LAYOUTS[chosen], about


def _compiled(
    student: Learner,
    device: torch.device,
    options: TrainingOptions,
    steps: int,
    bf16: bool,
    layout: str,
) -> tuple[str, str]:
    """Whether the student is compiled, and why."""
    asked = options.compile
    if not _is_measured(asked, device, options, steps >= COMPILED_STEPS):
        chosen = "off" if asked == "auto" else asked
        return chosen, TOLD[chosen]
    # CUDA graphs are tried where measuring is asked for: a map that a method keeps beyond the
    # next pass would be overwritten by it.
    with_graphs = device.type == "cuda" and asked == MEASURED
    ways = ("off", "on", "graphs") if with_graphs else ("off", "on")
    trials = [
        Trial(
            student,
            device,
            batch=options.batch_size,
            memory_format=layout,
            bf16=bf16,
            compiled=way,
        )
        for way in ways
    ]
    try:
        times_s = fastest(*(trial.step for trial in trials))
    except Exception as error:  # noqa: BLE001 - there may be no compiler, or one that fails
        return "off", f"not compiled (torch.compile failed: {type(error).__name__})"
    best = min(range(1, len(ways)), key=lambda number: times_s[number])
    measured = f"{1e3 * times_s[best]:.1f} ms a step against {1e3 * times_s[0]:.1f}"
    if times_s[best] < CLEARLY_FASTER * times_s[0]:
        return ways[best], f"{TOLD[ways[best]]} ({measured})"
    return "off", f"not compiled (it would take {measured})"
