"""The data of a sweep's workloads, fetched once before any rank starts."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext

from rich.console import Console
from rich.text import Text

from bench.core.case import DataSource
from bench.plugins.workload import DataProblem, Workload
from harness.errors import DataError
from harness.planning.plan import Plan


def prepare_data(found: Plan, workloads: Mapping[str, Workload], stderr_console: Console) -> Plan:
    """Fetch each workload's data once, before any rank starts; the plan's cases then name it.

    Raises :class:`DataError`.
    """
    prepared: dict[str, DataSource | None] = {}
    cases = []
    for case in found.cases:
        data_key = f"{case.workload} {sorted(case.workload_options.items())} {case.global_batch}"
        if data_key not in prepared:
            try:
                with (
                    stderr_console.status(Text(f"preparing {case.workload}'s data"))
                    if stderr_console.is_interactive
                    else nullcontext()
                ):
                    prepared[data_key] = workloads[case.workload].prepare(case)
            except DataProblem as problem:
                raise DataError(str(problem)) from None
        cases.append(case.model_copy(update={"data": prepared[data_key]}))
    return found.model_copy(update={"cases": tuple(cases)})
