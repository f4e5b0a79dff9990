"""A judgement as a JSON document: what ``check --json`` prints and ``verdict.json`` contains."""

from __future__ import annotations

import math
import re
from typing import Any

from reports.formats.documents import versioned
from reports.regression import wording
from reports.regression.summary import exit_code, headline, next_steps
from reports.regression.values import WORST_FIRST, Judgement, Verdict

SIGNATURE = re.compile(rb'\A\{\s*"(schema": "scaling-harness/verdict/|judged": )')
"""The beginning of every document. Earlier ones had no schema."""


def verdict_document(judgement: Judgement) -> dict[str, Any]:
    """The document. Unknown values are null, never 0 and never NaN.

    - ``schema``: ``scaling-harness/verdict/1``
    - ``judged``, ``started_at`` (ISO 8601), ``commit``, ``base_commit``, ``machine``, ``command``: what was judged;
      ``again``: options that a further command needs for the same sweeps
    - ``exit``: the exit code, ``headline``: the verdict in a sentence, ``counts``: series by status
    - ``benchmarks``: by ``NAME`` for step times, by ``NAME · METRIC`` for other metrics (``a · memory``), each with
      ``status``, ``change_pct`` with its 95 % interval ``low_pct`` to ``high_pct`` (per cent of the value itself),
      ``pairs_wanted`` (in total; 0 where decided), ``pairs_used``, ``nights``, ``reason``, ``metric``,
      ``place`` (ends the name where the night has several places), ``not_confirmable`` (why pairs cannot be run here),
      ``compared_since`` (the first night it was compared with, where that began with an improvement; else null)
    - ``verdicts``: the same as a list with ``name``, the worst first
    - ``findings``: verdicts of one curve combined, each with ``curve``, ``place``, ``kind``, ``status``, ``ranks``,
      ``change_pct``, ``low_pct``, ``high_pct``, ``said``, ``verdicts`` (names of series)
    - ``next``: recommended actions, each with ``said`` and ``command`` (may be empty)
    - ``trials`` of the night, ``extra_trials`` spent on pairs
    - ``assurance``: ``checks``, ``false_alarms``, ``false_alarm_rate``, ``false_alarm_high``, ``source``,
      ``found_pct`` by number of nights; null where it was not measured

    Of two verdicts with the same key ``benchmarks`` has the worse.
    """
    worst_last = sorted(judgement.verdicts, key=lambda verdict: -WORST_FIRST.index(verdict.status))
    return versioned(
        "verdict",
        _replace_non_finite(
            {
                **judgement.model_dump(include={"judged", "started_at", "commit", "base_commit", "machine"}),
                **judgement.model_dump(include={"command", "again"}),
                "exit": exit_code(judgement),
                "headline": headline(judgement),
                "counts": {
                    status: sum(verdict.status == status for verdict in judgement.verdicts) for status in WORST_FIRST
                },
                "benchmarks": dict(
                    reversed(
                        {wording.verdict_key(verdict): _benchmark_fields(verdict) for verdict in worst_last}.items()
                    )
                ),
                **judgement.model_dump(include={"verdicts", "findings", "trials", "extra_trials", "assurance"}),
                "next": [{"said": step.reason, "command": step.command} for step in next_steps(judgement)],
            }
        ),
    )


def _benchmark_fields(verdict: Verdict) -> dict[str, Any]:
    return verdict.model_dump(exclude={"name"})


def _replace_non_finite(value: Any) -> Any:
    """Replace NaN and infinity, which JSON lacks, by null."""
    if isinstance(value, dict):
        return {key: _replace_non_finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_non_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
