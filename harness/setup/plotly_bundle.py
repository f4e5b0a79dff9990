"""Download the small bundle of plotly.js once, for pages a third of the size.

    python -m harness.setup.plotly_bundle            fetch it unless it is cached, and print the result
    python -m harness.setup.plotly_bundle --strict   the same, with exit status 1 where it can't be fetched

Python's plotly contains all of plotly.js; the bundle with the two kinds of figure that pages draw is published on npm
only. Without it pages contain the whole library and are larger.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.host.scratch import open_scratch
from harness.defects import install_hooks
from harness.output_files import replace_file
from reports.page.plotly_library import BUNDLE_FILE, BUNDLE_SHA256, NPM_PACKAGE, PLOTLY_JS_VERSION, bundle_file

NPM_TIMEOUT_S = 120


@dataclass(frozen=True)
class NpmFile:
    """One file of an npm package, and its expected digest."""

    package: str
    version: str
    file: str
    sha256: str


PLOTLY = NpmFile(NPM_PACKAGE, PLOTLY_JS_VERSION, BUNDLE_FILE, BUNDLE_SHA256)


class FetchError(Exception):
    """The file can't be fetched. The text is one line: what is missing and the remedy."""


def ensure_npm_file(npm_file: NpmFile, target: Path) -> str:
    """Fetch a file unless it is there already.

    Args:
        npm_file: The file and its digest.
        target: Where it goes.

    Returns:
        ``"kept"`` or ``"fetched"``.

    Raises:
        FetchError: npm is missing or fails, or the file is not the published one.
    """
    if target.exists() and _digest(target.read_bytes()) == npm_file.sha256:
        return "kept"
    content = _fetch(npm_file)
    if _digest(content) != npm_file.sha256:
        raise FetchError(
            f"{npm_file.file} of {npm_file.package} {npm_file.version} is not what was published; try again"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    replace_file(target, content)
    return "fetched"


def _fetch(npm_file: NpmFile) -> bytes:
    npm = shutil.which("npm")
    if npm is None:
        raise FetchError("no npm on PATH; install it, for example Debian's package npm")
    package = f"{npm_file.package}@{npm_file.version}"
    with tempfile.TemporaryDirectory(prefix="npm-pack-", dir=open_scratch()) as folder:
        try:
            done = subprocess.run(
                [npm, "pack", package, "--silent", "--pack-destination", folder],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=NPM_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise FetchError(f"`npm pack {package}` gave no answer within {NPM_TIMEOUT_S} s") from None
        archive = next(Path(folder).glob("*.tgz"), None)
        if done.returncode or archive is None:
            error_lines = [line for line in done.stderr.splitlines() if "error" in line.lower()] or [
                "it printed no error"
            ]
            raise FetchError(f"`npm pack {package}` failed: {error_lines[0].strip()}")
        with tarfile.open(archive) as tar:
            member = tar.extractfile(npm_file.file)
            if member is None:
                raise FetchError(f"{package} has no {npm_file.file}")
            return member.read()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m harness.setup.plotly_bundle", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--strict", action="store_true", help="exit 1 where the bundle can't be fetched")
    strict = parser.parse_args().strict
    try:
        print(f"plotly.js {PLOTLY_JS_VERSION}, basic bundle: {ensure_npm_file(PLOTLY, bundle_file())}", flush=True)
    except (FetchError, OSError, KeyError, tarfile.TarError) as problem:
        print(f"plotly.js's small bundle was not fetched: {problem}. Pages will be bigger, not poorer.", flush=True)
        return 1 if strict else 0
    return 0


if __name__ == "__main__":
    install_hooks()
    sys.exit(main())
