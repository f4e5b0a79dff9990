"""The training step and the order of samples, shared by all training workloads and independent of the backend."""

from __future__ import annotations

import copy
import time
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from bench.core.records import Reading
from bench.core.step_measures import MessageTiming
from bench.plugins.backend import MakeOptimizer, Session
from bench.plugins.workload import StepParts, TrainingWork
from bench.rank.tensors import chunk_batch, images_channels_last
from bench.workloads.step.execution import Execution, PeekedFeed, autocast
from bench.workloads.step.graphed_step import (
    CudaCapture,
    GraphCapture,
    GraphedStep,
    clear_state,
    holds_update,
    restore_state,
)
from bench.workloads.step.loss_scaling import LossScaler
from bench.workloads.step.optimizers import OPTIMIZERS, chosen_optimizer, torch_optimizer_of
from bench.workloads.step.options import StepOptions

NO_CONTEXT = nullcontext()

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    MakeSchedule = Callable[[Any], Any]
    """``make(optimizer) → torch.optim.lr_scheduler.LRScheduler``."""


class Feed(Protocol):
    """The batches of one rank."""

    def next(self) -> tuple[Any, Any]:
        """The next batch of this rank: inputs and targets, tensors on the session's device.

        Their first dimension is the global batch ÷ the number of ranks. With N ranks, the batches that the ranks get in
        step k together hold the samples that a session of one rank gets in step k.
        """

    def last_samples(self) -> tuple[int, ...]:
        """The sample numbers of the batch that :meth:`next` returned last, in order."""


