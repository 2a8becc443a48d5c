"""``compress.train``: a network from labels alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from compress import defaults
from compress.api.inputs import (
    FilePath,
    Say,
    check_files,
    path_of,
    read_data,
    silent,
    tell_whether_saved,
)

if TYPE_CHECKING:
    from compress.api.listening import RunListener
    from compress.pipelines.train import TrainResult
    from compress.training.keywords import TrainingKeywords


def train(
    arch: str,
    *,
    init: FilePath | None = None,
    data: FilePath = defaults.DATA,
    data_dir: FilePath | None = None,
    image_size: int | None = None,
    validation: int | None = None,
    limit_train: int | None = None,
    flip: bool | None = None,
    device: str = "auto",
    out: FilePath | None = None,
    resume: bool = False,
    say: Say = silent,
    listener: RunListener | None = None,
    **training: Unpack[TrainingKeywords],
) -> TrainResult:
    """Trains a network from labels alone, for example a teacher; as ``compress train`` does.

    The run folder gets model.safetensors, metrics.jsonl and result.json. The same call goes on with
    a run that was stopped.

        compress.train("resnet-20", data="cifar10", epochs=30, schedule="one-cycle", say=print)

    Args:
        arch: the network, such as wrn-10-2, resnet-20 or preresnet-164.
        init: a checkpoint of the same architecture to start from instead of random weights.
        data: see ``compress.distill``.
        data_dir: see ``compress.distill``.
        image_size: see ``compress.distill``.
        validation: see ``compress.distill``.
        limit_train: see ``compress.distill``.
        flip: see ``compress.distill``.
        device: where to train: auto, cpu or cuda.
        out: the run folder. None: runs/ARCH-DATA-seedN.
        resume: tells where there is nothing in ``out`` to go on with.
        say: is told what is being done, a sentence at a time.
        listener: is told of every epoch and of the progress too, in place of ``say``.
        training: fields of ``compress.training.options.TrainingOptions``: epochs=200,
            batch_size=128, lr=0.1, schedule="steps", seed=0 and others.

    Returns:
        What result.json says: the model, its accuracy on validation and test images as fractions
        of 1, epochs and seed; and where the model lies (``file``).

    Raises:
        UsageError: an argument that cannot be.
        InputError: ``data`` or ``init`` cannot be used.
        RunFolderError: ``out`` holds another run.
        EndedElsewhere: this is not the first of the processes that torchrun started, and its part
            is done; the first one returns the result.
    """
    from dataclasses import replace

    from compress.api.listening import Sentences
    from compress.errors import EndedElsewhere
    from compress.models.registry import spec_of
    from compress.pipelines.train import assist
    from compress.pipelines.train import train as run
    from compress.training.device import choose_device
    from compress.training.options import DEFAULTS
    from compress.training.team import process_group

    check_files(init)
    spec = spec_of(arch)
    options = replace(DEFAULTS, **training)
    choose_device(device)
    told = listener or Sentences(say)
    with process_group(device) as team:
        images = team.rank_zero_first(
            "data",
            lambda: read_data(
                data,
                data_dir=data_dir,
                image_size=image_size,
                validation=validation,
                limit_train=limit_train,
                flip=flip,
                seed=options.seed,
                models=[init],
                say=told.message,
            ),
        )
        if team.first:
            folder = path_of(out) or Path("runs", f"{spec.name}-{images.name}-seed{options.seed}")
            if resume:
                tell_whether_saved(folder, told.message)
            result = run(
                spec,
                images,
                folder,
                options=options,
                init=path_of(init),
                device=device,
                listener=told,
                team=team,
            )
            return replace(result, folder=str(folder))
        assist(spec, images, options=options, device=device, team=team)
    raise EndedElsewhere(0)
