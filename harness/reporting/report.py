"""From a stored sweep to its cells, its provenance and its page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bench.core.machine import NodeFacts
from bench.core.records import Link
from bench.plugins.backend import Backend
from bench.plugins.workload import Workload
from harness.output_files import OutputFile, write_output
from harness.planning.git import NO_CHECKOUT
from harness.planning.sources import NO_SOURCES
from harness.reporting.stored_trials import StoredTrials, planned_cases
from harness.store.store import SweepInfo
from reports.analysis import case_titles, formatting
from reports.analysis.case_summary import CaseSummary
from reports.analysis.cells import Cell, cells_of
from reports.analysis.decided_cells import with_settled_flags
from reports.analysis.findings import Findings
from reports.analysis.placement import distinct_hosts, version_differences
from reports.analysis.rank_resources import join_variables
from reports.analysis.stats import Estimate
from reports.analysis.trial_measures import overheads_of
from reports.formats.exports.csv import trials_csv
from reports.formats.trial_rows import SweepFacts, TrialRow, rows_of
from reports.page.elements import Download, Page
from reports.page.html import SIGNATURE, render
from reports.page.sweep_page import make_page


def sweep_cells(
    info: SweepInfo,
    summaries: Mapping[str, CaseSummary],
    backends: Mapping[str, Backend],
    workloads: Mapping[str, Workload],
) -> tuple[Cell, ...]:
    """The cells of a sweep, in the plan's order, skipped ones included; ``summaries``: by the keys of the cases."""
    skipped = {skip.case.key: skip.reason for skip in info.plan.skips}
    cases = planned_cases(info)
    machinery = {
        case.key: sentence
        for case in cases
        if case.backend in backends
        and case.workload in workloads
        and (sentence := backends[case.backend].machinery.get(workloads[case.workload].kind))
    }
    cells = cells_of(cases, skipped, summaries, machinery, info.suite.precision)
    if info.suite.until is not None and info.finished_at is not None:
        cells = with_settled_flags(cells)
    by_commit = info.environment.repository is not None
    return tuple(cell.with_case(compared_by_commit=True) for cell in cells) if by_commit else cells


def sweep_facts(info: SweepInfo) -> SweepFacts:
    """The facts of a sweep that each exported row repeats."""
    environment = info.environment
    fields = environment.model_dump(include=set(SweepFacts.model_fields))
    return SweepFacts(id=info.id, started_at=info.started_at, environment=environment.id, **fields)


def provenance(info: SweepInfo, cells: tuple[Cell, ...], costs: Mapping[str, Estimate]) -> list[tuple[str, str]]:
    """Names and values of what a reader needs to repeat the sweep."""
    environment = info.environment
    changed = " with changed files" if environment.changed_files else ""
    no_commit = environment.commit_reason or NO_CHECKOUT
    sources = {
        f"{data.name}{f' — a stand-in, not {data.stands_for}' if data.stands_for else ''}, SHA-256 {data.digest}"
        for cell in cells
        if (data := cell.case.data) is not None
    }
    return [
        ("command", info.command),
        ("sweep", info.id),
        *([("note", info.note)] if info.note else []),
        *([("tags", ", ".join(info.tags))] if info.tags else []),
        ("started, finished", f"{info.started_at}, {info.finished_at or 'not finished'}"),
        ("suite", f"{info.suite.name}, {info.plan.repeats} rounds in shuffled order, seed {info.suite.seed}"),
        ("site", ", ".join(dict.fromkeys(cell.case.site for cell in cells)) or "none"),
        ("commit", f"{environment.commit}{changed}{_whose(info)}" if environment.commit else f"unknown: {no_commit}"),
        *([("repository", environment.repository)] if environment.repository else []),
        ("sources of the ranks", info.sources.digest if info.sources else f"unknown: {NO_SOURCES}"),
        (
            "machine",
            f"{environment.host}: {environment.cpu}, {environment.cores} cores{environment.quota_note}, "
            f"{environment.memory_bytes / 2**30:.0f} GiB, GPUs: {', '.join(environment.gpus) or 'none'}",
        ),
        *(("nodes", line) for line in case_titles.host_summaries(_hosts(cells))),
        ("system", f"{environment.system}, Python {environment.python}"),
        ("packages", ", ".join(f"{name} {version}" for name, version in environment.packages.items())),
        ("environment variables", _variables(cells)),
        ("overhead of measuring", "; ".join(formatting.overheads(costs))),
        *(("links", case_titles.link_summary(link)) for link in _links(cells)),
        *(("data", source) for source in sorted(sources)),
    ]


