"""Training from labels alone: a teacher to start from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from compress.data.dataset import Dataset, to_device
from compress.files import sha256_of
from compress.models.checkpoint import save_checkpoint
from compress.models.registry import count_parameters
from compress.profiling.machine import fingerprint
from compress.recipes.supervised import Supervised
from compress.spec import ModelSpec
from compress.training.engine import Listener, Silent, choose_device, fit
from compress.training.evaluation import evaluate, predictor
from compress.training.finished import Trained
from compress.training.options import TrainingOptions
from compress.training.runfolder import RunFolder
from compress.training.student import first_network, with_dropout
from compress.training.team import SINGLE_PROCESS, Team

MODEL = "model.safetensors"
# What the first of several processes tells the others before they train.
TRAINING = "training"


def train(
    spec: ModelSpec,
    data: Dataset,
    out: Path,
    *,
    options: TrainingOptions,
    init: Path | None = None,
    device: str = "auto",
    listener: Listener,
    team: Team = SINGLE_PROCESS,
) -> dict[str, Any]:
    """Trains a network on a data set's labels and writes model.safetensors and result.json.

    The spec's classes, input shape and dropout are those of the data and the options. The model
    is the last epoch's. A run that was stopped goes on; one that is finished is only reported.

    Args:
        spec: the network.
        data: to learn from.
        out: the run folder.
        options: how.
        init: a checkpoint of the same network to start from; None for random weights.
        device: auto, cpu or cuda.
        listener: is told how it goes.
        team: the processes that train it together; the first calls this, the others ``assist``.

    Returns:
        What result.json says.

    Raises:
        CheckpointError: ``init`` cannot be used, or is another network.
        RunFolderError: ``out`` holds something else.
    """
    where = choose_device(device)
    spec = _for_data(spec, data, options)
    config = {
        "command": "train",
        "model": spec.to_dict(),
        "data": data.identity(),
        "init": sha256_of(init) if init else None,
        "training": options.to_dict(),
        "device": where.type,
        "threads": torch.get_num_threads(),
    }
    folder = RunFolder(out, config)
    if folder.finished and folder.is_whole(MODEL):
        listener.message(f"{out} is already finished.")
        return folder.result(Trained)
    with folder.alone():
        if folder.finished:
            listener.message(folder.reopen([MODEL]))
        return _train(spec, data, folder, options, init, where, listener, team)


def assist(
    spec: ModelSpec, data: Dataset, *, options: TrainingOptions, device: str, team: Team
) -> None:
    """Takes part in a training that the first process of a team does; nothing is written.

    Raises:
        EndedElsewhere: the first process came to its end without a training.
        ProcessLost: another process is gone.
    """
    where = choose_device(device)
    team.wait_for(TRAINING)
    network = first_network(_for_data(spec, data, options), options.seed)
    data = to_device(data, where)
    fit(
        Supervised(),
        network,
        data,
        options,
        teacher=None,
        folder=None,
        listener=Silent(),
        team=team,
    )


def _for_data(spec: ModelSpec, data: Dataset, options: TrainingOptions) -> ModelSpec:
    spec = spec.with_(num_classes=data.task.width, input_shape=data.input_shape)
    return with_dropout(spec, options.dropout)


def _train(
    spec: ModelSpec,
    data: Dataset,
    folder: RunFolder,
    options: TrainingOptions,
    init: Path | None,
    where: torch.device,
    listener: Listener,
    team: Team,
) -> dict[str, Any]:
    told = folder.begin(
        {
            "machine": fingerprint().to_dict(),
            "data_source": data.source,
            "normalization": data.normalization.to_dict(),
            "processes": team.size,
        }
    )
    if told:
        listener.message(told)
    data = to_device(data, where)
    network = first_network(spec, options.seed, init, data.task.classes)
    listener.message(
        f"Training {spec.name} ({count_parameters(network):,} parameters) on "
        f"{len(data.train):,} images of {data.name} for {options.epochs} epochs on {where.type}."
    )
    if team.several:
        listener.message(f"{team.size} processes share each batch.")
        team.publish(TRAINING, True)
    fitted = fit(
        Supervised(),
        network,
        data,
        options,
        teacher=None,
        folder=folder,
        listener=listener,
        team=team,
    )
    predict = predictor(network, data.task)
    test = evaluate(predict, data.task, data.test, data.normalization)
    spec = replace(spec, dropout=0.0)
    result = {
        "model": {"name": spec.name, "params": count_parameters(network), "file": MODEL},
        "accuracy": {"validation": fitted.history[-1]["validation_accuracy"], "test": test},
        "n": {"validation": len(data.validation), "test": len(data.test)},
        "epochs": options.epochs,
        "seed": options.seed,
    }
    save_checkpoint(
        folder.path / MODEL,
        network.to("cpu"),
        normalization=data.normalization,
        classes=data.task.classes,
        extra={"training": folder.config, "accuracy": result["accuracy"], "n": result["n"]},
    )
    folder.keep(MODEL)
    folder.finish(result)
    return folder.result(Trained)
