"""KTAN: an adversary teaches the student the teacher's feature maps.

Liu et al., "KTAN: Knowledge Transfer Adversarial Network", arXiv 1810.08126. The student is a
convolutional part S and a classifier C, the teacher's last feature map m_t goes through the
Teacher-to-Student layer R (see ``compress.recipes.teacher_to_student``), a discriminator D says
whether a map is R's or the student's.

    Alg. 1  R descends       H(y, C_R(R(m_t)))
    Alg. 2  first S          L_CE(y, C(m_s)) + beta L_MSE(R(m_t), m_s)
            then  D          L_D(y_R(mt), R(m_t)) + L_D(y_ms, m_s)
                  S          H(y, C(m_s)) + alpha L_D(y_R(mt), m_s) + beta L_MSE(R(m_t), m_s)
                  C          H(y, C(m_s))
    Eq. 2   L_MSE = 1 / (r^2 c w h) sum_n sum_x sum_y ( m_t(x, y, n) - m_s(x, y, n) )^2

    m_t  [N, C_t, H_t, W_t]  teacher's map       m_s = S(x)  [N, c, h, w]  student's map
    R(m_t)  [N, c, h, w]     H, L_CE  cross-entropy, L_S elsewhere       y  [N]  labels
    D(.)  [N]  a logit; q = 1 / (1 + exp(-D)) is the probability that the map is R's
    y_R(mt) = 1, y_ms = 0    what a map is of: L_D(label, map) is the binary cross-entropy

The phases, of which the first is left out for a student that comes trained, and in ``dln`` the
last is:

    pretrain     S and C learn the labels                        the options' learning rate
    regressor    Alg. 1, everything else stands still            lr_regressor
    dln          Alg. 2, first loop: S alone                     lr_dln
    adversarial  Alg. 2, second loop: D, then S and C            lr_adversarial, lr_d

The epochs asked for are the student's: pretrain, dln and adversarial share them.

Left open by the paper, and decided here:
  - Alg. 2 prints sum -log D(m_s) for D, which would not tell the maps apart; the text has D learn
    "the correct label to both feature maps". So L_D is the binary cross-entropy, taken over both
    maps. S descends -log q(m_s), which is L_D(y_R(mt), m_s) as Alg. 2 has it; the text has
    log(1 - q(m_s)), which is ``minimax``. Where D is sure, the first has its largest gradient and
    the second has none left.
  - All losses are means over the batch, D's over its 2N maps, so that learning rates do not depend
    on the batch size and D at chance is at log 2.
  - r in Eq. 2 is the scale between the maps; after R it is 1 and L_MSE is the mean over all values.
  - C_R, the classifier of Alg. 1, is "fully connected parts of the teacher" in the paper; they read
    C_t channels and R gives c. Here it is the student's own C, as it is after pretrain, and stands
    still (``head``): what R learns is then what C reads, and S can come near to R(m_t) without
    leaving C, which dln does not change. With a new classifier, learnt with R and not used
    afterwards, R's channels mean something else than the student's.
  - A ReLU follows R (``rectify``): the student's map comes out of one. A value below 0 would
    tell D everything, and L_MSE could not be met.
  - D: a 3x3 convolution to ``channels_d`` channels, ReLU, 2x2 max pooling, one linear layer over
    all positions, as VGG begins and ends; "only one convolutional layer" is all that is said. It
    has no batch normalisation: D judges one map at a time.
  - S descends against D as it is after D's step in the same iteration. D, S and C see one pass of
    the student, so its running statistics take in each image once.
  - C descends H alone also in ``ktan+kd`` where ``kd_classifier`` is off. By default KD's loss,
    (1 - weight) H + weight T^2 L_KD, is in H's place for S and C both, in dln and adversarial: C
    makes the logits that are to be like the teacher's. pretrain is on "the ground truth" and has
    none of it.
  - How the epochs are shared. ``pretrain`` is its share of all, ``dln`` its share of the rest; each
    phase gets one epoch at least, and a share of 0 leaves the phase out.
  - The k steps of Alg. 1 are ``teacher_epochs``, one at a low rate. On images that the teacher has
    learnt, R can lower H without end by enlarging R(m_t), and S has the further to go: L_MSE began
    at 7.3 after five epochs at 0.1, at 1.3 after one at 0.01 (docs/methods.md).
  - D learns at a tenth of S's rate. At the same rate it soon knows nearly every map, -log q has
    its largest gradient there, and S loses within an epoch what it had learnt (same place).
  - Optimisers go on through the phases with their momentum; the schedule starts anew in each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from compress.errors import UsageError
from compress.models.network import FEATURES, LOGITS
from compress.recipes import kd
from compress.recipes.recipe import (
    CLASSIFICATION,
    Batch,
    Method,
    Phase,
    Setting,
    Shape,
    check_options,
    over_teachers,
)
from compress.recipes.supervised import L_S
from compress.recipes.teacher_to_student import TeacherToStudent

# Whose classifier C_R is: the student's own C, or one of its own.
STUDENT, NEW = "student", "new"
HEADS = (STUDENT, NEW)

PRETRAIN, REGRESSOR, DLN, ADVERSARIAL = "pretrain", "regressor", "dln", "adversarial"

# y_R(mt) and y_ms: the labels of R(m_t) and m_s.
REAL, FAKE = 1.0, 0.0

# Shares of maps from which on D knows all of them, or says the same of all.
SATURATED = 0.99
COLLAPSED = 0.95

# Logits of the student and a batch -> what stands for H.
TaskLoss = Callable[[Tensor, Batch], Tensor]


def L_MSE(m_t: Tensor, m_s: Tensor) -> Tensor:
    """Eq. 2 with r = 1, of R(m_t) and m_s [N, c, h, w]; a mean over the batch."""
    N, c, h, w = m_s.shape
    return (m_t - m_s).square().sum() / (N * c * w * h)


def L_D(label: float, D: Tensor) -> Tensor:
    """Binary cross-entropy of the label REAL or FAKE and D's logits [N]; a mean over the batch."""
    return functional.binary_cross_entropy_with_logits(D, torch.full_like(D, label))


