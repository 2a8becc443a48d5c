"""Training one student with several processes.

Every process sees the whole batch, and computes every module that a recipe makes (a discriminator,
a regressor) for the whole batch. Only the passes of the student, and of a teacher that is run in
every step, are split: each process takes its images through the network, and the results are
gathered. A recipe therefore works with exactly what one process would have, so its loss may be
anything: a correlation over the batch, a sum over it, a discriminator with batch normalisation, a
penalty on gradients. Averaging each process's own loss, as torch's DistributedDataParallel does,
would be another method for all of those, and wrong for uneven batches; it also does not support
``torch.autograd.grad`` of several losses for several modules.

    forward     process r takes rows shard(N)[r] of the batch through the network; the rows of all
                processes are gathered                                          (``BatchParallel``)
    loss        computed of the whole batch by every process, with the same result
    backward    every process has the whole gradient by the gathered rows, and takes its own rows
    step        gradients by the student's weights are each process's part of a sum: they are
                summed. Gradients by other weights are the same whole one in every process: they
                are averaged, so that not even their last bits drift apart
                                                                  (``Team.all_reduce_gradients``)

Batch normalisation in the student uses the statistics of the whole batch (``SyncBatchNorm2d``).
Dropout draws its mask for the whole batch and takes its rows, so torch's generators stay in the
same state in all processes.

Before and after the training the first process works alone, for as long as that takes; the others
wait at the launcher's store without a limit. Within it nobody waits longer than ``TIMEOUT``.
"""

from __future__ import annotations

import itertools
import json
import os
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.nn import functional
from torch.optim import Optimizer

from compress.errors import CompressError, EndedElsewhere, ProcessLost, UsageError
from compress.launched import place
from compress.training.stopping import check_interrupt

# Within a training the others answer in time, or they are gone.
TIMEOUT = timedelta(minutes=10)
# The first process is asked again after so long, where it works alone.
POLL_S = 0.2
HANDSHAKE_POLL_S = 0.02
# The first process may take so long from losing another to telling its end.
GRACE_S = 2.0
# Names in the launcher's store.
PREFIX, ENDED, FAILED = "compress", "ended", "failed"

Found = TypeVar("Found")


