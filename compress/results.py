"""What was measured. Frozen, serialisable, standard library only."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from compress.spec import ModelSpec, Normalization

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Estimate:
    """A value with the ends of its 95% confidence interval, in SI units."""

    value: float
    low: float
    high: float

    def to_dict(self, scale: float = 1.0, name: str = "value") -> dict[str, float]:
        """{name: ..., "low": ..., "high": ...}, each times ``scale`` (1e3 for milliseconds)."""
        return {name: self.value * scale, "low": self.low * scale, "high": self.high * scale}


@dataclass(frozen=True)
class Artifact:
    """A file that can be served.

    Attributes:
        path: the file.
        format: "onnx".
        sha256: of its bytes.
        size_bytes: of the file.
        spec: the architecture, where it is known.
        precision: of weights and activations.
        normalization: None where it is not known.
        classes: class names, empty where they are not known.
        toolchain: package -> version that made it.
    """

    path: Path
    format: str
    sha256: str
    size_bytes: int
    spec: ModelSpec | None
    precision: str = "fp32"
    normalization: Normalization | None = None
    classes: tuple[str, ...] = ()
    toolchain: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Parity:
    """How far an exported file is from the model that it was made from.

    Attributes:
        images: how many inputs were compared.
        top1_agreement: share with the same best class, a tie within the tolerance counted as same.
        max_abs_diff: largest difference of any logit.
    """

    images: int
    top1_agreement: float
    max_abs_diff: float
