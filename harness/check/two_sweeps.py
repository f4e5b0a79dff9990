"""The rule of ``check`` on two sweeps, of which the first is the only night to compare with."""

from __future__ import annotations

from collections.abc import Mapping

from harness.check.history import SweepSelection, gather_sweep
from harness.check.sweep_verdicts import SINGLE_NIGHT_RULE
from harness.errors import UsageError
from harness.store.store import Store
from harness.store.tables import measures_table
from reports.regression.judge import judge_series
from reports.regression.night_series import series_of
from reports.regression.values import Verdict


def verdicts_on_step_times(store: Store, first: str, other: str) -> Mapping[str, Verdict]:
    """What ``check --sweep OTHER --baseline FIRST`` says of the step time of each case, by its key.

    Args:
        store: An open store of any format; nothing is written.
        first: The id of the sweep to compare with.
        other: The id of the one that may have changed.

    Returns:
        Empty for a store of a format that kept nothing for checks, and for sweeps that ``check`` does not judge.

    Raises:
        StoreError: The store can't be read.
    """
    if not store.database.has_table(measures_table):
        return {}
    try:
        history = gather_sweep(store, SweepSelection(sweep=other, baseline=first))
    except UsageError:
        return {}
    series = series_of(history.cases, history.newest, history.past, history.judged, {}, history.pinned)
    members = judge_series(series, SINGLE_NIGHT_RULE)
    return {subject.key: verdict for subject, _, verdict in members if subject.metric == "step"}
