"""How a network scores the test images of one class and all others: the histogram of Figure 5.

"The distribution of prediction for category 85 in CIFAR-100", arXiv 1709.00513, section 4.6: the
logit of one class for its own test images and for the others, each scaled to sum up to one, of the
student that was trained on the labels, of the teacher, and of the distilled student.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from compress.schema.rules import Count, Length, Share

BINS = 40


@dataclass(frozen=True)
class Histogram:
    """One network's.

    Attributes:
        name: of the network, in the picture.
        edges: of the bins [BINS + 1], in units of the logit.
        own, others: share of the class's own images, and of the others, in each bin.
        n_own, n_others: images.
    """

    name: str
    edges: Annotated[tuple[float, ...], Length(BINS + 1, BINS + 1)]
    own: Annotated[tuple[Share, ...], Length(BINS, BINS)]
    others: Annotated[tuple[Share, ...], Length(BINS, BINS)]
    n_own: Count
    n_others: Count

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}


def histogram(name: str, logits: Tensor, labels: Tensor, label: int) -> Histogram:
    """The histogram of the logit of ``label``, of logits [n, C] and labels [n]."""
    scores, own = logits[:, label].double().cpu(), labels.cpu() == label
    low, high = float(scores.min()), float(scores.max())
    high = high if high > low else low + 1.0
    edges = torch.linspace(low, high, BINS + 1, dtype=torch.float64)

    def shares(part: Tensor) -> tuple[float, ...]:
        counts = torch.histogram(part, edges).hist
        return tuple((counts / max(len(part), 1)).tolist())

    return Histogram(
        name,
        tuple(edges.tolist()),
        shares(scores[own]),
        shares(scores[~own]),
        int(own.sum()),
        int((~own).sum()),
    )
