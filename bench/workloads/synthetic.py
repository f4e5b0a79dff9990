"""Training on random data that is resident on the device, so that nothing but the step is timed.

The models differ in their ratio of compute to communication; their sizes are options. In the model ``emulated`` the
compute of a step is a wait of a given length, while gradients are real and exchanged: with it more ranks than cores can
be studied. Its numbers are flagged, and never compared with measured compute.
"""

from __future__ import annotations

import time
from typing import Any, Literal

from pydantic import Field, model_validator

from bench.core.case import Case
from bench.plugins.backend import Options, Session
from bench.plugins.workload import Work, Workload
from bench.workloads.step.options import StepOptions
from bench.workloads.training import Training

POOL_BATCHES = 4
EMULATED_LAYERS = 8
COMPUTE_OPTIONS = ("precision", "autocast", "compile", "cuda_graph", "channels_last", "recompute")


class SyntheticOptions(StepOptions):
    model: Literal["mlp", "toy", "transformer", "convnet", "emulated"] = Field("mlp", description="what is trained")
    hidden: int = Field(1024, ge=1, description="mlp: width of the hidden layer (784→hidden→10)")
    width: int = Field(128, ge=8, description="transformer: size of an embedding")
    heads: int = Field(4, ge=1, description="transformer: attention heads; must divide width")
    layers: int = Field(2, ge=1, description="transformer, convnet: how many blocks")
    sequence: int = Field(32, ge=2, description="transformer: tokens in a sample")
    vocabulary: int = Field(1000, ge=2, description="transformer: different tokens")
    unit: Literal["samples", "tokens"] = Field("samples", description="what rates count; tokens: of the transformer")
    dropout: float = Field(0.0, ge=0, lt=1, description="transformer: the probability that an activation is left out")
    channels: int = Field(32, ge=1, description="convnet: channels of a block")
    image: int = Field(16, ge=4, description="convnet: height and width of an image, in pixels")
    compute_ms: float = Field(20.0, ge=0, description="emulated: the wait that stands for the compute of one batch")
    parameters: int = Field(814_090, ge=EMULATED_LAYERS, description="emulated: how many gradients are exchanged")

    @model_validator(mode="after")
    def _heads_divide(self) -> SyntheticOptions:
        if self.width % self.heads:
            raise ValueError(f"{self.heads} heads do not divide width {self.width}")
        return self

    def unsupported_reason(self, case: Case) -> str | None:
        if self.model == "emulated" and (
            changed := [name for name in COMPUTE_OPTIONS if name in case.workload_options]
        ):
            return f"{changed[0]} changes how a model computes, and the compute of model=emulated is a wait"
        if self.channels_last and self.model != "convnet":
            return f"channels_last: model={self.model} has no images; model=convnet has"
        if self.recompute == "blocks" and self.model == "toy":
            return "recompute=blocks: model=toy is a single layer, and has no blocks"
        if self.unit == "tokens" and self.model != "transformer":
            return f"unit=tokens: model={self.model} has no tokens; model=transformer has"
        return super().unsupported_reason(case)


class PoolFeed:
    """A few batches that are on the device from the start, used in turn."""

    def __init__(self, inputs: Any, targets: Any, global_batch: int, session: Session) -> None:
        self.batches = []
        for number in range(POOL_BATCHES):
            own_rows = slice(number * global_batch + session.rank, (number + 1) * global_batch, session.world)
            self.batches.append((inputs[own_rows].to(session.device), targets[own_rows].to(session.device), own_rows))
        self.batches_taken = 0

    def next(self) -> tuple[Any, Any]:
        batch = self.batches[self.batches_taken % POOL_BATCHES]
        self.batches_taken += 1
        return batch[0], batch[1]

    def last_samples(self) -> tuple[int, ...]:
        own_rows = self.batches[(self.batches_taken - 1) % POOL_BATCHES][2]
        return tuple(range(own_rows.start, own_rows.stop, own_rows.step))


def _mlp(options: SyntheticOptions, samples: int) -> tuple[Any, Any, Any, Any]:
    import torch
    from torch import nn

    model = nn.Sequential(nn.Linear(784, options.hidden), nn.ReLU(), nn.Linear(options.hidden, 10))
    return model, nn.CrossEntropyLoss(), torch.randn(samples, 784), torch.randint(0, 10, (samples,))


def _toy(options: SyntheticOptions, samples: int) -> tuple[Any, Any, Any, Any]:
    import torch
    from torch import nn

    return nn.Linear(10, 10), nn.MSELoss(), torch.randn(samples, 10), torch.randn(samples, 10)


