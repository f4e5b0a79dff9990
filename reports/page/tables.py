"""The tables of a page: one function each, from cells to rows of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.core.case import Case
from bench.core.records import CHECKPOINT_READINGS
from reports.analysis import case_titles, changes, formatting
from reports.analysis import flags as meaning
from reports.analysis.cell_details import STEP_PARTS
from reports.analysis.cells import Cell
from reports.analysis.curve import Curve
from reports.analysis.findings import has_curve
from reports.page.elements import Table

EXPECTED_DIFFERENCES = ("command", "sweep", "started, finished", "overhead of measuring")
"""Provenance that differs between any two sweeps, even of the same experiment."""


def results_table(cells: Sequence[Cell]) -> Table:
    """One row for each cell."""
    rows = tuple(
        (
            cell.labels.workload,
            cell.labels.backend,
            cell.labels.rank_count,
            cell.case.scaling,
            cell.labels.throughput,
            cell.labels.step,
            cell.labels.speedup,
            cell.labels.efficiency if cell.efficiency or not cell.throughput else f"– ({cell.scaling_reason})",
            str(cell.trials),
            cell.outcome,
            cell.labels.flags,
        )
        for cell in cells
    )
    header = (
        "workload",
        "backend",
        "ranks",
        "scaling",
        "throughput (95 %)",
        "median step",
        "speed-up (95 %)",
        "efficiency (95 %)",
        "trials",
        "outcome",
        "flags",
    )
    return Table("All cells", header, rows, "Intervals are 95 %, over trials (fresh processes), not over steps.")


def same_work_table(cells: Sequence[Cell]) -> Table:
    """One row for each curve, one column for each rank count."""
    judged = [cell for cell in cells if cell.same_work is not None]
    counts = sorted({cell.case.ranks for cell in judged})
    rows: dict[tuple[str, str, str], dict[int, str]] = {}
    for cell in judged:
        proof = cell.same_work
        assert proof is not None
        row = (cell.labels.workload, cell.labels.backend, cell.case.scaling)
        if proof.verdict == "unproven" or proof.deviation is None:
            shown = f"{proof.verdict}: {proof.reason}"
        elif proof.verdict == "different":
            shown = f"DIFFERENT: {proof.reason}"
        else:
            allowed = "" if proof.tolerance is None else f" of {formatting.small(proof.tolerance)} allowed"
            shown = f"same, {formatting.small(proof.deviation)}{allowed} ({proof.label})"
        rows.setdefault(row, {})[cell.case.ranks] = shown
    return Table(
        "Same work: largest deviation from a single process, and the verdict",
        ("workload", "backend", "scaling", *(formatting.ranks(count) for count in counts)),
        tuple((*row, *(by_ranks.get(count, "–") for count in counts)) for row, by_ranks in rows.items()),
        "Before the timed window every rank takes a few verified steps. Rank 0 takes each of them alone too, from the "
        "same parameters; samples, their order, losses, exchanged gradients and updates must agree, and all ranks must "
        "hold identical parameters. Deviations are relative to the size of what is compared. Of a program, the losses "
        "that it reports are compared with those at the smallest number of ranks.",
    )


def decomposition_table(cells: Sequence[Cell]) -> Table:
    """One row for each decomposed cell, and for each whose decomposition is unknown with the reason."""
    rows: list[tuple[str, ...]] = []
    for cell in cells:
        decomposition = cell.decomposition
        if decomposition is None:
            if cell.decomposition_reason:
                unknown = ("–",) * 13
                rows.append((cell.labels.title, *unknown, f"not measured: {cell.decomposition_reason}"))
            continue
        parts = (formatting.duration_estimate(decomposition.parts_s.get(part)) for part in STEP_PARTS)
        shares = (decomposition.load_balance, decomposition.communication_efficiency, decomposition.parallel_efficiency)
        stragglers_text = ", ".join(
            f"rank {straggler.rank} by {formatting.duration(straggler.delay_s)}"
            for straggler in decomposition.stragglers
        )
        unexplained = "–" if decomposition.unexplained is None else changes.signed_percent(decomposition.unexplained)
        rows.append(
            (
                cell.labels.title,
                *parts,
                formatting.duration_estimate(decomposition.step_s),
                *map(formatting.percent, shares),
                formatting.percent(decomposition.computation_scaling),
                unexplained,
                stragglers_text or "–",
            )
        )
    header = (
        "cell",
        "data",
        "forward",
        "backward",
        "optimizer",
        "unattributed",
        "load imbalance",
        "exposed communication",
        "step",
        "load balance",
        "communication efficiency",
        "parallel efficiency (POP)",
        "computation scaling",
        "unexplained",
        "stragglers",
    )
    note = (
        "From blocks of steps with and without the exchange, alternating in the same processes after the timed window; "
        "a program exchanges after its backward pass instead, and what it does not show of its parts is unattributed. "
        "Unattributed: what a step without exchange takes beyond data, forward, backward and optimizer, which are "
        "timed one by one; of a single rank, which communicates with no other, its backend's work is in it. "
        "Load imbalance: waiting for the slowest rank. Exposed communication: what compute does not hide. The parts "
        "add up to the step. Parallel efficiency as POP and TALP define it = load balance × communication efficiency."
    )
    if has_curve(cells):
        note += (
            " Computation scaling: compute of all ranks at the smallest rank count ÷ here. Unexplained: the deviation "
            "of their product, over the baseline's, from the efficiency of the timed window."
        )
    return Table("Where the time of a step goes (means over ranks and trials)", header, tuple(rows), note)


def scaling_table(cells: Sequence[Cell], curves: Mapping[str, Curve]) -> Table:
    """One row for each curve and its fitted law."""
    names = {cell.case.curve: cell.labels.curve for cell in cells}
    rows = []
    for key, curve in curves.items():
        name = names[key]
        flags_text = "; ".join(f"{flag}: {seen}" for flag, seen in curve.fit_flags.items()) or "–"
        if curve.model is None:
            rows.append((name, f"none: {curve.reason}", "–", "–", "–", "–", flags_text))
            continue
        peak = "–" if curve.peak_ranks is None else f"peak at {formatting.number(curve.peak_ranks)} ranks"
        limit = "–" if curve.limit is None else f"at most {formatting.number(curve.limit)}"
        rows.append(
            (
                name,
                formatting.MODEL_TITLES[curve.model],
                formatting.parameter_percent(curve.sigma),
                formatting.parameter_percent(curve.kappa),
                peak if curve.peak_ranks is not None else limit,
                _serial_fraction(curve),
                flags_text,
            )
        )
    header = ("curve", "model", "contention σ (95 %)", "coherency κ (95 %)", "bound", "serial fraction", "flags")
    note = (
        "X(N) = γN ÷ (1 + σ(N−1) + κN(N−1)), or γN ÷ (1 + σ·log₂N), fitted to ln X of every trial. The richest law "
        "whose last parameter is significant: USL for κ, Amdahl for σ; else linear, else the closest. A law that "
        "misses a rank count by over 20 % is left out; a law needs 3 rank counts, USL 4. Serial fraction: from the "
        "efficiency E at the largest rank count N, relative to M ranks, by Karp and Flatt under strong scaling, "
        "e = (1 − E) ÷ (E(N−1) − (M−1)), by Gustafson under weak, s = N(1 − E) ÷ ((N−1) − EN(M−1)/M)."
    )
    return Table("Scaling laws", header, tuple(rows), note)


def readings_table(cells: Sequence[Cell]) -> Table:
    """One row for each further reading of a cell's ranks."""
    rows = [
        (
            cell.labels.title,
            reading.name.replace("_", " "),
            formatting.estimate(reading.estimate) if reading.estimate else f"unknown: {reading.reason}",
        )
        for cell in cells
        for reading in cell.readings
        if reading.name not in CHECKPOINT_READINGS
    ]
    return Table("Further readings", ("cell", "reading", "value (95 %)"), tuple(rows))


