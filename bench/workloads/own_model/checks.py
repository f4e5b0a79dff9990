"""Checks of what a user's file declares, and of what its functions return: each mistake is named before it is measured.

The loss and its gradients are taken of two samples, then of the rank's whole batch where that leaves something open,
before the model is made parallel: what fails there is the file's, not a backend's.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from bench.core.text import one_line
from bench.plugins.backend import Session
from bench.plugins.sources import describe_problem
from bench.rank.tensors import sample_count, take_rows
from bench.workloads.own_model.batches import describe_batch
from bench.workloads.own_model.functions import shown
from bench.workloads.training import StepOptions

FEW_SAMPLES = 2
MAX_NAMES = 4

BatchLoss = Callable[[Any, Any], Any]
"""``loss(model, batch)`` → the mean loss over the samples, a scalar tensor."""


def check_declared(
    model: Any, loss: Any, data: Any, optimizer: Any, schedule: Any, count: Any, collate: Any, options: Any
) -> None:
    """Raise :class:`TypeError` for an argument of another kind than :class:`TrainingWorkload` takes. Loads no torch."""
    if hasattr(model, "parameters") and not isinstance(model, type):
        raise TypeError(
            "model is made when the file is imported, before the random numbers are seeded: give what makes it, as "
            "model=lambda: …"
        )
    if isinstance(loss, type):
        raise TypeError(f"loss is the class {loss.__name__}: give an instance of it, {loss.__name__}()")
    if hasattr(optimizer, "param_groups"):
        raise TypeError("optimizer is made already: give what makes it, as optimizer=lambda parameters: …")
    if hasattr(data, "__next__"):
        raise TypeError(
            "data is an iterator, which can be read once: give what makes it, as data=lambda: …, or an iterable"
        )
    if not any(hasattr(data, name) for name in ("__call__", "__getitem__", "__iter__")) or isinstance(
        data, str | bytes
    ):
        raise TypeError(f"data is {shown(data)}; it is tensors, a Dataset, an iterable of batches, or a function")
    required = {"model": model, "loss": loss}
    optional = {"schedule": schedule, "count": count, "collate": collate}
    if not isinstance(optimizer, str):
        optional["optimizer"] = optimizer
    for name, value in (required | {name: value for name, value in optional.items() if value is not None}).items():
        if not callable(value):
            raise TypeError(f"{name} is {shown(value)}; it is a function")
    if not (isinstance(options, type) and issubclass(options, StepOptions)):
        raise TypeError(f"options is {shown(options)}; it is a class that derives from StepOptions")


def check_model(model: Any, device: str) -> Any:
    """The model on the device. Raises :class:`TypeError` or :class:`ValueError` for what can't be trained there."""
    import torch

    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model returns {shown(model)}; it returns a torch.nn.Module")
    on_meta = [name for name, parameter in model.named_parameters() if parameter.is_meta]
    if on_meta:
        raise ValueError(f"the model's {name_some(on_meta)} on the meta device, without values: make it without it")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("the model has no parameter to train")
    return model.to(device)


def check_optimizer(optimizer: Any, parameters: Sequence[Any]) -> Any:
    """The optimizer, if it is one over nothing but these parameters."""
    from torch.optim import Optimizer

    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer returns {shown(optimizer)}; it returns a torch.optim.Optimizer")
    if needs_closure(optimizer.step):
        raise TypeError(
            f"the step of {type(optimizer).__name__} takes a closure that computes the loss: a step here gives none"
        )
    own = {id(parameter) for parameter in parameters}
    updated = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    foreign = sum(id(parameter) not in own for parameter in updated)
    if foreign:
        raise ValueError(
            f"the optimizer updates {foreign} parameters that are not the trained model's: make it over the "
            "`parameters` that it gets"
        )
    return optimizer


def needs_closure(step: Callable[..., Any]) -> bool:
    """Whether a step can't be taken without an argument."""
    parameters = inspect.signature(step).parameters.values()
    return any(one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD for one in parameters)


