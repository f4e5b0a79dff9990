"""The folder of a trial's files on a host where every user may make folders."""

from __future__ import annotations

import stat
import tempfile

import pytest

from bench.core.names import UnsafeName
from bench.dask_cluster.worker import make_trial_folder, remove_trial_folder, trial_folder


@pytest.fixture(autouse=True)
def _temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_it_is_made_for_its_user_alone_and_shared_by_the_workers_of_the_host():
    folder = make_trial_folder("a1")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert make_trial_folder("a1") == folder


def test_one_that_others_have_made_is_not_used(tmp_path):
    trial_folder("b1").mkdir()
    trial_folder("b1").chmod(0o777)
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    trial_folder("c1").symlink_to(tmp_path / "elsewhere")
    for name in ("b1", "c1"):
        with pytest.raises(PermissionError, match=f"scaling-{name} was made by somebody else: remove it"):
            make_trial_folder(name)
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("trial", ["x/../../y", "../y", "", "a\0b", "a b"])
def test_a_message_names_no_other_folder(trial):
    with pytest.raises(UnsafeName, match="is no name"):
        remove_trial_folder(trial)
