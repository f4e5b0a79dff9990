"""``WORKLOAD = TrainingWorkload(name="lm", model=…, loss=…, data=…)``: the workload of a user's own model."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from bench.core.bounds import amount_problem, unit_problem
from bench.core.case import Case
from bench.plugins.backend import Session
from bench.plugins.workload import Work, Workload
from bench.workloads.own_model.batches import describe_batch, leaves_of
from bench.workloads.own_model.checks import (
    check_declared,
    check_gradients,
    check_model,
    check_optimizer,
    check_schedule,
)
from bench.workloads.own_model.feeds import DataFeed, Share, make_feed
from bench.workloads.own_model.functions import call
from bench.workloads.own_model.loss import ModelTraining, as_batch_loss, takes_pair
from bench.workloads.own_model.options import OWN, with_defaults
from bench.workloads.step.execution import autocast
from bench.workloads.training import StepOptions


class TrainingWorkload(Workload):
    """Trains a user's own model by the step that all training workloads share.

    Each of the functions runs in a rank, and gets what its parameters name: ``options`` (of the case) or ``seed`` (the
    same on all ranks); ``data`` may take ``batch`` too, the samples in a step of all ranks. The random numbers of
    Python, NumPy and torch are seeded before ``model`` and before ``data``.

    Args:
        name: The name of the workload.
        model: Returns the ``torch.nn.Module`` to train: a function or a class. Its output for a sample must not depend
            on the other samples of the batch (no batch normalization).
        loss: ``loss(outputs, targets)`` where a batch is a pair of inputs and targets; ``loss(model, batch)`` for any
            other. Returns the mean over the samples, a scalar tensor.
        data: Any of

            - a tensor, or a tuple or dictionary of tensors (or arrays), whose rows are the samples: they are on the
              device from the start;
            - a map-style Dataset: ``dataset[number]`` is a sample, ``len(dataset)`` how many there are; lists too;
            - an iterable of batches, such as a DataLoader or an IterableDataset: each rank reads all of it and takes
              its share of each global batch, for which batches are joined and cut as needed;
            - a function that returns one of these, or an iterator over batches.

            Of a global batch, rank r of N takes every N-th sample from the r-th on. After a pass the next one begins;
            the samples that are left at its end, fewer than a global batch, are left out.
        optimizer: ``optimizer(parameters)`` returns a ``torch.optim.Optimizer`` over them; or the name of one of
            :data:`bench.workloads.training.OPTIMIZERS`; ``None``: the default of ``options``.
        schedule: ``schedule(optimizer)`` returns a ``torch.optim.lr_scheduler.LRScheduler`` that advances by each step;
            ``None``: the learning rate is constant.
        unit: What is counted: one word, such as ``samples`` or ``tokens``.
        count: ``count(batch)`` returns how much of it a global batch holds; ``None``: for ``tokens`` the elements of
            the first tensor of a batch, integers of shape ``(samples, length)``, for anything else the samples.
        options: The options of the workload, a subclass of :class:`bench.workloads.training.StepOptions`. Each is an
            axis of a sweep.
        summary: One line for lists; ``""``: the first line of the file's docstring.
        shuffle: Whether each pass over tensors or a Dataset has another order, drawn as by torch's DistributedSampler.
        collate: Makes a batch of a list of samples of a Dataset; ``None``: torch's ``default_collate``.
        defaults: Defaults of options, such as ``accumulate=4``.

    Raises:
        TypeError: An argument is of another kind.
        ValueError: An option's default is refused, or the unit is no word.
    """

    def __init__(
        self,
        name: str,
        model: Callable[..., Any],
        loss: Callable[..., Any],
        data: Any,
        optimizer: Callable[..., Any] | str | None = None,
        *,
        schedule: Callable[..., Any] | None = None,
        unit: str = "samples",
        count: Callable[[Any], float] | None = None,
        options: type[StepOptions] = StepOptions,
        summary: str = "",
        shuffle: bool = True,
        collate: Callable[[list[Any]], Any] | None = None,
        **defaults: Any,
    ) -> None:
        check_declared(model, loss, data, optimizer, schedule, count, collate, options)
        if problem := unit_problem(unit):
            raise ValueError(f"unit {problem}")
        caller = sys._getframe(1)
        self.file = caller.f_code.co_filename
        document = str(caller.f_globals.get("__doc__") or "").strip().partition("\n")[0].rstrip(".")
        self.name, self.summary = name, summary or document or f"train {name}, a model of the user's own"
        self.model, self.loss, self.data, self.schedule = model, loss, data, schedule
        self.unit, self.count, self.shuffle, self.collate = unit, count, shuffle, collate
        self.make_optimizer = optimizer if callable(optimizer) else None
        if isinstance(optimizer, str):
            defaults["optimizer"] = optimizer
        self.options = with_defaults(options, defaults, has_own_optimizer=self.make_optimizer is not None)

    def build(self, case: Case, session: Session) -> Work:
        import torch

        options: Any = self.options(**case.workload_options)
        offered = {"options": options, "seed": case.seed}
        seed_random_numbers(case.seed)
        model = check_model(call(self.model, "model", **offered), session.device)
        feed = self._feed(case, options, session)
        loss = as_batch_loss(self.loss, session.device, offered)

        def loss_in_precision(model: Any, batch: Any) -> Any:
            with autocast(options, session.device):
                return loss(model, batch)

        # Looking at a batch draws none of the random numbers of the training.
        with torch.random.fork_rng(devices=[] if session.device == "cpu" else [session.device]):
            check_gradients(model, loss_in_precision, feed.peek(), session, self.file, is_pair=takes_pair(self.loss))
        return ModelTraining(
            session,
            model,
            loss,
            feed,
            self.unit,
            self._amount(case, options, feed.peek(), session),
            global_batch=case.global_batch,
            options=options,
            make_optimizer=partial(self._optimizer, offered) if options.optimizer == OWN else None,
            make_schedule=partial(self._schedule, offered) if self.schedule else None,
        )

    def _feed(self, case: Case, options: Any, session: Session) -> DataFeed:
        def make() -> Any:
            seed_random_numbers(case.seed)
            if not is_function(self.data):
                return self.data
            return call(self.data, "data", options=options, seed=case.seed, batch=case.global_batch)

        share = Share(
            session.rank,
            session.world,
            session.device,
            case.global_batch,
            case.seed,
            shuffle=self.shuffle,
            workers=options.workers,
            collate=self.collate,
        )
        return make_feed(make, share)

    def _optimizer(self, offered: dict[str, Any], parameters: Any) -> Any:
        assert self.make_optimizer is not None
        own = list(parameters)
        return check_optimizer(call(self.make_optimizer, "optimizer", own, **offered), own)

    def _schedule(self, offered: dict[str, Any], optimizer: Any) -> Any:
        assert self.schedule is not None
        return check_schedule(call(self.schedule, "schedule", optimizer, **offered))

    def _amount(self, case: Case, options: Any, batch: Any, session: Session) -> float:
        """How much a step of all ranks counts, in the unit."""
        if self.count is not None:
            whole = self._feed(case, options.model_copy(update={"workers": 0}), Session()).peek()
            amount = self.count(whole)
            if problem := amount_problem(amount):
                raise ValueError(f"count(batch) {problem}")
            return float(amount)
        if self.unit != "tokens":
            return float(case.global_batch)
        tokens = leaves_of(batch)[0]
        if tokens.ndim != 2 or tokens.is_floating_point():
            raise ValueError(
                f"the first tensor of a batch is {describe_batch(tokens)}, not integers of shape (samples, length): "
                "say how many tokens a batch has by count=lambda batch: …"
            )
        return float(tokens.numel() * session.world)


def is_function(data: Any) -> bool:
    """Whether data is to be called for the data: a function, or a class."""
    return isinstance(data, type) or (
        callable(data) and not hasattr(data, "__getitem__") and not hasattr(data, "__iter__")
    )


def seed_random_numbers(seed: int) -> None:
    """Seed the generators that the functions of a user's file may draw from."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
