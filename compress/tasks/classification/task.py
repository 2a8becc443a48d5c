"""Classification: the first task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from compress.onnx_file import Value
from compress.tasks.classification.accuracy import LOGITS, Hits, Right, StoredRight
from compress.tasks.classification.calibration import Calibration, calibration
from compress.tasks.classification.chance import compare_with_chance
from compress.tasks.classification.paired import ACCURACY, Paired
from compress.tasks.rows import RowReading, agreement_of_rows, reading_of_rows
from compress.tasks.task import Agreement, Arrays, Chance, Metric, Outputs, Stored, Targets


@dataclass(frozen=True)
class Classification:
    """See ``Task``: labels int64 [n], logits or probabilities [n, C].

    Attributes:
        classes: a name a class; their numbers where the data name none.
    """

    classes: tuple[str, ...]

    name: ClassVar[str] = "classification"
    metric: ClassVar[Metric] = ACCURACY
    output: ClassVar[str] = LOGITS
    noun: ClassVar[str] = "classes"
    number: ClassVar[str] = "logit"
    answer: ClassVar[str] = "class"
    stored: ClassVar[type[Stored]] = StoredRight

    @classmethod
    def of_width(cls, width: int) -> Classification:
        """So many classes without names."""
        return cls(tuple(map(str, range(width))))

    @property
    def width(self) -> int:
        """See ``Task``: C."""
        return len(self.classes)

    def width_of(self, outputs: Outputs) -> int:
        """See ``Task``."""
        return outputs[LOGITS].shape[1]

    # --- what is learnt --------------------------------------------------------------------------

    def targets(self, targets: Targets, smoothing: float = 0.0) -> Targets:
        """See ``Task``: labels [n], or with smoothing probabilities [n, C]."""
        return smooth(targets, self.width, smoothing) if smoothing else targets

    def loss(self, outputs: Outputs, targets: Targets) -> Tensor:
        """See ``Task``: the cross-entropy."""
        return functional.cross_entropy(outputs[LOGITS], targets)

    def strata(self, targets: Targets) -> Tensor:
        """See ``Task``: the labels."""
        return targets

    # --- how good it is --------------------------------------------------------------------------

    def tally(self, device: torch.device) -> Hits:
        """See ``Task``."""
        return Hits(device)

    def evidence(self, outputs: Outputs, targets: Targets) -> Right:
        """See ``Task``; logits that are not finite have nothing right."""
        logits = outputs[LOGITS]
        right = (logits.argmax(dim=1).cpu() == targets.cpu()) & logits.isfinite().all(dim=1).cpu()
        return Right(tuple(right.tolist()))

    def pair_of(self, counts: Mapping[str, Any]) -> Paired:
        """See ``Task``."""
        return Paired(**{name: int(counts[name]) for name in ("n", "lost", "won", "right")})

    def chance(self, outputs: Outputs, targets: Targets, *, tried: int = 1) -> Chance:
        """See ``Task``."""
        logits = outputs[LOGITS]
        answered = logits.argmax(dim=1).cpu()
        return compare_with_chance(answered, targets, logits.shape[1], tried=tried)

    def confidence(self, outputs: Outputs, targets: Targets) -> Calibration:
        """See ``Task``."""
        return calibration(outputs[LOGITS], targets)

    # --- what a file says ------------------------------------------------------------------------

    def reading(
        self,
        outputs: Sequence[Value],
        file: str,
        wanted: str | None = None,
        *,
        images: int | None = None,
    ) -> RowReading:
        """See ``Task``: the output of one row an image; of several the one called logits."""
        return reading_of_rows(outputs, file, wanted, name=LOGITS, images=images)

    def agreement(self, expected: Arrays, found: Arrays) -> Agreement:
        """See ``Task``; what is added to all logits of an image alike changes no answer."""
        logits, others = expected[LOGITS].astype(np.float64), found[LOGITS].astype(np.float64)
        rows = np.arange(len(logits))
        best, other = logits.argmax(axis=1), others.argmax(axis=1)
        margin = logits[rows, best] - logits[rows, other]
        return agreement_of_rows(logits, others, other=best != other, margin=margin, centred=True)

    def parting(self, expected: Arrays, found: Arrays) -> str:
        """See ``Task``."""
        (logits,), (others,) = expected[LOGITS], found[LOGITS]
        best, other = int(logits.argmax()), int(others.argmax())
        worst = int(np.argmax(np.abs(others - logits)))
        return (
            f"the model gives class {best} (logit {logits[best]:.6g}), the file class {other} "
            f"(logit {others[other]:.6g}); the largest difference is in logit {worst}, "
            f"{logits[worst]:.6g} and {others[worst]:.6g}"
        )

    def permuted(self, outputs: Outputs, order: Sequence[int]) -> Outputs:
        """See ``Task``."""
        logits = outputs[LOGITS]
        if logits.shape[1] != len(order):
            return outputs
        return {**outputs, LOGITS: logits[:, list(order)]}

    def with_classes(self, classes: Sequence[str]) -> Classification:
        """See ``Task``."""
        return Classification(tuple(classes))

    def renumbered(self, targets: Targets, order: Sequence[int]) -> Targets:
        """See ``Task``."""
        return torch.tensor(order)[targets]


def smooth(labels: Tensor, classes: int, share: float) -> Tensor:
    """Labels [n] as probabilities [n, C], a share of each spread evenly over all classes."""
    even = torch.full((len(labels), classes), share / classes, device=labels.device)
    return even.scatter_(1, labels[:, None], 1 - share + share / classes)
