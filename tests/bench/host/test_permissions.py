"""Files that other users can change, or replace."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from bench.host.permissions import changeable_by_others


@pytest.fixture
def file():
    # Not pytest's folder: what lies above it may be anything.
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        made = Path(folder) / "plugins" / "mine.py"
        made.parent.mkdir(mode=0o755)
        made.touch(mode=0o644)
        yield made


def test_a_file_of_its_user_in_tmp_is_nobody_else_s(file):
    assert Path("/tmp").stat().st_mode & 0o1002 == 0o1002, "everybody may make files there, and change his own only"
    assert changeable_by_others(file) is None
    assert changeable_by_others(file.with_name("absent.py")) is None


def test_a_file_or_a_folder_that_everybody_writes_is_named(file):
    file.chmod(0o666)
    assert changeable_by_others(file) == f"{file} (mode 0666)"
    file.chmod(0o644)
    file.parent.chmod(0o777)
    assert changeable_by_others(file) == f"{file.parent} (mode 0777)"
    file.parent.chmod(0o1777)
    assert changeable_by_others(file) is None
    assert changeable_by_others(file.parent) == f"{file.parent} (mode 1777)", (
        "others may add files to a plugin's folder"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a file to somebody else")
def test_a_file_of_somebody_else_is_named_and_a_link_is_what_it_leads_to(file):
    os.chown(file, 12345, -1)
    link = file.with_name("link.py")
    link.symlink_to(file)
    assert changeable_by_others(link) == f"{file} (owner 12345)"
