"""The options of a training step, which all training workloads share, and what rules a combination of them out."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from bench.core.case import Case, Scalar
from bench.plugins.backend import Options

Precision = Literal["float32", "tf32", "bf16", "fp16"]
CompileMode = Literal["none", "default", "reduce-overhead"]


class StepOptions(Options):
    """The options of a training step; those of a training workload derive from it."""

    execution: ClassVar[Mapping[str, Scalar | None]] = MappingProxyType(
        {"compile": "none", "cuda_graph": False, "channels_last": False, "recompute": "none"}
    )
    after_window: ClassVar[tuple[str, ...]] = ("checkpoint", "checkpoint_folder")
    """Options of what is measured after the window: the throughput does not depend on them."""

    optimizer: Literal["sgd", "adam", "adamw", "rmsprop"] = Field("sgd", description="sgd has a momentum of 0.9")
    accumulate: int = Field(1, ge=1, description="backward passes in a step, each of an equal part of a rank's batch")
    clip: float | None = Field(None, gt=0, description="the gradient's norm is clipped to this, after the exchange")
    precision: Precision = Field(
        "float32",
        description="of the forward and backward pass: bf16 and fp16 by torch.autocast, fp16 with a GradScaler; "
        "tf32: float32 products of TensorFloat-32 on CUDA",
    )
    compile: CompileMode = Field("none", description="the mode of torch.compile; reduce-overhead on CUDA")
    cuda_graph: bool = Field(False, description="a step is captured as a CUDA graph, its exchange too, and replayed")
    channels_last: bool = Field(False, description="images and convolutions have the channels as their last dimension")
    recompute: Literal["none", "blocks"] = Field(
        "none", description="blocks: activations inside each block are recomputed in the backward pass, not kept"
    )
    checkpoint: Literal["none", "blocking", "async", "distributed"] = Field(
        "none", description="measure after the window what saving model and optimizer costs"
    )
    checkpoint_folder: str = Field(
        "", pattern=r"^(/.*)?$", description="an existing folder to save into, by its absolute path; else the trial's"
    )
    autocast: Literal["off", "bf16"] = Field("off", description="bf16: an older name of precision=bf16")

    @model_validator(mode="after")
    def _one_name(self) -> Self:
        if self.autocast != "off" and self.precision != "float32":
            raise ValueError("autocast is an older name of precision: leave it out")
        return self

    @property
    def computed_in(self) -> Precision:
        """The precision, by whichever name it was given."""
        return "bf16" if self.autocast == "bf16" else self.precision

    def unsupported_reason(self, case: Case) -> str | None:
        if case.local_batch % self.accumulate:
            return f"accumulate={self.accumulate} does not divide the {case.local_batch} samples of a rank"
        on_cuda = case.device == "cuda"
        reasons = {
            "precision=tf32 is a mode of NVIDIA's GPUs, which a CPU lacks": self.precision == "tf32" and not on_cuda,
            "cuda_graph needs --device cuda": self.cuda_graph and not on_cuda,
            "compile=reduce-overhead replays CUDA graphs, which a CPU lacks: there it is compile=default": (
                self.compile == "reduce-overhead" and not on_cuda
            ),
            "cuda_graph captures a model that is not compiled: compile=reduce-overhead captures its own": (
                self.cuda_graph and self.compile != "none"
            ),
            "cuda_graph can't capture recompute=blocks: it restores the state of random numbers on the host": (
                self.cuda_graph and self.recompute != "none"
            ),
        }
        return next((reason for reason, applies in reasons.items() if applies), None)

    def unavailable_reason(self, case: Case) -> str | None:
        if self.compile == "none":
            return None
        if case.device == "cuda":
            missing = importlib.util.find_spec("triton") is None
            return f"compile={self.compile} needs Triton: `pip install triton`" if missing else None
        compiler = os.environ.get("CXX", "g++")
        if shutil.which(compiler) is None:
            return f"compile={self.compile} needs a C++ compiler, and there is no {compiler}: install one, or set CXX"
        if not Path(sysconfig.get_path("include"), "Python.h").is_file():
            return f"compile={self.compile} needs Python's headers (Python.h): install the package python3-dev"
        return None
