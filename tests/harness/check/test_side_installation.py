"""The environment of a side: made by the user's command, over the packages of the running one."""

from __future__ import annotations

import subprocess

import pytest

from harness.check.side_installation import InstallError, install_side

pytestmark = pytest.mark.slow

FAILING = "echo building; echo 'no compiler' >&2; exit 3"
INSTALLING = """
python -c 'import pathlib, sysconfig; pathlib.Path(sysconfig.get_path("purelib"), "theirs.py").write_text("N = 2")'
"""


def test_a_command_installs_for_its_side_alone_and_a_failing_one_is_named(tmp_path):
    programs = install_side(INSTALLING, tmp_path, tmp_path)
    assert (programs / "pip").exists()
    shown = [str(programs / "python"), "-c", "import pydantic, theirs; print(theirs.__file__)"]
    done = subprocess.run(shown, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path))
    with pytest.raises(ImportError):
        import theirs  # noqa: F401

    with pytest.raises(InstallError) as raised:
        install_side(FAILING, tmp_path, tmp_path)
    assert str(raised.value) == (
        f"the install command `{FAILING}` failed with status 3: no compiler; see {tmp_path}/install.log"
    )