@dataclass(frozen=True)
class Team:
    """The processes of a training, seen from one of them.

    Attributes:
        rank: the number of this process, from 0.
        size: how many processes there are.
        store: the launcher's key-value store, which is used before and after the training; None
            for a single process.
        barriers: numbers for the barriers, in order.
    """

    rank: int = 0
    size: int = 1
    store: Any = None
    barriers: Iterator[int] = field(default_factory=itertools.count, compare=False, repr=False)

    @property
    def first(self) -> bool:
        """Whether this is rank 0, the process that writes files and shows messages."""
        return self.rank == 0

    @property
    def several(self) -> bool:
        """Whether there is more than one process."""
        return self.size > 1

    def __deepcopy__(self, memo: dict[int, Any]) -> Team:
        """Returns the team itself: a copy of a network belongs to the same team."""
        return self

    # --- While the first works alone -------------------------------------------------------------

    def publish(self, name: str, value: Any) -> None:
        """Puts a JSON value into the store under a name, for the other processes."""
        if self.several:
            self.store.set(name, json.dumps(value))

    def wait_for(self, name: str) -> Any:
        """Waits for a value that the first process publishes.

        Raises:
            EndedElsewhere: the first process ended without publishing it.
            ProcessLost: a process has failed or does not answer.
        """
        with _process_lost_errors():
            self._wait_until_set([name])
            return json.loads(self.store.get(name))

    def barrier(self) -> None:
        """Waits without a limit until all processes have reached the same barrier.

        It stands after work that may take some of them long; collectives of torch.distributed wait
        no longer than ``TIMEOUT``.

        Raises:
            EndedElsewhere, ProcessLost: as ``wait_for``.
        """
        if self.several:
            name = f"barrier/{next(self.barriers)}"
            with _process_lost_errors():
                self.store.set(f"{name}/{self.rank}", "")
                self._wait_until_set([f"{name}/{rank}" for rank in range(self.size)])

    def _wait_until_set(self, names: list[str]) -> None:
        while not self.store.check(names):
            check_interrupt()
            if self.store.check([ENDED]):
                raise EndedElsewhere(int(self.store.get(ENDED)))
            if self.store.check([FAILED]):
                raise ProcessLost(
                    f"Process {int(self.store.get(FAILED))} of this training failed; see its "
                    "message."
                )
            time.sleep(POLL_S)

    def end_with_rank_zero(self) -> None:
        """Ends silently where the first process has ended by itself, and has said why.

        Raises:
            EndedElsewhere: it has ended.
        """
        end_s = time.monotonic() + GRACE_S
        while time.monotonic() < end_s:
            try:
                if self.store.check([ENDED]):
                    raise EndedElsewhere(int(self.store.get(ENDED)))
            except RuntimeError:
                return  # the store is gone as well
            time.sleep(POLL_S)

    def rank_zero_first(self, name: str, function: Callable[[], Found]) -> Found:
        """Calls ``function`` in the first process, and then in the others.

        The first one fetches or decodes files, and the others find them. It returns when all
        processes have their result.
        """
        if not self.first:
            self.wait_for(name)
        found = function()
        if self.first:
            self.publish(name, True)
        self.barrier()
        return found

    # --- Within a training -----------------------------------------------------------------------

    def shard(self, count: int) -> slice:
        """The slice of ``count`` rows of this process; shards differ by one row at most."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def all_gather(self, rows: Tensor, count: int) -> Tensor:
        """The rows of all processes in order, [count, ...]; ``rows`` are this one's shard."""
        sizes = [len(range(count)[Team(rank, self.size).shard(count)]) for rank in range(self.size)]
        padded = rows.detach().contiguous()
        missing = max(sizes) - len(rows)
        if missing:
            padded = torch.cat([padded, padded.new_zeros(missing, *rows.shape[1:])])
        found = [torch.empty_like(padded) for _ in sizes]
        with _process_lost_errors():
            distributed.all_gather(found, padded)
        return torch.cat([each[:size] for each, size in zip(found, sizes, strict=True)])

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """The sum of a tensor over all processes, in place."""
        if self.several:
            with _process_lost_errors():
                distributed.all_reduce(values)
        return values

    def broadcast_object(self, value: Any) -> Any:
        """The first process's ``value``, in every process."""
        held = [value]
        if self.several:
            with _process_lost_errors():
                distributed.broadcast_object_list(held, src=0)
        return held[0]

    def all_reduce_max(self, *numbers: int) -> list[int]:
        """The largest of each number over all processes; it uses the CPU and waits for no GPU."""
        if not self.several:
            return list(numbers)
        values = torch.tensor(numbers)
        with _process_lost_errors():
            distributed.all_reduce(values, op=distributed.ReduceOp.MAX)
        return [int(value) for value in values]

    def broadcast_module(self, module: nn.Module) -> None:
        """Copies a module's weights and buffers from the first process to all others."""
        if self.several:
            with _process_lost_errors():
                for tensor in module.state_dict().values():
                    held = tensor.contiguous()
                    distributed.broadcast(held, src=0)
                    if held is not tensor:
                        tensor.copy_(held)

    def all_reduce_gradients(self, optimizer: Optimizer, student: nn.Module) -> None:
        """Makes every step of an optimiser use the gradient of the whole batch.

        Args:
            optimizer: of the weights of ``student``, or of other modules' weights.
            student: the network whose passes are split. Its gradients are summed over the
                processes, those of other weights averaged.
        """
        if not self.several:
            return
        split = {id(parameter) for parameter in student.parameters()}

        def all_reduce(optimizer: Optimizer, *_: object) -> None:
            gradients, weights = [], []
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        gradients.append(parameter.grad)
                        weights.append(1.0 if id(parameter) in split else 1 / self.size)
            torch._foreach_mul_(gradients, weights)
            # In one message: there are many small ones.
            flat = self.all_reduce_sum(torch.cat([gradient.flatten() for gradient in gradients]))
            parts = flat.split([gradient.numel() for gradient in gradients])
            torch._foreach_copy_(
                gradients, [part.view(s.shape) for part, s in zip(parts, gradients, strict=True)]
            )

        optimizer.register_step_pre_hook(all_reduce)


