"""In which environment an interrupted sweep may go on."""

from __future__ import annotations

import pytest

from harness.errors import UsageError
from harness.store.opening import open_store
from harness.sweep.pipeline import resume
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
