"""The images that a candidate and a baseline are scored on, and what each says of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from compress.data.dataset import EMBEDDED, Dataset, load_dataset
from compress.data.images import part_length
from compress.data.sources import TORCHVISION_NAMES
from compress.errors import DataError, UsageError
from compress.gate.baseline import Baseline, EvaluationSet, relative_to
from compress.gate.measuring import Settings
from compress.spec import Normalization, Target
from compress.training.scoring import Scored, score_onnx


def describe_data(
    data: Dataset, source: str, image_size: int | None, folder: Path
) -> EvaluationSet:
    """What a baseline in that folder says of its images.

    Args:
        data: as it was read.
        source: what --data was.
        image_size: what --image-size was.
        folder: of the baseline.
    """
    known = source in (EMBEDDED, *TORCHVISION_NAMES)
    return EvaluationSet(
        source=source if known else relative_to(Path(source), folder),
        image_size=image_size,
        name=data.name,
        sha256=digest_of_test(data),
        n=len(data.test),
    )


def digest_of_test(data: Dataset) -> str:
    """SHA-256 of the test images and targets, in their order."""
    digest = hashlib.sha256()
    for values in (data.test.images, data.test.targets):
        digest.update(f"{values[:1].dtype} {tuple(values.shape)}".encode())
        for part in values.split(part_length(values)):
            digest.update(part.contiguous().numpy().data)
    return digest.hexdigest()


def data_of(
    baseline: Baseline,
    given: str | None,
    *,
    data_dir: Path | None,
    image_size: int | None,
    say: Callable[[str], None],
) -> Dataset:
    """The evaluation set of a baseline, from where it says or from where the user does.

    ``say`` is told of what takes long.

    Raises:
        DataError: there is none.
        UsageError: it is another one.
    """
    there = baseline.evaluation_set
    source = given
    if source is None:
        path = baseline.path.parent / there.source
        known = there.source in (EMBEDDED, *TORCHVISION_NAMES)
        if not known and not path.exists():
            raise DataError(
                f"The evaluation set of {baseline.path}, {there.name}, is not at {path}. Give its "
                "place with --data."
            )
        source = there.source if known else str(path)
    data = load_dataset(
        source,
        root=data_dir,
        image_size=there.image_size if image_size is None else image_size,
        say=say,
    )
    wanted, faults = baseline.signature, []
    if data.task.name != wanted.name:
        faults.append(f"it is for {data.task.name}, not for {wanted.name}")
    if len(data.test) != there.n:
        faults.append(f"it has {len(data.test):,} test images, not {there.n:,}")
    if data.task.width != wanted.width:
        faults.append(f"it has {data.task.width} {data.task.noun}, not {wanted.width}")
    if data.input_shape != wanted.image_shape:
        faults.append(
            f"its images are {'x'.join(map(str, data.input_shape))}, not "
            f"{'x'.join(map(str, wanted.image_shape))}"
        )
    if not faults and digest_of_test(data) != there.sha256:
        faults.append("its test images, their labels or their order differ")
    if faults:
        raise UsageError(
            f"{source} is not the data that {baseline.path} was scored on: {'; '.join(faults)}. "
            "Give the same images with --data, or make a baseline on these with `compress "
            "baseline update`."
        )
    return data


def score(
    path: Path, data: Dataset, settings: Settings, normalization: Normalization | None
) -> Scored:
    """What a file says of the test images, run as the settings say.

    Raises:
        ModelFileError, DataError, UsageError: as ``score_onnx``.
    """
    target = Target(runtime=settings.runtime, threads=settings.threads)
    return score_onnx(
        path, data, normalization=normalization, target=target, output=settings.output
    )