def L_minimax(D_s: Tensor) -> Tensor:
    """The text's log(1 - q(m_s)), of D's logits D(m_s) [N]; a mean over the batch."""
    return -functional.softplus(D_s).mean()


def L_D_both(D_R: Tensor, D_s: Tensor) -> Tensor:
    """What D descends, of its logits D(R(m_t)) and D(m_s), [N] each."""
    return 0.5 * (L_D(REAL, D_R) + L_D(FAKE, D_s))


class Discriminator(nn.Module):
    """A map of shape (c, h, w) -> the logit that it is R's."""

    def __init__(self, shape: Shape, channels: int) -> None:
        super().__init__()
        c, h, w = shape
        self.conv = nn.Conv2d(c, channels, 3, padding=1)
        # Rounded up, so that a map of one pixel remains one.
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.linear = nn.Linear(channels * math.ceil(h / 2) * math.ceil(w / 2), 1)

    def forward(self, maps: Tensor) -> Tensor:
        """[N, c, h, w] -> [N]."""
        hidden = self.pool(functional.relu(self.conv(maps)))
        logits: Tensor = self.linear(hidden.flatten(1)).squeeze(1)
        return logits


class Head(nn.Module):
    """C_R: R(m_t) -> logits, for Alg. 1 alone."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, num_classes)

    def forward(self, maps: Tensor) -> Tensor:
        """[N, c, h, w] -> [N, num_classes]."""
        logits: Tensor = self.linear(maps.mean(dim=(2, 3)))
        return logits


def share_epochs(epochs: int, pretrain: float, dln: float) -> dict[str, int]:
    """The student's epochs by phase, none of them 0, in order.

    Args:
        epochs: all of them.
        pretrain: share for pretrain; 0 for no such phase.
        dln: share for dln of what pretrain leaves; 0 for no such phase, 1 for no adversarial one.

    Raises:
        UsageError: fewer epochs than phases.
    """
    phases = [PRETRAIN] * (pretrain > 0) + [DLN] * (dln > 0) + [ADVERSARIAL] * (dln < 1)
    if epochs < len(phases):
        raise UsageError(
            f"The student learns in {len(phases)} phases here ({', '.join(phases)}), each of one "
            f"epoch or more, and the epochs are {epochs}. Give --epochs {len(phases)} or more, "
            "start with --student-init from a trained student, or leave a phase out with a share "
            "of 0."
        )
    found, left = {}, epochs
    shares = {PRETRAIN: pretrain, DLN: dln, ADVERSARIAL: 1.0}
    for number, phase in enumerate(phases, start=1):
        most = left - (len(phases) - number)
        found[phase] = min(max(round(shares[phase] * left), 1), most)
        left -= found[phase]
    return found


def _phases(
    setting: Setting,
    options: Dln | Ktan,
    dln: float,
    lr_adversarial: float | None = None,
    lr_d: float | None = None,
) -> tuple[Phase, ...]:
    """All phases, with their epochs and rates."""
    pretrain = 0.0 if setting.student_trained else options.pretrain
    epochs = share_epochs(setting.epochs, pretrain, dln)
    rates: dict[str, dict[str, float | None]] = {
        PRETRAIN: {},
        REGRESSOR: {"regressor": options.lr_regressor},
        DLN: {"student": options.lr_dln},
        ADVERSARIAL: {
            "student": lr_adversarial,
            "classifier": lr_adversarial,
            "discriminator": lr_d,
        },
    }
    return tuple(
        Phase(
            name,
            options.teacher_epochs if name == REGRESSOR else epochs[name],
            {which: rate for which, rate in rates[name].items() if rate is not None},
            trains_student=name != REGRESSOR,
            uses_teacher=name != PRETRAIN,
        )
        for name in rates
        if name == REGRESSOR or name in epochs
    )


def _check(options: Mapping[str, Any], **known: Any) -> None:
    """Checks the options of a recipe; ``known`` are those that ``check_options`` checks.

    Raises:
        UsageError: some are wrong; all of them are named.
    """
    faults = []
    for name, value in options.items():
        if name in (PRETRAIN, DLN) and not 0 <= value < 1:
            faults.append(f"The share {name} of the epochs is {value}, not in [0, 1).")
        if name in ("teacher_epochs", "channels_d") and value < 1:
            faults.append(f"{name} is {value}, it must be 1 or more.")
        if name == "weight" and value is not None and not 0 <= value <= 1:
            faults.append(f"The weight of kd is {value}, it must be in [0, 1].")
        if name == "head" and value not in HEADS:
            faults.append(f"head is '{value}', it must be {' or '.join(HEADS)}.")
        if name.startswith("lr_") and value is not None and not 0 < value < math.inf:
            faults.append(f"The learning rate {name} is {value}, it must be positive.")
    check_options(*faults, **known)


@dataclass(frozen=True)
class Dln:
    """The recipe of the paper's DLN: "our KTAN network without the adversarial learning process".

    Attributes:
        beta: weight of L_MSE.
        pretrain: share of the epochs for pretrain; 0 for none.
        teacher_epochs: of the Teacher-to-Student layer; the student's are not among them.
        rectify: whether a ReLU follows that layer.
        head: one of HEADS, through which that layer learns.
        lr_regressor: initial learning rate of that layer.
        lr_dln: of the student in dln; None for the options'.
    """

    beta: float = 0.5
    pretrain: float = 0.5
    teacher_epochs: int = 1
    rectify: bool = True
    head: str = STUDENT
    lr_regressor: float = 0.01
    lr_dln: float | None = None

    name = "dln"
    summary = "ktan without its adversary: feature maps by their distance (Alg. 2, first loop)"
    paper = "Liu et al. 2018, arXiv 1810.08126"
    teacher_outputs = frozenset({FEATURES})
    tasks = CLASSIFICATION

    def __post_init__(self) -> None:
        _check(asdict(self), beta=self.beta)

    def start(self, setting: Setting) -> Method:
        """See ``Recipe.start``."""
        phases = _phases(setting, self, dln=1.0)
        return KtanMethod(setting, phases, rectify=self.rectify, head=self.head, beta=self.beta)

    def to_dict(self) -> dict[str, Any]:
        """See ``Recipe.to_dict``."""
        return asdict(self)


@dataclass(frozen=True)
class Ktan:
    """The recipe "ktan", and with a weight of KD the paper's KTAN + KD, "ktan+kd".

    Attributes:
        alpha: weight of the student's L_D.
        beta: weight of L_MSE.
        weight: of T^2 L_KD in H's place, 1 - weight being that of H; None for H alone.
        temperature: T of KD.
        kd_classifier: whether C learns from KD too; if not, from the labels alone.
        pretrain: share of the epochs for pretrain; 0 for none.
        dln: share of what pretrain leaves for dln; 0 for none.
        teacher_epochs: of the Teacher-to-Student layer; the student's are not among them.
        rectify: whether a ReLU follows that layer.
        head: one of HEADS, through which that layer learns.
        channels_d: of the discriminator's convolution.
        minimax: whether the student descends log(1 - q(m_s)) instead of -log q(m_s).
        lr_regressor: initial learning rate of the Teacher-to-Student layer; None for the options'.
        lr_dln: of the student in dln; None for the options'.
        lr_adversarial: of the student in the adversarial phase.
        lr_d: of the discriminator.
    """

    alpha: float = 0.6
    beta: float = 0.5
    weight: float | None = None
    temperature: float = 4.0
    kd_classifier: bool = True
    pretrain: float = 0.5
    dln: float = 0.5
    teacher_epochs: int = 1
    rectify: bool = True
    head: str = STUDENT
    channels_d: int = 64
    minimax: bool = False
    lr_regressor: float = 0.01
    lr_dln: float | None = None
    lr_adversarial: float = 0.01
    lr_d: float = 0.001

    paper = "Liu et al. 2018, arXiv 1810.08126"
    tasks = CLASSIFICATION

    @property
    def name(self) -> str:
        """See ``Recipe``."""
        return "ktan" if self.weight is None else "ktan+kd"

    @property
    def summary(self) -> str:
        """See ``Recipe``."""
        if self.weight is None:
            return "a discriminator on feature maps, and their distance (Alg. 2)"
        return "ktan with kd's softened logits in the place of the labels"

    @property
    def teacher_outputs(self) -> frozenset[str]:
        """See ``Recipe``."""
        return frozenset({FEATURES} if self.weight is None else {FEATURES, LOGITS})

    def __post_init__(self) -> None:
        checked = {"alpha": self.alpha, "beta": self.beta, "temperature": self.temperature}
        _check(asdict(self), **checked)

    def start(self, setting: Setting) -> Method:
        """See ``Recipe.start``."""
        loss: TaskLoss = labels_alone if self.weight is None else self._distilled
        return KtanMethod(
            setting,
            _phases(setting, self, self.dln, self.lr_adversarial, self.lr_d),
            rectify=self.rectify,
            head=self.head,
            beta=self.beta,
            alpha=self.alpha,
            channels_d=self.channels_d,
            minimax=self.minimax,
            task_loss=loss,
            task_loss_of_C=loss if self.kd_classifier else labels_alone,
        )

    def _distilled(self, F: Tensor, batch: Batch) -> Tensor:
        T, weight = self.temperature, self.weight
        return over_teachers(batch, lambda t: kd.L_1(F, t, batch.targets, T, weight))

    def to_dict(self) -> dict[str, Any]:
        """See ``Recipe.to_dict``."""
        return asdict(self)


def labels_alone(F: Tensor, batch: Batch) -> Tensor:
    """H(y, C(m_s)), of logits F [N, classes]."""
    return L_S(F, batch.targets)


class KtanMethod:
    """Alg. 1 and 2 on one student.

    Args:
        setting: what it works on.
        phases: that it is to go through.
        rectify: whether a ReLU follows R.
        head: one of HEADS.
        beta: weight of L_MSE.
        alpha: weight of the student's L_D.
        channels_d: of D; None where there is no adversarial phase.
        minimax: which adversarial loss S descends.
        task_loss: what stands for H in the losses of S after pretrain.
        task_loss_of_C: what stands for H in C's.
    """

    def __init__(
        self,
        setting: Setting,
        phases: Sequence[Phase],
        *,
        rectify: bool,
        head: str,
        beta: float,
        alpha: float = 0.0,
        channels_d: int | None = None,
        minimax: bool = False,
        task_loss: TaskLoss = labels_alone,
        task_loss_of_C: TaskLoss = labels_alone,
    ) -> None:
        student: Any = setting.student
        self.student = student
        self.task_loss, self.task_loss_of_C = task_loss, task_loss_of_C
        self.alpha, self.beta, self.minimax = alpha, beta, minimax
        shape = setting.student_shapes[FEATURES]
        self.R = TeacherToStudent(setting.teacher_shape(FEATURES), shape, rectify=rectify)
        modules: dict[str, nn.Module] = {"student": student, "regressor": self.R}
        S, C = parts(student)
        learning = {"student": S, "classifier": C, "regressor": self.R}
        if head == STUDENT:
            self.classify: Callable[[Tensor], Tensor] = student.classify
        else:
            C_R = Head(shape[0], setting.num_classes)
            modules["regressor_classifier"], self.classify = C_R, C_R
            learning["regressor"] = nn.ModuleList([self.R, C_R])
        if channels_d is not None:
            self.D = Discriminator(shape, channels_d)
            modules["discriminator"] = learning["discriminator"] = self.D
        device = next(student.parameters()).device
        for module in modules.values():
            module.to(device)
        self.modules: Mapping[str, nn.Module] = modules
        self.optimizers: Mapping[str, Optimizer] = {
            name: setting.optimizer(part) for name, part in learning.items()
        }
        self.phases: Sequence[Phase] = phases

    def step(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        """One iteration of a phase; see the module's text."""
        steps = {
            PRETRAIN: self._pretrain,
            REGRESSOR: self._regressor,
            DLN: self._dln,
            ADVERSARIAL: self._adversarial,
        }
        return {name: value.detach() for name, value in steps[phase](batch).items()}

    def _pretrain(self, batch: Batch) -> dict[str, Tensor]:
        loss = L_S(self.student(batch.images), batch.targets)
        self._descend(student=loss, classifier=loss)
        return {"loss": loss}

    def _regressor(self, batch: Batch) -> dict[str, Tensor]:
        logits = self.classify(self.R(batch.of_teacher(FEATURES)))
        loss = L_S(logits, batch.labels)
        self._descend(regressor=loss)
        hits = (logits.argmax(dim=1) == batch.labels).float().mean()
        return {"loss": loss, "regressor_accuracy": hits}

    def _dln(self, batch: Batch) -> dict[str, Tensor]:
        R_m_t, m_s, F = self._maps(batch)
        task, mse = self.task_loss(F, batch), L_MSE(R_m_t, m_s)
        loss = task + self.beta * mse
        self._descend(student=loss)
        return {"loss": loss, "task_loss": task, "mse": mse}

    def _adversarial(self, batch: Batch) -> dict[str, Tensor]:
        R_m_t, m_s, F = self._maps(batch)

        D_R, D_s = self.D(R_m_t), self.D(m_s.detach())
        loss_of_D = L_D_both(D_R, D_s)
        self._descend(discriminator=loss_of_D)

        task, mse = self.task_loss(F, batch), L_MSE(R_m_t, m_s)
        D_now = self.D(m_s)
        adversarial = L_minimax(D_now) if self.minimax else L_D(REAL, D_now)
        loss = task + self.alpha * adversarial + self.beta * mse
        self._descend(student=loss, classifier=self.task_loss_of_C(F, batch))

        real, fake = (D_R > 0).float().mean(), (D_s < 0).float().mean()
        return {
            "loss": loss,
            "task_loss": task,
            "mse": mse,
            "adversarial_loss": adversarial,
            "discriminator_loss": loss_of_D,
            "discriminator_accuracy": 0.5 * (real + fake),
            "real_recognised": real,
            "fake_recognised": fake,
        }

    def _maps(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """R(m_t), which nothing changes after Alg. 1, and the student's m_s and C(m_s)."""
        with torch.no_grad():
            R_m_t = self.R(batch.of_teacher(FEATURES))
        found = self.student.outputs(batch.images, (FEATURES, LOGITS))
        return R_m_t, found[FEATURES], found[LOGITS]

    def _descend(self, **losses: Tensor) -> None:
        """A step of each named optimiser against its own loss's gradient, all at one point.

        Gradients are taken with respect to that optimiser's parameters alone, so a loss moves
        nothing else that it runs through.
        """
        for name, loss in losses.items():
            groups = self.optimizers[name].param_groups
            parameters = [parameter for group in groups for parameter in group["params"]]
            gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
        for name in losses:
            self.optimizers[name].step()

    def advice(self, means: Mapping[str, float]) -> str | None:
        """See ``Method.advice``; on a discriminator that teaches nothing."""
        if "discriminator_loss" not in means:
            return None
        real, fake = means["real_recognised"], means["fake_recognised"]
        if min(real, fake) >= SATURATED:
            return (
                f"the discriminator knows {100 * real:.1f}% of the teacher's maps and "
                f"{100 * fake:.1f}% of the student's, so it no longer says in which way they "
                "differ. Try a lower lr_d, a larger share dln, or a larger beta."
            )
        if max(real, fake) >= COLLAPSED and min(real, fake) <= 1 - COLLAPSED:
            every = "the teacher's" if real > fake else "the student's"
            return (
                f"the discriminator takes nearly every map for {every} ({100 * real:.1f}% of the "
                f"teacher's and {100 * fake:.1f}% of the student's recognised) and teaches "
                "nothing. Try a higher or lower lr_d, or more channels_d."
            )
        return None


def parts(student: Any) -> tuple[nn.Module, nn.Module]:
    """S and C of a ``Student``, as modules that have their parameters and no others."""
    C: nn.Module = student.classifier
    of_C = {id(parameter) for parameter in C.parameters()}
    S = nn.ParameterList(p for p in student.parameters() if id(p) not in of_C)
    return S, C
