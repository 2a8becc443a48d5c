"""Looking at a foreign ONNX file before this process loads it: it is run in one that can be ended.

A file may hold a Loop without end, claim all memory, or crash the runtime that loads it. No signal
ends a call into a runtime. So the first to load a file that was not made here is a child process
(``compress.profiling.inspection_child``), with a limit on its time and its memory; it runs the file
twice on the same seeded images and says what came out.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from compress import onnx_file, schema
from compress.errors import ModelFileError, NothingMeasured
from compress.onnx_file import Value
from compress.profiling.fresh import ask
from compress.units import format_bytes, format_duration

CHILD = "compress.profiling.inspection_child"
# Loading and two calls with two images take a second for WRN-40-10, whose file has 224 MB.
LIMIT_S, BYTES_A_SECOND = 30.0, 10_000_000
# The address space that the child may use: for the libraries, and for each byte of the file.
LIMIT_BYTES, BYTES_A_BYTE = 3_500_000_000, 4
# Operators that answer otherwise each time.
RANDOM = (
    "Bernoulli",
    "Dropout",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
)


@dataclass(frozen=True)
class InspectionRequest:
    """What the child is asked.

    Attributes:
        path: the file.
        shape: channels, height and width, where the file leaves them open.
        limit_bytes: of address space.
    """

    path: Path
    shape: tuple[int, ...] | None
    limit_bytes: int


@dataclass(frozen=True)
class Inspection:
    """What a file has shown of itself.

    Attributes:
        outputs: with the sizes that a run has shown, or those that the file says where it was not
            run because a dimension has no value.
        rows: how many images it was run on; None where it was not run.
        repeatable: whether two runs on the same images gave the same.
        random: names of its operators that answer otherwise each time.
    """

    outputs: tuple[Value, ...]
    rows: int | None
    repeatable: bool
    random: tuple[str, ...]

    def refuse_unrepeatable(self, path: Path) -> None:
        """Raises where the file answers the same images differently each time.

        Raises:
            ModelFileError: it does.
        """
        if not self.repeatable:
            raise ModelFileError(self.difference(path))

    def difference(self, path: Path) -> str:
        """A message that says that two answers differ, and what is the likely cause."""
        cause = "It contains random operations"
        if self.random:
            cause = f"It has {', '.join(self.random)}"
        return (
            f"{path.name} answers the same images differently each time. {cause}; the likely cause "
            "is an export in training mode. Export it in evaluation mode (model.eval(), and "
            "training=TrainingMode.EVAL with torch.onnx.export)."
        )


def inspect_file(path: Path, shape: tuple[int, ...] | None = None) -> Inspection:
    """Has a child process load a file and run it twice.

    What a file has shown is remembered for as long as this process lives and the file stays.

    Args:
        path: the file.
        shape: channels, height and width, where the file leaves them open.

    Raises:
        ModelFileError: the file is damaged, or cannot be loaded or run, not within the limits.
    """
    total_bytes = onnx_file.size_of(path)
    return _inspected(path.resolve(), shape, total_bytes, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _inspected(
    path: Path, shape: tuple[int, ...] | None, total_bytes: int, _changed_ns: int
) -> Inspection:
    limit_s = LIMIT_S + total_bytes / BYTES_A_SECOND
    limit_bytes = LIMIT_BYTES + BYTES_A_BYTE * total_bytes
    try:
        answer = ask(CHILD, InspectionRequest(path, shape, limit_bytes), path.name, limit_s=limit_s)
    except TimeoutError as error:
        raise ModelFileError(
            f"{path.name} was loaded and run on two images, but gave no answer within "
            f"{format_duration(limit_s)}. {_repeating(path)}It is not used."
        ) from error
    except NothingMeasured as error:
        raise ModelFileError(
            f"{path.name} crashes the process that loads and runs it, which has "
            f"{format_bytes(limit_bytes)} of memory. {error}"
        ) from error
    where = f"The process that looked at {path.name} gave a broken answer"
    return schema.decode(Inspection, answer, where, error=NothingMeasured)


def _repeating(path: Path) -> str:
    """A sentence that says which loops a file has; empty where it has none."""
    kinds = {node.op_type for node in onnx_file.nodes_of(onnx_file.read_model(path).graph)}
    loops = sorted(kinds & {"Loop", "Scan"})
    return f"It has a {' and a '.join(loops)}, which may have no end. " if loops else ""
