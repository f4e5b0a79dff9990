"""Which sweeps make `tox run -e sweep` compile Horovod."""

from __future__ import annotations

from contextlib import closing

import pytest

from harness.cli.sweep_setup import uses_horovod
from harness.store.opening import open_store
from tests.support.stores import begin


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("import torch\n")
    (tmp_path / "mine.toml").write_text("backends = ['ddp', 'horovod']\n")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ("", True),
        ("--backends single,ddp", False),
        ("--backends dask", False),
        ("--backends ddp --backends horovod", True),
        ("mine.toml", True),
        ("mine.toml --backends fsdp", False),
        ("--script train.py", False),
        ("--script train.py --launcher horovod", True),
        ("--dry-run", True),
    ],
)
def test_a_sweep_needs_horovod_where_one_of_its_backends_does(arguments, wanted):
    assert uses_horovod(arguments.split()) is wanted


@pytest.mark.parametrize(
    "arguments", ["--help", "--no-such-option", "--repeats x", "no_such_suite", "--backends", "--resume", "--ranks 0"]
)
def test_what_can_t_run_compiles_nothing_and_the_command_says_why(arguments, capfd):
    assert not uses_horovod(arguments.split())
    assert capfd.readouterr() == ("", "")


def test_the_configuration_and_a_sweep_that_is_resumed_count(folder):
    (folder / "scaling.toml").write_text("[sweep]\nbackends = ['ddp']\n")
    assert not uses_horovod([])
    with closing(open_store("r.sqlite", create=True)) as store:
        begin(store)  # a sweep of ddp
    (folder / "scaling.toml").unlink()
    assert not uses_horovod(["--resume", "--store", "r.sqlite"])