def conditions_table(cells: Sequence[Cell]) -> Table:
    """One row for each cell and condition."""
    rows = []
    for cell in cells:
        for flag in dict.fromkeys(condition.name for condition in cell.conditions):
            seen = [condition for condition in cell.conditions if condition.name == flag]
            left_out = "left out" if seen[0].serious else "kept"
            rows.append((cell.labels.title, flag, f"{len(seen)}", seen[0].seen, left_out))
    header = ("cell", "condition", "times", "first description", "the trial's number")
    return Table("Conditions that may have disturbed a number", header, tuple(rows))


def failures_table(cells: Sequence[Cell]) -> Table:
    """One row for each cell that is not ok."""
    rows = [
        (cell.labels.title, cell.outcome, cell.reason or "", _last_lines(cell))
        for cell in cells
        if cell.outcome != "ok"
    ]
    header = ("cell", "outcome", "reason and remedy", "last lines")
    return Table("Failed, invalid and skipped cells", header, tuple(rows))


def _last_lines(cell: Cell) -> str:
    failures = [
        f"{failure.role} {failure.rank} on {failure.host}:\n" + "\n".join(failure.tail) for failure in cell.failures
    ]
    return "\n".join(failures[:2] or cell.log_tail) or "–"


def not_applicable_table(combinations: Sequence[tuple[Case, str]]) -> Table:
    """One row for each backend and reason."""
    grouped: dict[tuple[str, str], list[Case]] = {}
    for case, reason in combinations:
        grouped.setdefault((reason, case_titles.backend_title(case)), []).append(case)
    rows = [
        (
            name,
            ", ".join(sorted({case_titles.workload_title(case) for case in cases})),
            ", ".join(str(count) for count in sorted({case.ranks for case in cases})),
            reason,
        )
        for (reason, name), cases in grouped.items()
    ]
    return Table(
        "Combinations that do not apply and were not planned", ("backend", "workloads", "ranks", "reason"), tuple(rows)
    )


