"""Cells as metrics for Prometheus, in a file for node-exporter's textfile collector.

The collector reads the Prometheus text format: it refuses files with timestamps or with the types that OpenMetrics
added, and skips ``# UNIT`` and ``# EOF`` as comments. A file of gauges alone can therefore be OpenMetrics too, whose
readers ask for both (https://prometheus.io/docs/specs/om/open_metrics_spec/). Of a series that occurs twice one value
is lost with an error: the label ``case`` tells any two cells of a sweep apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple

from bench.core.text import one_line
from reports.formats.cell_records import CellRecord
from reports.formats.exports import Export, Format
from reports.formats.trial_rows import SweepFacts, SweepTable

PREFIX = "scaling"
QUOTE = '"'
MAX_LABEL = 400
"""Characters of a label's value."""

Labels = dict[str, str]
Sample = tuple[Labels, float]


class Family(NamedTuple):
    """The samples of one name."""

    name: str
    """Without the prefix."""
    unit: str
    """Its end; empty for what has none."""
    description: str


STARTED = Family("sweep_started_timestamp_seconds", "seconds", "start of the sweep, in seconds since 1970")
ENVIRONMENT = Family("sweep_environment", "", "commit and machine of the sweep; always 1")
OUTCOME = Family("cell_outcome", "", "whether the cell succeeded, and why not; always 1")
TRIALS = Family("cell_trials", "", "trials of the cell")
UNKNOWN = Family("cell_unknown", "", "a quantity that is unknown, and why; always 1")


def render(table: SweepTable) -> Export:
    """See :attr:`reports.formats.exports.Format.render`."""
    families: dict[str, tuple[Family, list[Sample]]] = {}
    for family, labels, value in _samples(table):
        families.setdefault(family.name, (family, []))[1].append((labels, value))
    lines = [line for family, samples in families.values() for line in _family(family, samples)]
    return Export("".join(f"{line}\n" for line in (*lines, "# EOF")))


def _samples(table: SweepTable) -> Iterator[tuple[Family, Labels, float]]:
    for sweep in table.sweeps:
        yield STARTED, {"sweep": sweep.id}, datetime.fromisoformat(sweep.started_at).timestamp()
        yield ENVIRONMENT, _environment_labels(sweep), 1
    for cell in table.cells:
        labels = _labels(cell)
        outcome = {"outcome": cell.outcome, "flags": ",".join(cell.flags), "reason": cell.reason or ""}
        yield OUTCOME, labels | outcome, 1
        yield TRIALS, labels, cell.trials
        for quantity, reason in cell.unknown.items():
            yield UNKNOWN, labels | {"quantity": quantity, "reason": reason}, 1
        for metric in cell.metrics:
            for name, value in metric.values.items():
                bound = name.removesuffix(metric.unit).removeprefix(metric.quantity).strip("_")
                description = f"{bound} end of the 95 % interval: {metric.description}" if bound else metric.description
                yield Family(name, metric.unit, description), labels | metric.labels, value


def _labels(cell: CellRecord) -> Labels:
    case = cell.case
    return {
        "sweep": cell.sweep,
        "workload": case.workload,
        "backend": case.backend,
        "transport": case.transport,
        "device": case.device,
        "ranks": str(case.ranks),
        "scaling": case.scaling,
        "case": _distinct(case.key),
    }


def _environment_labels(sweep: SweepFacts) -> Labels:
    changed = {True: "yes", False: "no", None: ""}[sweep.changed_files]
    machine = {"host": sweep.host, "cpu": sweep.cpu, "environment": sweep.environment}
    return {"sweep": sweep.id, "commit": sweep.commit or "", "changed_files": changed, **machine}


def _distinct(key: str) -> str:
    """A key as a label: of a long one the beginning, and a digest."""
    shown = one_line(key, MAX_LABEL)
    return key if shown == key else f"{shown[:-20]} {sha256(key.encode(errors='replace')).hexdigest()[:16]}"


def _family(family: Family, samples: Iterable[Sample]) -> Iterator[str]:
    full = f"{PREFIX}_{family.name}"
    # The two formats disagree on quotation marks in a description.
    yield f"# HELP {full} {_escape(one_line(family.description)).replace(QUOTE, chr(39))}"
    yield f"# TYPE {full} gauge"
    if family.unit:
        yield f"# UNIT {full} {family.unit}"
    for labels, value in samples:
        pairs = ",".join(f'{label}="{_label_value(text)}"' for label, text in labels.items() if text)
        yield f"{full}{{{pairs}}} {float(value)!r}"


def _label_value(text: str) -> str:
    return _escape(one_line(text, MAX_LABEL)).replace(QUOTE, rf"\{QUOTE}")


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\")


FORMAT = Format(
    "a gauge a number of a cell, for Prometheus: a `.prom` file for node-exporter's textfile collector",
    (".prom",),
    render,
    signature=re.compile(rb"\A# HELP scaling_"),
    needs_cells=True,
)
