"""A sweep that has ended: what is printed of it, and its JSON document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from harness.reporting import report
from harness.reporting.json_document import as_json
from harness.store.store import SweepInfo
from reports.analysis import formatting
from reports.analysis.cells import Cell
from reports.analysis.findings import Findings
from reports.analysis.group_titles import named_cells
from reports.analysis.stats import Estimate
from reports.formats import terminal
from reports.formats.console import print_line
from reports.formats.terminal import finding_tables
from reports.page import summary


@dataclass(frozen=True)
class SweepResult:
    """A sweep that has ended, with its cells and its page."""

    info: SweepInfo
    findings: Findings
    page: Path
    own_cost: Estimate | None = None
    own_costs: Mapping[str, Estimate] = field(default_factory=dict)
    """By the name of the device."""
    interrupted: bool = False
    problems: tuple[str, ...] = ()
    """Why the page, or another output, could not be written."""
    printed_summary: str | None = None
    """What is printed in place of the tables."""

    @property
    def cells(self) -> tuple[Cell, ...]:
        return self.findings.cells

    def as_json(self) -> dict[str, Any]:
        return as_json(self.info, self.findings, self.page, self.own_cost, self.own_costs, self.problems)

    def print(self, console: Console) -> None:
        if self.printed_summary is not None:
            print(self.printed_summary, end="", file=console.file)
            return
        for table in terminal.cell_tables(self.cells, console.width):
            console.print(table)
        for line in (*summary.problem_lines(named_cells(self.cells)), *report.node_remarks(self.info, self.cells)):
            print_line(console, line, "yellow")
        for table in finding_tables(self.findings):
            console.print(table)
        for line in summary.answer_sentences(self.findings):
            print_line(console, line)
        for line in formatting.overheads(self.own_costs) if self.own_costs else []:
            print_line(console, f"overhead of measuring on {line}")
        if not self.problems:
            print_line(console, f"report: {self.page}")
