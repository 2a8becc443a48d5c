"""The training of a run's student, which several processes may do together."""

from __future__ import annotations

from collections.abc import Sequence

from compress.data.dataset import Dataset, to_device
from compress.environment import cache_folder
from compress.models.network import Network
from compress.models.registry import build, count_parameters, read_spec
from compress.pipelines.distill.context import DistillContext, Teachers
from compress.pipelines.distill.request import DistillRequest
from compress.spec import ModelSpec, Normalization
from compress.tasks.task import Standing
from compress.teachers.network import NetworkTeacher
from compress.training.device import choose_device
from compress.training.engine import fit
from compress.training.evaluation import answers_to, predictor
from compress.training.kept import outputs_of
from compress.training.listener import Listener, Silent
from compress.training.options import TrainingOptions
from compress.training.outputs import TeacherOutputs
from compress.training.runfolder import RunFolder
from compress.training.student import first_network
from compress.training.teacher import Teacher
from compress.training.team import SINGLE_PROCESS, Team

# What the first of several processes tells the others before they train.
TRAINING = "training"
# In the cache folder: what teachers said, for all runs.
OUTPUTS = "outputs"


def train_student(
    context: DistillContext, folder: RunFolder, teachers: Teachers, spec: ModelSpec
) -> Network:
    """The student after its training, on the CPU. A training that was interrupted goes on."""
    request, team = context.request, context.team
    data = to_device(request.data, context.device)
    student = first_network(spec, request.options.seed, request.student_init, data.task.classes)
    context.say(
        f"Training {spec.name} ({count_parameters(student):,} parameters) with "
        f"{request.recipe.name} for {request.options.epochs} epochs on {len(data.train):,} "
        f"images of {data.name}, on {context.device.type}."
    )
    if team.several:
        context.say(f"{team.size} processes share each batch.")
        about = [
            {"spec": each.spec.to_dict(), "normalization": each.normalization.to_dict()}
            for each in teachers.all
        ]
        team.publish(TRAINING, {"student": spec.to_dict(), "teachers": about})
    _fit(request, student, data, teachers.all, folder, context.listener, team)
    student = student.to("cpu")
    _warn_of_chance(context, student)
    return student


def assist(request: DistillRequest, team: Team) -> None:
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
        network = build(read_spec(each["spec"])).to(device).eval().requires_grad_(False)
        mean, std = (tuple(each["normalization"][name]) for name in ("mean", "std"))
        teachers.append(NetworkTeacher(network, Normalization(mean, std)))
    spec = read_spec(told["student"])
    student = first_network(spec, request.options.seed)
    _fit(request, student, to_device(request.data, device), teachers, None, Silent(), team)


def teacher_outputs(
    request: DistillRequest,
    data: Dataset,
    options: TrainingOptions,
    teachers: Sequence[Teacher],
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


def _fit(
    request: DistillRequest,
    student: Network,
    data: Dataset,
    teachers: Sequence[Teacher],
    folder: RunFolder | None,
    listener: Listener,
    team: Team,
) -> None:
    """Trains the student; all processes of a team do this together."""
    for teacher in teachers:
        if teacher.module is not None:
            team.broadcast_module(teacher.module)
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


def _warn_of_chance(context: DistillContext, student: Network) -> None:
    """Says at once where the training came to nothing; what ships is judged in the end."""
    data = context.request.data
    predict = predictor(student, data.task)
    outputs = answers_to(predict, data.validation.images, data.normalization)
    chance = data.task.chance(outputs, data.validation.targets)
    if chance.standing is not Standing.BETTER:
        context.say(f"Warning: on the validation images the student is {chance.text}")
