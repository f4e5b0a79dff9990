"""Fetching one file of a package with npm: kept, verified, and never in the way of the set-up."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile

import pytest

from harness.setup.plotly_bundle import FetchError, NpmFile, ensure_npm_file
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

CONTENT = b"window.Plotly = {};"
WANTED = NpmFile("a-package", "1.2.3", "package/file.js", hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """``npm(content)``: a registry client on PATH that packs this content, or fails where it is ``None``."""

    def put(content: bytes | None) -> None:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        archive = tmp_path / "a-package-1.2.3.tgz"
        if content is not None:
            with tarfile.open(archive, "w:gz") as packed:
                entry = tarfile.TarInfo("package/file.js")
                entry.size = len(content)
                packed.addfile(entry, io.BytesIO(content))
        does = f'cp {archive} "$5"' if content is not None else "echo npm error code ENOTFOUND >&2; exit 1"
        (folder / "npm").write_text(f"#!/bin/sh\n{does}\n")
        (folder / "npm").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    return put


def test_a_file_is_fetched_once_and_kept(npm, tmp_path):
    npm(CONTENT)
    target = tmp_path / "cache" / "file.js"
    assert ensure_npm_file(WANTED, target) == "fetched"
    assert target.read_bytes() == CONTENT
    npm(None)
    assert ensure_npm_file(WANTED, target) == "kept"
    assert [path.name for path in target.parent.iterdir()] == ["file.js"]


def test_what_is_not_as_published_is_refused(npm, tmp_path):
    npm(b"alert(1)")
    with pytest.raises(FetchError, match=r"a-package 1.2.3 is not what was published"):
        ensure_npm_file(WANTED, tmp_path / "file.js")
    assert not (tmp_path / "file.js").exists()


def test_what_was_changed_on_disk_is_fetched_again(npm, tmp_path):
    npm(CONTENT)
    (tmp_path / "file.js").write_text("alert(1)")
    assert ensure_npm_file(WANTED, tmp_path / "file.js") == "fetched"


def test_a_client_that_fails_is_quoted(npm, tmp_path):
    npm(None)
    with pytest.raises(FetchError, match=r"`npm pack a-package@1.2.3` failed: npm error code ENOTFOUND"):
        ensure_npm_file(WANTED, tmp_path / "file.js")


@pytest.mark.parametrize(("options", "status"), [((), 0), (("--strict",), 1)])
def test_set_up_goes_on_without_npm(tmp_path, options, status):
    env = {**os.environ, "PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "harness.setup.plotly_bundle", *options]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    assert done.stdout == (
        "plotly.js's small bundle was not fetched: no npm on PATH; install it, for example Debian's package npm. "
        "Pages will be bigger, not poorer.\n"
    )
