"""Where the time of a stored sweep's trials went, by workload, from the records of their ranks.

    python -m tests.perf.scripts.sweep_parts .runs/results.sqlite [SWEEP]

Prints a table in Markdown: seconds of all trials of a workload together. What a trial takes beside its parts is between
the request and its processes' own code, and between their last step and the stored trial.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterable

from bench.core.records import Trial
from harness.store.opening import open_store

PARTS = ("joining and building", "verified steps, warm-up", "window", "after the window", "the rest")
COLUMNS = ("workload", "trials", *PARTS, "together", "a trial")


def trial_parts(trial: Trial) -> dict[str, float]:
    """Seconds of each of :data:`PARTS` (pure): of the rank that begins last, and of rank 0 from its first step on.

    Args:
        trial: One whose ranks have left records.
    """
    first = trial.ranks[0]
    began_s, ended_s = first.stepping_s or (first.window.began_s, first.window.ended_s)
    parts_s = (
        max(rank.startup_s for rank in trial.ranks),
        first.window.began_s - began_s,
        first.window.ended_s - first.window.began_s,
        ended_s - first.window.ended_s,
    )
    return dict(zip(PARTS, (*parts_s, trial.wall_s - sum(parts_s)), strict=True))


def table(trials: Iterable[Trial]) -> list[str]:
    """The lines of the table (pure)."""
    totals: defaultdict[str, Counter[str]] = defaultdict(Counter)
    counts: Counter[str] = Counter()
    for trial in trials:
        if trial.outcome != "ok":
            continue
        for name in (trial.case.workload, "all"):
            counts[name] += 1
            totals[name].update(trial_parts(trial))
    lines = [" | ".join(COLUMNS), " | ".join("---" for _ in COLUMNS)]
    for name in sorted(counts, key=lambda name: (name == "all", name)):
        whole_s = sum(totals[name].values())
        cells = (*(f"{totals[name][part]:.1f}" for part in PARTS), f"{whole_s:.1f}", f"{whole_s / counts[name]:.2f}")
        lines.append(" | ".join((name, str(counts[name]), *cells)))
    return [f"| {line} |" for line in lines]


def main(arguments: list[str]) -> None:
    store = open_store(arguments[0], create=False)
    try:
        sweep = arguments[1] if len(arguments) > 1 else "latest"
        print("\n".join(table(store.trials(store.sweep(sweep).id))))
    finally:
        store.close()


if __name__ == "__main__":
    main(sys.argv[1:])
