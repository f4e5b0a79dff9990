"""One node of a trial beyond the harness's machine. (Being written.)"""

from __future__ import annotations

from bench import sampler
from bench.backends import Backend
from bench.case import Case, Role


def roles_of(case: Case, backend: Backend) -> tuple[Role, ...]:
    """What the backend needs, and a sampler where the case is to be watched."""
    return (*backend.launch(case), *((sampler.ROLE,) if case.telemetry != "off" else ()))
