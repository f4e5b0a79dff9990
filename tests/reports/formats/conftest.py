"""A sweep exported by the command."""

from __future__ import annotations

import pytest

from harness.cli.app import main
from tests.support.exports import store_sweep


@pytest.fixture
def exported(tmp_path, capsys):
    """Store the trials as a sweep, export it to standard output, and return its output and error text."""
    place = tmp_path / "r.sqlite"

    def export(trials, *arguments, status=0, **sweep):
        store_sweep(place, trials, **sweep)
        assert main(["export", "--store", str(place), *arguments]) == status
        return capsys.readouterr()

    return export
