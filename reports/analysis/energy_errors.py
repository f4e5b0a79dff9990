"""By how much the energy of a trial may be wrong, beside what its intervals over trials show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat

from bench.core.frozen_model import FrozenModel
from bench.core.records import RankRecord
from bench.core.telemetry import HOST, NodeTelemetry
from reports.analysis.energy import window_power
from reports.analysis.energy_alias import ALIASED, alias_error
from reports.analysis.telemetry import GPU_POWER, HOST_POWER, gpus_of, ranks_by_node


class EnergyError(FrozenModel):
    """By how much a reading of energy may be wrong, as a share of it."""

    name: str
    """Of the reading: ``gpu_energy``, ``cpu_energy``."""
    ends: float
    """By the ends of the window, at most; see :mod:`reports.analysis.energy`."""
    alias: float | None = None
    """By the phase between the steps and the counter's own sampling, of steps that are idle for half of their time; see
    :mod:`reports.analysis.energy_alias`. ``None``: the counter looks at the power all the time."""

    @property
    def is_aliased(self) -> bool:
        return self.alias is not None and self.alias >= ALIASED


def energy_errors(ranks: Sequence[RankRecord], nodes: Sequence[NodeTelemetry]) -> tuple[EnergyError, ...]:
    """The errors of the readings of energy of one trial that are known: those of the worst device.

    Args:
        ranks: The records of all ranks.
        nodes: The telemetry of each node that was sampled.
    """
    here = ranks_by_node(ranks, nodes)
    gpus = [(node, gpu) for node, on_node in zip(nodes, here, strict=True) for gpu in gpus_of(node, on_node)]
    step_s = max((rank.mean_step_s for rank in ranks), default=0.0)
    ends = {
        spec.name: _worst_ends([window_power(node, device, spec.series, step_s).end_error for node, device in devices])
        for spec, devices in ((HOST_POWER, [(node, HOST) for node in nodes]), (GPU_POWER, gpus))
    }
    return tuple(
        EnergyError(name=name, ends=error, alias=max(map(_alias, ranks)) if name == GPU_POWER.name else None)
        for name, error in ends.items()
        if error is not None
    )


def worst_errors(by_trial: Iterable[Sequence[EnergyError]]) -> tuple[EnergyError, ...]:
    """The largest errors of each reading over the trials of a cell."""
    worst: dict[str, EnergyError] = {}
    for errors in by_trial:
        for error in errors:
            before = worst.get(error.name, error)
            aliases = [alias for alias in (before.alias, error.alias) if alias is not None]
            worst[error.name] = EnergyError(
                name=error.name, ends=max(before.ends, error.ends), alias=max(aliases, default=None)
            )
    return tuple(worst.values())


def _alias(rank: RankRecord) -> float:
    counts = [*repeat(rank.steps_per_entry, len(rank.step_s) - 1), rank.last_entry_steps or rank.steps_per_entry]
    return alias_error(rank.step_s, counts)


def _worst_ends(errors: Sequence[float | None]) -> float | None:
    """Unknown where it is for one device, as the energy of all is then."""
    known = [error for error in errors if error is not None]
    return max(known) if known and len(known) == len(errors) else None
