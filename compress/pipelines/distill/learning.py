"""The training of a run's student, which several processes may do together."""

from __future__ import annotations

from collections.abc import Sequence

from compress.data.dataset import Dataset, to_device
from compress.environment import cache_folder
from compress.models.network import Network
from compress.models.registry import build
from compress.pipelines.distill.request import Request
from compress.spec import ModelSpec, Normalization
from compress.training.engine import Listener, Silent, choose_device, fit
from compress.training.kept import outputs_of
from compress.training.options import TrainingOptions
from compress.training.outputs import TeacherOutputs, Teaching
from compress.training.runfolder import RunFolder
from compress.training.student import first_network
from compress.training.team import SINGLE_PROCESS, Team

# What the first of several processes tells the others before they train.
TRAINING = "training"
# In the cache folder: what teachers said, for all runs.
OUTPUTS = "outputs"


def assist(request: Request, team: Team) -> None:
    """Takes part in the training of a run that the first process of a team does.

    Teachers and weights come from that process; nothing is written but the teachers' outputs.

    Raises:
        EndedElsewhere: the first process came to its end without a training.
        ProcessLost: another process is gone.
    """
    device = choose_device(request.device)
    told = team.wait_for(TRAINING)
    teachers = []
    for each in told["teachers"]:
        network = build(ModelSpec.from_dict(each["spec"])).to(device).eval().requires_grad_(False)
        mean, std = (tuple(each["normalization"][name]) for name in ("mean", "std"))
        teachers.append(Teaching(network, Normalization(mean, std)))
    spec = ModelSpec.from_dict(told["student"])
    student = first_network(spec, request.options.seed)
    fit_student(request, student, to_device(request.data, device), teachers, None, Silent(), team)


def fit_student(
    request: Request,
    student: Network,
    data: Dataset,
    teachers: Sequence[Teaching],
    folder: RunFolder | None,
    listener: Listener,
    team: Team,
) -> None:
    """Trains the student; all processes of a team do this together."""
    for teacher in teachers:
        team.broadcast_module(teacher.network)
    fit(
        request.recipe,
        student,
        data,
        request.options,
        teacher=teacher_outputs(request, data, request.options, teachers, listener, team),
        folder=folder,
        listener=listener,
        student_trained=request.student_init is not None,
        team=team,
    )


def teacher_outputs(
    request: Request,
    data: Dataset,
    options: TrainingOptions,
    teachers: Sequence[Teaching],
    listener: Listener,
    team: Team = SINGLE_PROCESS,
) -> TeacherOutputs | None:
    """Where a training with these options gets its teachers' outputs from."""
    return outputs_of(
        teachers,
        request.recipe.teacher_outputs,
        data,
        options,
        folder=request.outputs_dir or cache_folder() / OUTPUTS,
        say=listener.message,
        team=team,
    )
