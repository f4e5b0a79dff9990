"""``sweeps show``: the facts of one sweep, and its answers."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from bench.plugins.registry import load_plugins
from harness.archive.listing import SweepEntry, read_entry
from harness.reporting import report
from harness.reporting.stored_trials import read_trials
from harness.store.opening import open_store
from harness.store.store import SweepInfo
from reports.analysis import formatting
from reports.analysis.answers import WorkloadAnswer, workload_answers
from reports.analysis.cells import Cell
from reports.analysis.findings import Findings, analyse_cells
from reports.analysis.trial_measures import overheads_of
from reports.formats.console import print_line
from reports.formats.documents import versioned
from reports.page import summary


@dataclass(frozen=True)
class SweepDetails:
    """One sweep: how it is listed, what is needed to repeat it, and what it says."""

    entry: SweepEntry
    info: SweepInfo
    facts: tuple[tuple[str, str], ...]
    """Names and values, as at the end of a page."""
    findings: Findings
    answers: tuple[WorkloadAnswer, ...]

    @property
    def cells(self) -> tuple[Cell, ...]:
        return self.findings.cells

    def as_json(self) -> dict[str, Any]:
        fields = {
            **self.entry.model_dump(),
            "disk_bytes": self.entry.disk_bytes,
            "command": self.info.command,
            "commit": self.info.environment.commit,
            "machine": self.info.environment.machine,
            "facts": dict(self.facts),
            "answers": [answer.model_dump() for answer in self.answers],
        }
        return versioned("show", fields)

    def print(self, console: Console) -> None:
        entry = self.entry
        print_line(console, self.info.shown_title, "bold")
        state = "" if entry.state == "finished" else f"{entry.state}; "
        print_line(console, f"{state}{entry.ok} of {formatting.counted(len(self.cells), 'cell')} with a number")
        for line in (*summary.problem_lines(self.cells), *report.node_remarks(self.info, self.cells)):
            print_line(console, line, "yellow")
        for line in summary.answer_sentences(self.findings):
            print_line(console, line)
        for name, value in (*self.facts, ("disk", _disk(entry))):
            print_line(console, f"{name}: {value}")


def show_sweep(name: str, store_url: str) -> SweepDetails:
    """The facts and the answers of a stored sweep; nothing is written.

    Raises:
        StoreError: The store can't be read, or the name means none of its sweeps, or several.
    """
    backends, workloads, _ = load_plugins()
    with closing(open_store(store_url, create=False)) as store:
        sweep = store.sweep_id(name)
        known = next(one for one in store.known_sweeps() if one.id == sweep)
        info, entry = store.sweep(sweep), read_entry(store, store_url, known)
        stored = read_trials(store, info, whole=0)
    findings = analyse_cells(report.sweep_cells(info, stored.summaries, backends, workloads))
    facts = report.provenance(info, findings.cells, overheads_of(stored.overheads))
    return SweepDetails(entry, info, tuple(facts), findings, workload_answers(findings))


def _disk(entry: SweepEntry) -> str:
    rows = f"{formatting.quantity(entry.rows.bytes, 'B')} in the store"
    if entry.folder is None:
        return rows
    files = formatting.counted(entry.folder.files, "file")
    return f"{rows}, {formatting.quantity(entry.folder.bytes, 'B')} in {files} in {entry.folder.path}"
