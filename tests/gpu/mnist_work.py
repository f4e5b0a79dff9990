"""The mnist workload on the only rank, as a cell of the backend `single` builds it."""

from __future__ import annotations

from bench.core.case import Case, DataSource
from bench.plugins.backend import Session
from bench.plugins.workload import Work
from bench.workloads.mnist.workload import WORKLOAD


def mnist_work(session: Session, source: DataSource, model: str, batch: int) -> Work:
    """The built work.

    Args:
        session: Of one rank.
        source: The prepared images.
        model: ``linear``, ``mlp`` or ``cnn``.
        batch: Images in a step.
    """
    case = Case(
        workload="mnist",
        backend="single",
        transport="none",
        ranks=1,
        batch=batch,
        workload_options={"model": model},
        data=source,
    )
    return WORKLOAD.build(case, session)