def _transformer(options: SyntheticOptions, samples: int) -> tuple[Any, Any, Any, Any]:
    import torch
    from torch import nn

    block = nn.TransformerEncoderLayer(
        options.width, options.heads, 4 * options.width, dropout=options.dropout, batch_first=True, norm_first=True
    )
    model = nn.Sequential(
        nn.Embedding(options.vocabulary, options.width),
        nn.TransformerEncoder(block, options.layers, enable_nested_tensor=False),
        nn.Linear(options.width, options.vocabulary),
    )
    tokens = torch.randint(0, options.vocabulary, (samples, options.sequence + 1))
    cross_entropy = nn.CrossEntropyLoss()

    def loss_of(scores: Any, targets: Any) -> Any:
        return cross_entropy(scores.flatten(0, 1), targets.flatten())

    return model, loss_of, tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


def _convnet(options: SyntheticOptions, samples: int) -> tuple[Any, Any, Any, Any]:
    import torch
    from torch import nn

    # Group norm, not batch norm: batch statistics would make the work depend on how the batch is sharded.
    blocks: list[Any] = []
    for number in range(options.layers):
        in_channels = 3 if number == 0 else options.channels
        convolution = nn.Conv2d(in_channels, options.channels, 3, padding=1)
        blocks += [convolution, nn.GroupNorm(1, options.channels), nn.ReLU()]
    model = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(options.channels, 10))
    images = torch.randn(samples, 3, options.image, options.image)
    return model, nn.CrossEntropyLoss(), images, torch.randint(0, 10, (samples,))


class CompensatedSleep:
    """Waits whose sum is exact: the excess of one wait is subtracted from the next."""

    def __init__(self) -> None:
        self.overslept_s = 0.0

    def wait(self, seconds: float) -> None:
        began = time.perf_counter()
        sleep_s = seconds - self.overslept_s
        if sleep_s > 0:
            time.sleep(sleep_s)
        self.overslept_s = time.perf_counter() - began - sleep_s


def _emulated(options: SyntheticOptions, samples: int, share: float) -> tuple[Any, Any, Any, Any]:
    """Layers whose forward and backward pass wait, a third and two thirds of ``compute_ms`` × ``share``.

    Layer l computes h + h·mean(w_l); its weight gradient is dense, depends on the samples, and is ready as soon as
    the layer's backward pass is, so that a backend can overlap the exchange as with a real model.
    """
    import torch
    from torch import nn

    sleeper = CompensatedSleep()
    forward_s = options.compute_ms / 1e3 * share / 3 / EMULATED_LAYERS

    class EmulatedLayer(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, activations: Any, weights: Any) -> Any:
            context.save_for_backward(activations, weights)
            sleeper.wait(forward_s)
            return activations + activations * weights.mean()

        @staticmethod
        def backward(context: Any, gradient: Any) -> Any:
            activations, weights = context.saved_tensors
            sleeper.wait(2 * forward_s)
            weight_gradient = (gradient * activations).sum() / weights.numel()
            return gradient * (1 + weights.mean()), weight_gradient.expand_as(weights).contiguous()

    class Layers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer_size, remainder = divmod(options.parameters, EMULATED_LAYERS)
            sizes = [layer_size + (number < remainder) for number in range(EMULATED_LAYERS)]
            self.weights = nn.ParameterList([nn.Parameter(torch.zeros(size)) for size in sizes])

        def forward(self, activations: Any) -> Any:
            for weights in self.weights:
                activations = EmulatedLayer.apply(activations, weights)
            return activations

    def loss_of(activations: Any, targets: Any) -> Any:
        return (activations * targets).mean()

    return Layers(), loss_of, torch.rand(samples, 1), torch.rand(samples, 1)


class Synthetic(Workload):
    name = "synthetic"
    summary = "train on random resident data: mlp, toy, transformer, convnet or emulated"
    options = SyntheticOptions
    keeps_results = True

    def flags(self, options: Options) -> tuple[str, ...]:
        assert isinstance(options, SyntheticOptions)
        return ("emulated_compute",) if options.model == "emulated" else ()

    def build(self, case: Case, session: Session) -> Work:
        import torch

        options = SyntheticOptions(**case.workload_options)
        torch.manual_seed(case.seed)
        samples = POOL_BATCHES * case.global_batch
        if options.model == "emulated":
            # The reference of the same-work check needs results and no waits; it has a session of another size.
            share = 0.0 if session.world != case.ranks else case.local_batch / case.batch / options.accumulate
            components = _emulated(options, samples, share)
        else:
            makers = {"mlp": _mlp, "toy": _toy, "transformer": _transformer, "convnet": _convnet}
            components = makers[options.model](options, samples)
        model, loss_of, inputs, targets = components
        feed = PoolFeed(inputs, targets, case.global_batch, session)
        work = Training(session, model, loss_of, feed, case.global_batch, options=options)
        if options.unit == "tokens":
            work.unit, work.amount_per_step = "tokens", case.global_batch * options.sequence
        return work


WORKLOAD = Synthetic()