def check_schedule(schedule: Any) -> Any:
    """The schedule, if it advances by steps alone."""
    from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

    if isinstance(schedule, ReduceLROnPlateau):
        raise TypeError("schedule returns a ReduceLROnPlateau, which goes by a validation loss: none is measured here")
    if not isinstance(schedule, LRScheduler):
        raise TypeError(f"schedule returns {shown(schedule)}; it returns a torch.optim.lr_scheduler.LRScheduler")
    return schedule


def check_gradients(model: Any, loss: BatchLoss, batch: Any, session: Session, file: str, *, is_pair: bool) -> None:
    """Take the loss of the first samples, and its gradients. The model is as it was before.

    Args:
        model: On the session's device.
        loss: The loss of the model and a batch, in the precision of the step.
        batch: Of this rank.
        session: The group of ranks.
        file: The user's file, of which a line is named.
        is_pair: Whether the loss takes batches of inputs and targets.

    Raises:
        TypeError: The loss is no tensor, or the batch is none that it takes.
        ValueError: The loss is no mean, or the backend waits for gradients that there are not.
        RuntimeError: Model or loss can't take the batch.
    """
    if is_pair and not (isinstance(batch, tuple | list) and len(batch) == 2):
        raise TypeError(
            f"loss(outputs, targets) takes batches of inputs and targets; those of data are {describe_batch(batch)}: "
            "give loss(model, batch)"
        )
    unused = _without_gradient(model, loss, take_rows(batch, slice(0, FEW_SAMPLES)), session.device, file)
    if unused and session.unused_parameters_remedy and sample_count(batch) > FEW_SAMPLES:
        unused = _without_gradient(model, loss, batch, session.device, file)
    if unused and session.unused_parameters_remedy:
        raise ValueError(
            f"the loss of a batch does not depend on the model's {name_some(unused)}, and the exchange waits for the "
            f"gradients of all parameters: freeze them (requires_grad_(False)), or {session.unused_parameters_remedy}"
        )


def _without_gradient(model: Any, loss: BatchLoss, batch: Any, device: str, file: str) -> list[str]:
    """The trained parameters that get no gradient from a batch."""
    import torch

    buffers = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    try:
        value = loss(model, batch)
    except Exception as problem:
        raise _failure(batch, device, problem, file) from problem
    check_loss(value)
    try:
        value.backward()
    except Exception as problem:
        raise _failure(batch, device, problem, file) from problem
    unused = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    model.zero_grad(set_to_none=True)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name in buffers:
                buffer.copy_(buffers[name])
    return unused


def check_loss(value: Any) -> None:
    """Raise :class:`TypeError` or :class:`ValueError` where it is no scalar tensor that can be differentiated."""
    import torch

    if value is None:
        raise TypeError("loss returns None; it returns a tensor: is its `return` missing?")
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"loss returns {shown(value)}; it returns a tensor, as it is before .item()")
    if value.numel() != 1:
        raise ValueError(
            f"loss returns a tensor of shape {tuple(value.shape)}; it returns the mean over the samples, one number: "
            ".mean(), or reduction='mean'"
        )
    if not value.is_floating_point():
        raise ValueError(f"loss returns {str(value.dtype).removeprefix('torch.')}; it returns a floating-point number")
    if not value.requires_grad:
        raise ValueError(
            "loss returns a number that does not depend on a trained parameter: it, or the model's output, was "
            "detached, or all parameters are frozen"
        )


def _failure(batch: Any, device: str, problem: Exception, file: str) -> RuntimeError:
    remedy = ""
    if "same device" in str(problem) or "expected device" in str(problem):
        remedy = f"; make what is not on {device} a buffer (register_buffer), or make it where the input is"
    described = describe_problem(problem, file)
    return RuntimeError(f"model and loss fail on a batch of {describe_batch(batch)}: {described}{remedy}")


def name_some(names: Sequence[str]) -> str:
    """``head.weight, head.bias``, and how many more there are."""
    further = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return f"{', '.join(one_line(name, 60) for name in names[:MAX_NAMES])}{further}"