class Training(TrainingWork):
    """Trains one model.

    Args:
        session: The group of ranks that trains it.
        model: A ``torch.nn.Module`` with the same initial parameters on every rank; it is moved to the session's
            device. Its output for a sample must not depend on the other samples of the batch (no batch normalization).
        loss_function: ``loss_function(model(inputs), targets)`` returns the mean loss of the batch, a scalar tensor.
        feed: The batches of this rank.
        global_batch: Samples in a step, of all ranks together.
        learning_rate: The step size; ``None``: that of :data:`OPTIMIZERS`.
        options: How a step is taken.
        make_optimizer: Makes another optimizer than that of ``options``.
        make_schedule: Makes a schedule of the learning rate, which advances after every step; ``None``: it is constant.
        make_capture: Makes what captures a step, where the options say that it is replayed as a graph.
    """

    def __init__(
        self,
        session: Session,
        model: Any,
        loss_function: Callable[[Any, Any], Any],
        feed: Feed,
        global_batch: int,
        learning_rate: float | None = None,
        options: StepOptions | None = None,
        make_optimizer: MakeOptimizer | None = None,
        make_schedule: MakeSchedule | None = None,
        make_capture: Callable[[], GraphCapture] = CudaCapture,
    ) -> None:
        self.options = options or StepOptions()
        self.accumulate = self.options.accumulate
        self.checkpoint, self.checkpoint_folder = self.options.checkpoint, self.options.checkpoint_folder
        local_batch = global_batch // session.world
        if local_batch % self.accumulate:
            raise ValueError(f"accumulate={self.accumulate} does not divide the {local_batch} samples of a rank")
        self.session, self.loss_function, self.feed = session, loss_function, feed
        self.execution = Execution(self.options, session)
        model = self.execution.prepare(model.to(session.device))
        capture = make_capture() if self.options.cuda_graph else None
        # Taken before the model is parallel: its parameters may be shards afterwards.
        self._gradient_bytes = tuple(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
        with capture.on_side_stream() if capture else nullcontext():
            self.model = session.parallelize(model)
        capturable = capture is not None and session.device != "cpu"
        make = make_optimizer or partial(chosen_optimizer, self.options.optimizer, learning_rate, capturable=capturable)
        self.optimizer = session.build_optimizer(self.model, make)
        torch_optimizer = torch_optimizer_of(self.optimizer)
        self.schedule = make_schedule(torch_optimizer) if make_schedule else None
        scaled = self.options.computed_in == "fp16"
        self.scaler = LossScaler(session.device, torch_optimizer, lambda: self.update()) if scaled else None
        self._parameters = None if session.sharded_units else fixed_parameters(self.model)
        self.amount_per_step = global_batch
        self.needs_warmup = self.execution.compiled is not None
        self.loss: Any = None
        """Of the last backward pass."""
        self.micro_losses: list[Any] = []
        self.micro_batches: tuple[Any, ...] = ()
        self.graph: GraphedStep | None = None
        self.updates_in_graph = False
        if capture is not None:
            self._capture(capture)

    def _capture(self, capture: GraphCapture) -> None:
        """Capture the step, from which steps are replayed in training mode; nothing that a step changes is changed."""
        self.feed = peeked = PeekedFeed(self.feed)
        optimizer = torch_optimizer_of(self.optimizer)
        # The host decides whether scaled gradients are applied, and how a learning rate goes on.
        self.updates_in_graph = self.scaler is None and self.schedule is None and holds_update(optimizer)
        self.graph = GraphedStep(capture, self._step_of_graph, self._laid_out(peeked.first), self.model)
        if self.updates_in_graph:
            clear_state(optimizer)
        if self.session.world > 1:
            self.session.no_sync_reason = "a step that is replayed as a CUDA graph can't leave out its exchange"

    def _step_of_graph(self, batch: Any) -> tuple[Any, ...]:
        """What the graph holds of a step; the losses of its backward passes."""
        self.micro_batches = self._pieces(batch)
        outside = ("data",) if self.updates_in_graph else ("data", "optimizer")
        for name, part in self._written_parts():
            if name not in outside:
                part()
        return (self.loss.detach(), *self.micro_losses)

    def parts(self) -> StepParts:
        if self.graph is None or not self.graph.applies:
            return self._written_parts()
        parts = (("data", self._load_graph), ("graph", self._replay))
        return parts if self.updates_in_graph else (*parts, ("optimizer", self._finish))

    def _load_graph(self) -> None:
        assert self.graph is not None
        self.graph.load(self.fetch())

    def _replay(self) -> None:
        assert self.graph is not None
        if self.injected_delay_s:
            time.sleep(self.injected_delay_s)
        self.graph.replay()
        self.loss, *self.micro_losses = self.graph.losses

    def _written_parts(self) -> StepParts:
        passes: list[tuple[str, Callable[[], None]]] = []
        for number in range(self.accumulate):
            passes += [("forward", partial(self._forward, number)), ("backward", partial(self._backward, number))]
        return (("data", self._prepare), *passes, ("optimizer", self._finish))

    @property
    def loss_scale(self) -> float:
        return self.scaler.scale if self.scaler else 1.0

    @property
    def arithmetic(self) -> str | None:
        return "tf32" if self.options.precision == "tf32" else None

    def fetch(self) -> Any:
        return self._laid_out(self.feed.next())

    def _laid_out(self, batch: Any) -> Any:
        return images_channels_last(batch) if self.options.channels_last else batch

    def last_samples(self) -> tuple[int, ...]:
        return self.feed.last_samples()

    def mean_loss(self, batch: Any) -> Any:
        with autocast(self.options, self.session.device):
            return self.loss_of(batch)

    def loss_of(self, batch: Any) -> Any:
        """The mean loss of a batch as the feed gives it, in the precision of the options."""
        inputs, targets = batch
        return self.loss_function(self.model(inputs), targets)

    def adjust_gradients(self) -> None:
        import torch

        if self.options.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip)

    def update(self) -> None:
        self.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()

    def last_result(self) -> Any:
        # Takes half the time of detach(), which counts after every step.
        return self.loss.data if self.accumulate == 1 else sum(self.micro_losses) / self.accumulate

    def gradient_bytes(self) -> tuple[int, ...]:
        return self._gradient_bytes

    def finish(self) -> tuple[tuple[Reading, ...], tuple[MessageTiming, ...]]:
        readings = list(self.execution.readings())
        if self.scaler:
            readings += (
                Reading(name="loss_scale", value=self.scaler.scale, unit="1"),
                Reading(name="skipped_updates", value=self.scaler.skipped, unit="1"),
            )
        return tuple(readings), ()

    @property
    def rounds_elsewhere(self) -> bool:
        return self.options.compile != "none" or self.options.channels_last

    def in_float32(self) -> AbstractContextManager[None] | None:
        return None if self.options.computed_in in ("float32", "tf32") else self._with_options(precision="float32")

    @contextmanager
    def _with_options(self, **changes: Any) -> Iterator[None]:
        options = self.options
        self.options = options.model_copy(update={"autocast": "off", **changes})
        try:
            yield
        finally:
            self.options = options

    def one_by_one(self) -> AbstractContextManager[None]:
        return self.graph.switched_off() if self.graph else self.execution.one_by_one()

    def without_recomputation(self) -> AbstractContextManager[None] | None:
        return self.execution.without_recomputation()

    def _prepare(self) -> None:
        self.micro_batches = self._pieces(self.fetch())

    def _pieces(self, batch: Any) -> tuple[Any, ...]:
        return chunk_batch(batch, self.accumulate) if self.accumulate > 1 else (batch,)

    def _forward(self, number: int) -> None:
        if number == 0:
            self._clear_gradients()
            self.micro_losses = []
        with self._exchange_after(number):
            self.loss = self.mean_loss(self.micro_batches[number])
        if self.accumulate > 1:
            self.micro_losses.append(self.loss.data)

    def _backward(self, number: int) -> None:
        if self.injected_delay_s and number == 0:
            time.sleep(self.injected_delay_s)
        with self._exchange_after(number):
            loss = self.loss / self.accumulate if self.accumulate > 1 else self.loss
            (self.scaler.scaled(loss) if self.scaler else loss).backward()

    def _clear_gradients(self) -> None:
        # Not the optimizer's zero_grad: Horovod's refuses to clear gradients that it has not exchanged.
        if self._parameters is None:
            self.model.zero_grad()
            return
        for parameter in self._parameters:
            parameter.grad = None

    def _exchange_after(self, number: int) -> AbstractContextManager[None]:
        """Only the last backward pass of a step exchanges gradients."""
        return NO_CONTEXT if number == self.accumulate - 1 else self.session.no_sync()

    def _finish(self) -> None:
        if self.scaler is None and self.options.clip is None:
            self.update()
            return
        with self.session.exchanged_gradients():
            if self.scaler:
                self.scaler.finish(self.adjust_gradients)
                return
            self.adjust_gradients()
            self.update()

    def save(self) -> Any:
        weights = [parameter.detach().clone() for parameter in self.model.parameters()]
        schedule = None if self.schedule is None else copy.deepcopy(self.schedule.state_dict())
        scaler = self.scaler.save() if self.scaler else None
        return weights, copy.deepcopy(self.optimizer.state_dict()), schedule, scaler

    def restore(self, saved: Any) -> None:
        import torch

        weights, state, schedule, scaler = saved
        with torch.no_grad():
            for parameter, weight in zip(self.model.parameters(), weights, strict=True):
                parameter.copy_(weight)
        if self.updates_in_graph:
            restore_state(self.optimizer, state)
        else:
            self.model.zero_grad()
            self.optimizer.load_state_dict(state)
        if self.schedule is not None:
            self.schedule.load_state_dict(schedule)
            # A sharded optimizer has groups of its own beside those of its state.
            for group, rate in zip(self.schedule.optimizer.param_groups, self.schedule.get_last_lr(), strict=True):
                group["lr"] = rate
        if self.scaler is not None:
            self.scaler.restore(scaler)