SINGLE_PROCESS = Team()


@contextmanager
def process_group(device: str) -> Iterator[Team]:
    """Joins the processes that a launcher started, for as long as the block lasts.

    Args:
        device: of the training, as ``--device`` has it.

    Raises:
        UsageError: the processes do not find each other.
    """
    here = place()
    if here.size == 1:
        yield SINGLE_PROCESS
        return
    if os.environ.get("MASTER_PORT") == "0":
        raise UsageError(
            "The launcher's port is 0, so each process would choose another port. Give torchrun "
            "a free --master-port, or --standalone on one machine."
        )
    on_gpu = device != "cpu" and torch.cuda.is_available()
    # Agreement goes by the CPU, so that it does not wait for a GPU's steps.
    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
    try:
        launched, rank, size = next(rendezvous("env://", timeout=TIMEOUT))
        store = PrefixStore(f"{PREFIX}/{agree_on_name(launched, rank, size)}", launched)
        distributed.init_process_group(
            backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT
        )
    except (ValueError, RuntimeError) as error:
        raise UsageError(
            f"The {here.size} processes could not connect: {error}. Start them with torchrun; if "
            "its port is in use, give another --master-port."
        ) from error
    team, code = Team(rank, size, store), 0
    try:
        yield team
        distributed.destroy_process_group()
    except ProcessLost:
        code = ProcessLost.exit_code
        if not team.first:
            team.end_with_rank_zero()
        raise
    except EndedElsewhere as error:
        code = error.exit_code
        raise
    except BaseException as error:
        code = error.exit_code if isinstance(error, CompressError) else 1
        # Every process hears a signal for itself.
        if not team.first and isinstance(error, Exception):
            store.set(FAILED, str(rank))
        raise
    finally:
        if team.first:
            store.set(ENDED, str(code))


def agree_on_name(store: Any, rank: int, size: int) -> str:
    """A name that the processes of this start share, and those of an earlier one did not.

    A launcher that starts killed processes anew may go on with its store, and a process that reads
    there where the first one was to be reached finds the one that is gone. So each says hello under
    a name of its own, the first answers to that name, and all that follows, torch's own addresses
    too, is kept under the name that is found.

    Args:
        store: the launcher's; what earlier processes left is still in it.
        rank: of this process.
        size: how many there are.

    Raises:
        UsageError: the others do not come.
    """
    name, end_s = uuid.uuid4().hex, time.monotonic() + TIMEOUT.total_seconds()
    if rank == 0:
        there: set[int] = set()
        while len(there) < size - 1:
            for other in set(range(1, size)) - there:
                if store.check([f"hello/{other}"]):
                    store.set(f"welcome/{store.get(f'hello/{other}').decode()}", name)
                if store.check([f"there/{name}/{other}"]):
                    there.add(other)
            _wait(end_s)
        return name
    store.set(f"hello/{rank}", name)
    while not store.check([f"welcome/{name}"]):
        _wait(end_s)
    found: str = store.get(f"welcome/{name}").decode()
    store.set(f"there/{found}/{rank}", "")
    return found


def _wait(end_s: float) -> None:
    if time.monotonic() > end_s:
        raise UsageError(
            f"The other processes did not connect within {TIMEOUT.total_seconds() / 60:g} "
            "minutes. Start them with torchrun, on every machine."
        )
    time.sleep(HANDSHAKE_POLL_S)


