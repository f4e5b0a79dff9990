"""Which sweeps are deleted: pure rules."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from harness.archive.listing import SweepEntry
from harness.archive.selection import check_named, choose_prunable, protection, running_problem
from harness.errors import UsageError
from harness.store.deletion import StoredRows
from harness.store.sweep_names import KnownSweep

NOW = datetime(2026, 6, 30, tzinfo=UTC)
END = "2026-07-01T00:00:00+00:00"
SWEEPS = [
    KnownSweep("unset", "1970-01-01T00:00:00+00:00", END),
    KnownSweep("a", "2026-01-01T00:00:00+00:00", END),
    KnownSweep("b", "2026-02-01T00:00:00+00:00", END, ("release",)),
    KnownSweep("c", "2026-03-01T00:00:00+00:00", END),
    KnownSweep("d", "2026-04-01T00:00:00+00:00"),
    KnownSweep("e", "2026-06-29T00:00:00+00:00", END),
]


def kept(found) -> dict[str, str]:
    return {one.sweep: one.reason for one in found[1]}


@pytest.mark.parametrize(
    ("limits", "gone"),
    [
        ({"keep": 1}, ["a", "c", "d"]),
        ({"keep": 3}, ["a"]),
        ({"keep": 99}, []),
        ({"older_than": timedelta(days=100)}, ["a", "c"]),
        ({"older_than": timedelta(hours=1)}, ["a", "c", "d", "e"]),
        ({"keep": 4, "older_than": timedelta(days=1)}, ["a"]),
        ({"keep": 1, "older_than": timedelta(days=150)}, ["a"]),
    ],
)
def test_old_sweeps_go_and_tagged_ones_stay(limits, gone):
    found = choose_prunable(SWEEPS, {}, NOW, **limits)
    assert found[0] == gone
    assert "release" not in found[0]


def test_each_that_stays_has_its_reason():
    found = choose_prunable(SWEEPS, {"c": 2}, NOW, keep=1, blocked={"d": "is running"})
    assert found[0] == ["a"]
    assert kept(found) == {
        "unset": "is dated 1970-01-01T00:00:00+00:00: the clock was not set",
        "b": "is tagged release",
        "c": "is the baseline of a change that was accepted (`check --accept`)",
        "d": "is running",
    }


@pytest.mark.parametrize(("name", "refused"), [("latest", True), ("20", True), ("b", False), ("release", False)])
def test_a_tagged_sweep_goes_only_by_its_own_name(name, refused):
    tagged = SWEEPS[2]
    if not refused:
        check_named(name, tagged, {})
        return
    with pytest.raises(UsageError, match=r"is sweep b, which is tagged release: name it by its id"):
        check_named(name, tagged, {})


def test_a_sweep_that_nothing_protects_goes_by_any_name():
    assert protection(SWEEPS[1], {"c": 1}) is None
    check_named("latest~3", SWEEPS[1], {"c": 1})


def entry(state: str) -> SweepEntry:
    empty = dict.fromkeys(("title", "note", "suite", "folder", "finished_at"))
    counts = {"ok": 0, "failed": 0, "rows": StoredRows(), "tags": ()}
    return SweepEntry(sweep="s", state=state, started_at=END, **empty, **counts)


def test_what_runs_or_may_run_elsewhere_is_not_deleted():
    assert running_problem(entry("finished"), "there", "here", unfinished=False) is None
    assert running_problem(entry("unfinished"), "here", "here", unfinished=False) is None
    assert "may still run on there" in (running_problem(entry("unfinished"), "there", "here", unfinished=False) or "")
    assert "an unknown machine" in (running_problem(entry("unfinished"), None, "here", unfinished=False) or "")
    assert running_problem(entry("unfinished"), "there", "here", unfinished=True) is None
    assert "is running" in (running_problem(entry("running"), "here", "here", unfinished=True) or "")
