"""Training from labels alone: a teacher to start from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from compress.data.dataset import Dataset, to_device
from compress.files import sha256_of
from compress.models.checkpoint import save_checkpoint
from compress.models.registry import changed, count_parameters, with_dropout
from compress.profiling.machine import fingerprint
from compress.recipes.supervised import Supervised
from compress.results import SCHEMA_VERSION
from compress.schema import decode, encode
from compress.schema.rules import Count, Epochs, FilePath, Name, Number, Seed, Share
from compress.spec import ModelSpec
from compress.training.device import choose_device
from compress.training.engine import fit
from compress.training.evaluation import evaluate, predictor
from compress.training.listener import Listener, Silent
from compress.training.options import TrainingOptions
from compress.training.runfolder import RunFolder
from compress.training.student import first_network
from compress.training.team import SINGLE_PROCESS, Team

MODEL = "model.safetensors"
# What the first of several processes tells the others before they train.
TRAINING = "training"


@dataclass(frozen=True)
class TrainedModel:
    """The network: the name of its architecture, its weights, and its file in the run folder."""

    name: Name
    params: Number
    file: Name


@dataclass(frozen=True)
class Reached:
    """The shares that are right after the last epoch; None without validation images."""

    validation: Share | None
    test: Share


@dataclass(frozen=True)
class ScoredImages:
    """How many images that is of."""

    validation: Count
    test: Count


@dataclass(frozen=True)
class TrainResult:
    """What a training came to.

    Attributes:
        model: the network.
        accuracy: what it reached, on so many images (``n``).
        epochs, seed: how it was trained.
        folder: of the run, which result.json lies in and does not name.
    """

    model: TrainedModel
    accuracy: Reached
    n: ScoredImages
    epochs: Epochs
    seed: Seed
    folder: FilePath = "."

    @property
    def file(self) -> Path:
        """The network's checkpoint."""
        return Path(self.folder, self.model.file)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = {"schema_version": SCHEMA_VERSION, **encode(self)}
        del values["folder"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainResult:
        """The inverse of ``to_dict``.

        Raises:
            InputError: these are no such values.
        """
        where = "This is not what a training came to"
        return decode(cls, values, where, beside=("schema_version",))


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
) -> TrainResult:
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
        what result.json says.

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
        return folder.result(TrainResult)
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
    spec = changed(spec, num_classes=data.task.width, input_shape=data.input_shape)
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
) -> TrainResult:
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
    spec = with_dropout(spec, 0.0)
    result = TrainResult(
        model=TrainedModel(spec.name, count_parameters(network), MODEL),
        accuracy=Reached(fitted.history[-1][f"validation_{data.task.metric.name}"], test),
        n=ScoredImages(len(data.validation), len(data.test)),
        epochs=options.epochs,
        seed=options.seed,
    )
    told_of = encode(result)
    save_checkpoint(
        folder.path / MODEL,
        network.to("cpu"),
        normalization=data.normalization,
        classes=data.task.classes,
        extra={"training": folder.config, "accuracy": told_of["accuracy"], "n": told_of["n"]},
    )
    folder.keep(MODEL)
    folder.finish(result.to_dict())
    return result