@contextmanager
def _process_lost_errors() -> Iterator[None]:
    """Turns the error that torch raises where another process is gone into ``ProcessLost``.

    Raises:
        ProcessLost: torch raised it.
    """
    try:
        yield
    except RuntimeError as error:
        raise ProcessLost(
            "Another process of this training has ended, or has not answered for "
            f"{TIMEOUT.total_seconds() / 60:g} minutes. See its message or the launcher's. Run "
            "the same command again to resume from the last saved state."
        ) from error


# --- The student's passes, shared out ------------------------------------------------------------


@dataclass
class GlobalBatch:
    """How many images the current batch has, over all processes."""

    size: int = 0


class BatchParallel(nn.Module):
    """A ``Student`` that is given whole batches and takes its shard through the network.

    Args:
        network: a ``Student`` too.
        team: that shares the passes.
        batch: is given the size of every batch.
    """

    def __init__(self, network: nn.Module, team: Team, batch: GlobalBatch) -> None:
        super().__init__()
        self.network: Any = network
        self._team = team
        self._batch = batch

    def forward(self, x: Tensor) -> Tensor:
        """See ``Network``: logits [b, C]."""
        return self._all_gather(self.network(self._scatter(x)), len(x))

    def outputs(self, x: Tensor, wanted: Collection[str]) -> dict[str, Tensor]:
        """See ``Network``: outputs and feature maps by name."""
        found = self.network.outputs(self._scatter(x), wanted)
        return {name: self._all_gather(found[name], len(x)) for name in sorted(found)}

    def classify(self, features: Tensor) -> Tensor:
        """See ``Network``: logits [b, C] of a feature map."""
        rows = self.network.classify(self._scatter(features))
        return self._all_gather(rows, len(features))

    @property
    def classifier(self) -> nn.Module:
        """See ``Network``: what ``classify`` has parameters in."""
        module: nn.Module = self.network.classifier
        return module

    def _scatter(self, whole: Tensor) -> Tensor:
        self._batch.size = len(whole)
        part: Tensor = _Scatter.apply(whole, self._team)
        return part

    def _all_gather(self, rows: Tensor, count: int) -> Tensor:
        whole: Tensor = _AllGather.apply(rows, self._team, count)
        return whole


class _AllGather(torch.autograd.Function):
    """The rows of all processes; backward, this process's rows of a gradient that all have."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, team: Team, count: int) -> Tensor:
        ctx.mine = team.shard(count)
        return team.all_gather(rows, count)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0][ctx.mine], None, None


class _Scatter(torch.autograd.Function):
    """This process's rows; backward, the gradient by all rows, for what made them everywhere."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor, team: Team) -> Tensor:
        ctx.team, ctx.count = team, len(whole)
        return whole[team.shard(len(whole))].clone(memory_format=torch.preserve_format)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.team.all_gather(gradients[0], ctx.count), None


@contextmanager
def synchronized_layers(network: nn.Module, team: Team, batch: GlobalBatch) -> Iterator[None]:
    """While the block lasts, batch normalisation and dropout see the images of all processes.

    The layers that replace them have the same parameters and buffers, by the same names.
    """
    replaced = []
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            other = _synchronized_layer(layer, team, batch)
            if other is not None:
                replaced.append((parent, name, layer))
                setattr(parent, name, other)
    try:
        yield
    finally:
        for parent, name, layer in replaced:
            layer.train(getattr(parent, name).training)
            setattr(parent, name, layer)


def _synchronized_layer(layer: nn.Module, team: Team, batch: GlobalBatch) -> nn.Module | None:
    """The layer that replaces another; None where it stays."""
    if isinstance(layer, nn.Dropout):
        return SyncDropout(layer.p, team, batch)
    if not isinstance(layer, nn.BatchNorm2d):
        return None
    other = SyncBatchNorm2d(layer.num_features, layer.eps, layer.momentum)
    other.weight, other.bias = layer.weight, layer.bias
    other.running_mean, other.running_var = layer.running_mean, layer.running_var
    other.num_batches_tracked = layer.num_batches_tracked
    other.team = team
    return other.train(layer.training)


class SyncBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation with the statistics of all processes' images.

    torch's SyncBatchNorm is for GPUs alone, and waits for them in every pass.
    """

    team: Team = SINGLE_PROCESS

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """[b, c, h, w] -> [b, c, h, w]."""
        if not self.training:
            return super().forward(input)
        normalized, mean, variance, count = _Normalize.apply(
            input, self.weight, self.bias, self.eps, self.team
        )
        means, variances, seen = self.running_mean, self.running_var, self.num_batches_tracked
        if self.momentum is not None and means is not None and variances is not None:
            unbiased = variance * count / (count - 1).clamp(min=1)
            means.lerp_(mean.to(means.dtype), self.momentum)
            variances.lerp_(unbiased.to(variances.dtype), self.momentum)
            if seen is not None:
                seen.add_(1)
        outputs: Tensor = normalized
        return outputs


class _Normalize(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps) * weight + bias, over the rows of all processes.

    Means and squared deviations of the processes are put together as Chan, Golub and LeVeque do
    ("Algorithms for computing the sample variance", 1983), in float64. Some may have no rows.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, team: Team
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        channels, full = x.shape[1], _at_least_float(x)
        count = x.numel() // channels
        mean = full.new_zeros(channels, dtype=torch.float64)
        squares = torch.zeros_like(mean)
        if count:
            variance, own_mean = torch.var_mean(full, dim=(0, 2, 3), correction=0)
            mean, squares = own_mean.double(), variance.double() * count
        own = torch.cat([mean, squares, mean.new_full((1,), count)])[None]
        means, deviations, counts = team.all_gather(own, team.size).split(
            [channels, channels, 1], 1
        )
        total = counts.sum()
        mean = (means * counts).sum(0) / total
        variance = (deviations + counts * (means - mean).square()).sum(0) / total
        scale = (variance + eps).rsqrt()
        normalized = (full - _by_channel(mean, full)) * _by_channel(scale, full)
        ctx.save_for_backward(normalized, weight, scale, total)
        ctx.team = team
        outputs = normalized * _by_channel(weight, full) + _by_channel(bias, full)
        ctx.mark_non_differentiable(mean, variance, total)
        return outputs.to(x.dtype), mean, variance, total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        normalized, weight, scale, total = ctx.saved_tensors
        gradient = _at_least_float(gradients[0])
        by_bias = gradient.sum(dim=(0, 2, 3))
        by_weight = (gradient * normalized).sum(dim=(0, 2, 3))
        of_all = ctx.team.all_reduce_sum(torch.cat([by_bias, by_weight]).double()) / total
        by_mean, by_scale = (_by_channel(each, gradient) for each in of_all.chunk(2))
        by_x = (gradient - by_mean - normalized * by_scale) * _by_channel(scale * weight, gradient)
        # Those by weight and bias are this process's share, as all of the student's are.
        return by_x.to(gradients[0].dtype), by_weight, by_bias, None, None


def _at_least_float(x: Tensor) -> Tensor:
    """As it is, or float32 where it is of less."""
    return x if x.dtype == torch.float64 else x.float()


def _by_channel(values: Tensor, like: Tensor) -> Tensor:
    """[c] -> [1, c, 1, 1]."""
    return values.to(like.dtype)[None, :, None, None]


class SyncDropout(nn.Dropout):
    """Dropout that draws for the images of all processes and applies it to this one's.

    Args:
        p: probability that a unit is dropped.
        team: the processes.
        batch: how many images they have together.
    """

    def __init__(self, p: float, team: Team, batch: GlobalBatch) -> None:
        super().__init__(p)
        self._team = team
        self._batch = batch

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """[b, ...] -> [b, ...]."""
        if not self.training or self.p == 0:
            return input
        last = input.dim() == 4 and input.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if last else torch.contiguous_format
        ones = input.new_ones(self._batch.size, *input.shape[1:]).contiguous(memory_format=layout)
        return input * functional.dropout(ones, self.p)[self._team.shard(self._batch.size)]
