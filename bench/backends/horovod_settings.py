"""Horovod's parameters: options of the backend, environment variables, and the settings in force. All is pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

from pydantic import Field

from bench.core.rank_info import RankInfo
from bench.core.records import MIB
from bench.plugins.backend import Options

# The defaults of Horovod 0.28.1 (horovod/common/operations.cc, BackgroundThreadLoop).
DEFAULT_CYCLE_TIME_MS = 1.0
DEFAULT_FUSION_MB = 128.0
DEFAULT_CACHE_CAPACITY = 1024
HOROVOD_DEFAULT = "Horovod's default"
AUTOTUNE_VARIABLE = "HOROVOD_AUTOTUNE"


class HorovodOptions(Options):
    compression: Literal["none", "fp16"] = Field("none", description="send gradients as they are, or as float16")
    cycle_time_ms: float | None = Field(None, gt=0, description="how often queued tensors are exchanged, in ms")
    fusion_mb: float | None = Field(None, ge=0, description="tensors are fused into messages of up to this many MiB")
    cache_capacity: int | None = Field(None, ge=0, description="responses that the controller remembers; 0 is off")


class Tunable(NamedTuple):
    """A parameter that an option, an environment variable, or Horovod's autotuning sets."""

    option: float | None
    variable: str
    default: float
    unit: float = 1
    """Of the option, in the unit of the variable."""

    def in_force(self, env: Mapping[str, str]) -> tuple[float | None, str]:
        """The value, ``None`` where Horovod tunes it, and what set it: nothing for the option."""
        if self.option is not None:
            return self.option, ""
        if self.variable in env:
            return _leading_number(env[self.variable]) / self.unit, self.variable
        return (None, AUTOTUNE_VARIABLE) if is_autotuned(env) else (self.default, HOROVOD_DEFAULT)


def tunables(options: HorovodOptions) -> dict[str, Tunable]:
    """The parameters by the names of their options (pure)."""
    return {
        "cycle_time_ms": Tunable(options.cycle_time_ms, "HOROVOD_CYCLE_TIME", DEFAULT_CYCLE_TIME_MS),
        "fusion_mb": Tunable(options.fusion_mb, "HOROVOD_FUSION_THRESHOLD", DEFAULT_FUSION_MB, MIB),
        "cache_capacity": Tunable(options.cache_capacity, "HOROVOD_CACHE_CAPACITY", DEFAULT_CACHE_CAPACITY),
    }


def is_autotuned(env: Mapping[str, str]) -> bool:
    """Whether Horovod changes its parameters while it runs, but those that are given (pure)."""
    return _leading_number(env.get(AUTOTUNE_VARIABLE, "")) > 0


def _leading_number(text: str) -> float:
    """As C's ``strtod``, by which Horovod reads its variables: 0 where the text does not begin with a number."""
    number = re.match(r"\s*[+-]?\d+(\.\d*)?", text)
    return float(number[0]) if number else 0.0


def effective_settings(
    options: HorovodOptions, transport: str, version: str, env: Mapping[str, str] = MappingProxyType({})
) -> dict[str, str]:
    """The settings in force, each with what set it unless an option did (pure).

    Args:
        options: The options of the backend.
        transport: ``gloo``, ``mpi`` or ``nccl``.
        version: Horovod's version.
        env: The environment variables that the rank inherited.
    """

    def described(value: float | None, source: str) -> str:
        if value is None:
            return f"tuned by Horovod ({source})"
        return f"{value:g} ({source})" if source else f"{value:g}"

    return {
        "horovod": version,
        "transport": transport,
        "compression": options.compression,
        **{name: described(*tunable.in_force(env)) for name, tunable in tunables(options).items()},
    }


def environment_variables(
    options: HorovodOptions,
    transport: str,
    me: RankInfo,
    interface: str | None,
    *,
    timeout_s: int,
    from_horovodrun: bool = False,
) -> dict[str, str | None]:
    """Horovod's environment variables for this rank (pure); ``None`` unsets a variable.

    A parameter whose option is not given is left to the variable that the rank inherited, or to Horovod's default.

    Args:
        options: The options of the backend.
        transport: ``gloo``, ``mpi`` or ``nccl``.
        me: The number of this rank, and the address where rank 0 is met.
        interface: The network interface for Gloo.
        timeout_s: How long Horovod may wait for other ranks, in seconds: by itself it gives up after 30 s.
        from_horovodrun: horovodrun has set the variables about ranks and rendezvous already.
    """
    found: dict[str, str | None] = {
        tunable.variable: f"{tunable.option * tunable.unit:.12g}"
        for tunable in tunables(options).values()
        if tunable.option is not None
    }
    # 0: ranks that miss others warn, and do not end themselves.
    found |= {"HOROVOD_GLOO_TIMEOUT_SECONDS": str(timeout_s), "HOROVOD_STALL_SHUTDOWN_TIME_SECONDS": "0"}
    if from_horovodrun:
        return found
    if transport == "mpi":
        return found | {"HOROVOD_CONTROLLER": "mpi", "HOROVOD_CPU_OPERATIONS": "mpi"}
    host = me.rank // me.local_world
    return found | {
        "HOROVOD_CONTROLLER": "gloo",
        "HOROVOD_CPU_OPERATIONS": "gloo",
        "HOROVOD_GLOO_IFACE": interface,
        "HOROVOD_GLOO_RENDEZVOUS_ADDR": me.rendezvous_host,
        "HOROVOD_GLOO_RENDEZVOUS_PORT": str(me.rendezvous_port),
        "HOROVOD_HOSTNAME": f"host-{host}",
        "HOROVOD_RANK": str(me.rank),
        "HOROVOD_SIZE": str(me.world),
        "HOROVOD_LOCAL_RANK": str(me.local_rank),
        "HOROVOD_LOCAL_SIZE": str(me.local_world),
        "HOROVOD_CROSS_RANK": str(host),
        "HOROVOD_CROSS_SIZE": str(me.world // me.local_world),
    }