def fixed_parameters(model: Any) -> tuple[Any, ...] | None:
    """The parameters whose gradients a model's ``zero_grad`` clears; ``None`` where the model does that in its own way.

    To look for them in every step takes longer than all else that is done around the operations of a small model.
    """
    from torch import nn

    return tuple(model.parameters()) if type(model).zero_grad is nn.Module.zero_grad else None


def epoch_order(samples: int, seed: int, epoch: int) -> Any:
    """The order of all samples in one epoch, as torch's DistributedSampler draws it: int64 of shape ``(samples,)``."""
    import torch

    generator = torch.Generator()
    generator.manual_seed(seed + epoch)
    return torch.randperm(samples, generator=generator)


def shard_of(order: Any, rank: int, world: int, global_batch: int) -> Any:
    """This rank's samples of an epoch, in order: every ``world``-th, as DistributedSampler distributes them.

    Only whole global batches are used, so that step k takes ``order[k·B : (k+1)·B]`` at every world size: the
    samples of a step are the same, however many ranks share them.
    """
    usable = len(order) // global_batch * global_batch
    return order[rank:usable:world]


def copy_ahead(source: Any, target: Any) -> None:
    """Copy a tensor of the host to one on a device, behind what the device has yet to do: the host does not wait.

    It goes by memory that is pinned, which torch keeps for the next time, and uses again when it has been copied.
    """
    # A tensor with gaps would be copied to other memory first, for which the host waits.
    whole = source.contiguous()
    target.copy_(whole if target.device.type == "cpu" else whole.pin_memory(), non_blocking=True)


__all__ = [
    "OPTIMIZERS",
    "Feed",
    "StepOptions",
    "Training",
    "copy_ahead",
    "epoch_order",
    "shard_of",
]
