"""In which environment an interrupted sweep may go on."""

from __future__ import annotations

import pytest

from harness.errors import UsageError
from harness.planning.sources import Sources
from harness.store.opening import open_store
from harness.sweep.pipeline import resume
from harness.sweep.resume_checks import check_same_conditions
from tests.support.builders import make_case, make_record, make_trial
from tests.support.stores import begin


def test_a_sweep_is_not_resumed_with_other_variables(tmp_path, monkeypatch):
    place = str(tmp_path / "s.sqlite")
    store = open_store(place, create=True)
    begin(store)
    records = tuple(make_record(rank, 2, variables={"NCCL_DEBUG": "INFO"}) for rank in range(2))
    store.add_trial("s1", make_trial(make_case(), ranks=records))
    store.close()
    monkeypatch.delenv("NCCL_DEBUG", raising=False)
    with pytest.raises(UsageError, match=r"s1 began with other variables \(NCCL_DEBUG none, not INFO\)"):
        resume(None, None, place, None, None)


NOW = Sources(digest="a", files={"bench/a.py": "1", "harness/b.py": "2"})


@pytest.mark.parametrize(
    ("before", "changed"),
    [
        ({"bench/a.py": "0", "harness/b.py": "2"}, "bench/a.py"),
        ({"bench/a.py": "1", "harness/b.py": "2", "my_model/net.py": "3"}, "my_model/net.py"),
        ({"bench/a.py": "1"}, "harness/b.py"),
        ({f"bench/{letter}.py": "1" for letter in "defgh"}, "bench/a.py, bench/d.py, bench/e.py and 4 more"),
    ],
)
def test_a_sweep_is_not_resumed_with_other_sources(tmp_path, before, changed):
    store = open_store(str(tmp_path / "s.sqlite"), create=True)
    info = begin(store).model_copy(update={"sources": Sources(digest="a", files=before)})
    with pytest.raises(UsageError) as refused:
        check_same_conditions(info, [], NOW)
    assert str(refused.value) == (
        f"--resume: {changed} changed since sweep {info.id} began; restore what was there, or start a new sweep"
    )


def test_a_sweep_from_before_digests_is_resumed(tmp_path):
    store = open_store(str(tmp_path / "s.sqlite"), create=True)
    info = begin(store)
    assert info.sources is None
    check_same_conditions(info, [], NOW)
    check_same_conditions(info.model_copy(update={"sources": NOW}), [], NOW)