def _whose(info: SweepInfo) -> str:
    """Of a program without a repository the commit says nothing, and must not look as if it did."""
    programs = any(case.program is not None for case in info.plan.cases)
    return " of scaling-harness; git does not track the program" if programs and not info.environment.repository else ""


def _variables(cells: Sequence[Cell]) -> str:
    """Those of the ranks that change what is measured."""
    variables = join_variables(cell.variables for cell in cells)
    if variables is None:
        return "unknown: no rank recorded them"
    return ", ".join(f"{name}={value}" for name, value in variables.items()) or "none that change what is measured"


def node_remarks(info: SweepInfo, cells: Sequence[Cell]) -> list[str]:
    """Where the nodes' versions differ from each other's, or from those of the machine that ran the command."""
    environment = info.environment
    return version_differences(_hosts(cells), {"Python": environment.python, **environment.packages})


def _hosts(cells: Sequence[Cell]) -> tuple[NodeFacts, ...]:
    return distinct_hosts(facts for cell in cells for facts in cell.hosts)


def _links(cells: tuple[Cell, ...]) -> list[Link]:
    """One for each rate, in the order of the cells."""
    return list({cell.link.net: cell.link for cell in cells if cell.link is not None}.values())


def trials_download(sweeps: Sequence[tuple[SweepInfo, Sequence[Cell], StoredTrials]]) -> Download:
    """The CSV file that the page offers: a row for each trial of one sweep or several, or for the first of them."""
    rows = [row for sweep in sweeps for row in _whole_rows(*sweep)]
    what = "every trial, a row each"
    if any(stored.count > len(stored.first) for _, _, stored in sweeps):
        what = "the first trials, a row each; `python -m harness export` writes all"
    return Download("trials.csv", f"{what} ({len(rows):,})", "text/csv", trials_csv(rows))


def _whole_rows(info: SweepInfo, cells: Sequence[Cell], stored: StoredTrials) -> Iterator[TrialRow]:
    """The rows of the cases whose trials were kept whole, and of those that never ran where all were."""
    if stored.count > len(stored.first):
        whole = {trial.case.key for trial in stored.first}
        cells = [cell for cell in cells if cell.case.key in whole]
    return rows_of(sweep_facts(info), cells, stored.first)


def page_output(option: str, page: Path | None, default: Path) -> OutputFile:
    """The file of a page: the one that ``option`` names, or the default one, whose folder is created."""
    return OutputFile(option, page or default, SIGNATURE, creates_folder=page is None)


def sweep_page(info: SweepInfo, stored: StoredTrials, findings: Findings) -> Page:
    """The page of a sweep, as values."""
    not_applicable = [(skip.case, skip.reason) for skip in info.plan.not_applicable]
    origin = provenance(info, findings.cells, overheads_of(stored.overheads))
    raw = trials_download([(info, findings.cells, stored)])
    remarks = node_remarks(info, findings.cells)
    note = info.note or ""
    return make_page(info.shown_title, findings, not_applicable, origin, downloads=[raw], remarks=remarks, note=note)


def render_page(info: SweepInfo, stored: StoredTrials, findings: Findings) -> str:
    """The page of a sweep as HTML."""
    return render(sweep_page(info, stored, findings))


def write_page(info: SweepInfo, stored: StoredTrials, findings: Findings, output: OutputFile) -> None:
    """Write the page of a sweep. Raises :class:`OutputError` where it can't be written."""
    write_output(output, render_page(info, stored, findings))
