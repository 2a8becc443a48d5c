"""How to train: the paper's values are the defaults."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from compress.errors import UsageError

# Epochs are listed one by one and images are padded before anything is trained.
MOST = {
    "epochs": 1_000_000,
    "batch_size": 1_000_000,
    "crop_padding": 256,
    "views": 1_000_000,
    "seed": 2**63 - 1,
}
# "steps": the paper's, see TrainingOptions.milestones. "one-cycle": up in a straight line and down
# along a cosine, for those with less time (Smith and Topin, arXiv 1708.07120, without its last
# phase). "cosine": down along a cosine (Loshchilov and Hutter, arXiv 1608.03983, without restarts).
SCHEDULES = ("steps", "one-cycle", "cosine")
WARM_UP = 0.15
# "bf16": the student's passes in bfloat16 where torch's autocast holds that safe; weights,
# logits, losses and updates stay float32. "auto": on GPUs that compute in it.
AUTOCAST = ("off", "bf16", "auto")
# How steps are computed; "auto" is decided by ``compress.training.tuning``, and what is measured is
# found there by trying.
MEASURED = "measured"
MEMORY_FORMATS = ("auto", "channels_last", "contiguous", MEASURED)
COMPILE = ("auto", "off", "on", "graphs", MEASURED)
FUSED = ("auto", "off", "on")


@dataclass(frozen=True)
class TrainingOptions:
    """The optimiser and its schedule (arXiv 1709.00513, section 4.1, for the CIFARs).

    Attributes:
        epochs: passes over the training images. The schedule is rescaled to them.
        batch_size: images a step.
        lr: initial learning rate of SGD; the highest one of a one-cycle schedule.
        schedule: one of SCHEDULES.
        momentum: of SGD.
        weight_decay: of SGD.
        milestones: shares of the training after which the rate is multiplied by lr_factor; the
            paper's 80 and 160 of 200 epochs.
        lr_factor: see milestones.
        dropout: in WRN blocks.
        crop_padding: pixels that a crop may be shifted by.
        views: in how many views of an image the teachers are asked, once each. 1: as it is, while
            the student sees a new crop in every epoch (arXiv 1709.00513, section 4.1); feature
            maps, which say where things are, are of the crops all the same. 2 and more: in so many
            crops, which the student sees in turn. 0, or as many as epochs: in the new crop of
            every epoch.
        teacher_dropout: probability of the teachers' dropout when they give logits, which
            section 5 of that paper proposes; 0 for none. Logits are then drawn anew in every step,
            so ``views`` is 0.
        label_smoothing: share of each label that is spread over all classes, where the student
            learns from labels.
        ema: what remains of an exponential moving average of the student in a step; the average
            is then what is validated and kept. 0 for none.
        autocast: one of AUTOCAST.
        memory_format: one of MEMORY_FORMATS.
        compile: one of COMPILE: whether the student's passes are compiled; "graphs" with CUDA
            graphs.
        fused: one of FUSED: whether the optimiser updates all weights in one kernel.
        tf32: whether a GPU's float32 products may take TF32.
        deterministic: whether a GPU is to give the same bits every time; a CPU does.
        seed: of the initial weights, the order, the crops and the dropout.
    """

    epochs: int = 200
    batch_size: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: str = "steps"
    milestones: tuple[float, ...] = (0.4, 0.8)
    lr_factor: float = 0.1
    dropout: float = 0.3
    crop_padding: int = 4
    views: int = 1
    teacher_dropout: float = 0.0
    label_smoothing: float = 0.0
    ema: float = 0.0
    autocast: str = "off"
    memory_format: str = "auto"
    compile: str = "auto"
    fused: str = "auto"
    tf32: bool = True
    deterministic: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        faults = []
        if self.epochs < 1:
            faults.append(f"epochs is {self.epochs}, it must be 1 or more")
        if self.batch_size < 2:
            faults.append(f"batch size is {self.batch_size}, batch normalisation needs 2 or more")
        if not (math.isfinite(self.lr) and self.lr > 0):
            faults.append(f"the learning rate is {self.lr}, it must be positive")
        if not 0 <= self.momentum < 1:
            faults.append(f"momentum is {self.momentum}, it must be in [0, 1)")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            faults.append(f"weight decay is {self.weight_decay}, it must be 0 or more")
        for name in ("dropout", "label_smoothing", "ema"):
            if not 0 <= getattr(self, name) < 1:
                told = name.replace("_", " ")
                faults.append(f"{told} is {getattr(self, name)}, it must be in [0, 1)")
        if self.views < 0:
            faults.append(f"views is {self.views}, it must be 0 or more")
        if not 0 <= self.teacher_dropout < 1:
            faults.append(f"the teacher's dropout is {self.teacher_dropout}, not in [0, 1)")
        elif self.teacher_dropout and self.views:
            faults.append(
                f"the teacher's dropout is {self.teacher_dropout} and views is {self.views}: "
                "random outputs cannot be kept, so give --views 0"
            )
        if self.crop_padding < 0:
            faults.append(f"the crops' padding is {self.crop_padding}, it must be 0 or more")
        for name, most in MOST.items():
            if getattr(self, name) > most:
                told = name.replace("_", " ")
                faults.append(f"{told} is {getattr(self, name)}, it must be at most {most}")
        if not all(0 <= share <= 1 for share in self.milestones):
            faults.append(f"milestones are {list(self.milestones)}, they must be from 0 to 1")
        if not (math.isfinite(self.lr_factor) and self.lr_factor >= 0):
            faults.append(f"lr factor is {self.lr_factor}, it must be 0 or more")
        for name, value, known in (
            ("schedule is", self.schedule, SCHEDULES),
            ("autocast is", self.autocast, AUTOCAST),
            ("memory format is", self.memory_format, MEMORY_FORMATS),
            ("compile is", self.compile, COMPILE),
            ("fused is", self.fused, FUSED),
        ):
            if value not in known:
                faults.append(f"{name} '{value}', known are {' and '.join(known)}")
        if self.deterministic and MEASURED in (self.memory_format, self.compile):
            faults.append(
                "a measured choice may differ the next time, so with deterministic give fixed "
                "values for the memory format and compile"
            )
        if self.seed < 0:
            faults.append(f"the seed is {self.seed}, it must be 0 or more")
        if faults:
            raise UsageError("Training cannot start: " + "; ".join(faults) + ".")

    def rate_factor(self, progress: float) -> float:
        """Current by initial learning rate when ``progress`` (0 to 1) of a phase is done."""
        if self.schedule in ("one-cycle", "cosine"):
            warm_up = WARM_UP if self.schedule == "one-cycle" else 0.0
            if progress < warm_up:
                return max(progress, 0.01 * warm_up) / warm_up
            return 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))
        passed = sum(progress >= milestone for milestone in self.milestones)
        return self.lr_factor**passed

    @property
    def reused_views(self) -> int | None:
        """How many crops of an image serve all epochs in turn; None where each has its own."""
        return self.views if 1 < self.views < self.epochs else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for run.json."""
        return asdict(self) | {"milestones": list(self.milestones)}


DEFAULTS = TrainingOptions(autocast="auto")
"""How the commands and the Python API train where nobody says otherwise."""