def implementation_table(cells: Sequence[Cell]) -> Table:
    """One row for each backend that implements a workload differently from the others."""
    rows = {(cell.labels.workload, cell.labels.backend, cell.machinery) for cell in cells if cell.machinery}
    return Table(
        "Different implementations", ("workload", "backend", "how it differs from the others"), tuple(sorted(rows))
    )


def flags_table(cells: Sequence[Cell]) -> Table:
    """One row for each flag of a cell."""
    counts: dict[str, int] = {}
    for cell in cells:
        for flag in cell.flags:
            counts[flag] = counts.get(flag, 0) + 1
    rows = tuple((name, str(count), meaning.explain_flag(name)) for name, count in sorted(counts.items()))
    return Table("Flags", ("flag", "cells", "meaning; remedy"), rows)


def provenance_table(rows: Sequence[tuple[str, ...]]) -> Table:
    """One row for each name and its value in each sweep; the note names those that differ."""
    sweeps = len(rows[0]) - 1 if rows else 1
    header = ("what", "value") if sweeps == 1 else ("what", *(sweep_label(number) for number in range(sweeps)))
    differ = [row[0] for row in rows if len(set(row[1:])) > 1 and row[0] not in EXPECTED_DIFFERENCES]
    return Table("Provenance", header, tuple(rows), f"They differ in: {', '.join(differ)}." if differ else "")


def sweep_label(number: int) -> str:
    """``A``, ``B``, …: the label of one of several sweeps on their page."""
    return chr(ord("A") + number)


def variables_table(cells: Sequence[Cell]) -> Table:
    """One row for each environment variable that changes what is measured, and each of its values."""
    owners: dict[tuple[str, str], list[str]] = {}
    measured = [cell for cell in cells if cell.variables is not None]
    for cell in measured:
        for name, value in (cell.variables or {}).items():
            owners.setdefault((name, value), []).append(cell.labels.backend)
    rows = tuple(
        (name, value, "all cells" if len(having) == len(measured) else ", ".join(dict.fromkeys(having)))
        for (name, value), having in sorted(owners.items())
    )
    note = "They change what is measured: verdicts compare only what was measured with the same ones."
    return Table("Environment variables of the ranks", ("variable", "value", "where"), rows, note)


def settings_table(cells: Sequence[Cell]) -> Table:
    """One row for each backend and its effective settings."""
    rows = {
        (
            cell.labels.backend,
            ", ".join(f"{name} {value}" for name, value in sorted(cell.settings.items())),
        )
        for cell in cells
        if cell.settings
    }
    return Table("Effective settings", ("backend", "settings"), tuple(sorted(rows)))


def _serial_fraction(curve: Curve) -> str:
    """``3 % (2–4 %) at 8 ranks``: at the most ranks, by Gustafson for weak scaling, Karp and Flatt for strong."""
    last = curve.points[-1]
    share = last.gustafson or last.karp_flatt
    return "–" if share is None else f"{formatting.percent(share)} at {formatting.ranks(last.ranks)}"
