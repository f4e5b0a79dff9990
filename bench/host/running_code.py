"""The code that runs: where it lies, what it was copied from, and its digest. Loads no framework.

A command that measures runs from a copy of its own sources (:mod:`harness.planning.source_copy`), so that nothing that
is saved meanwhile changes what its ranks do. The copy says of itself where it came from.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

CODE = Path(__file__).resolve().parents[2]
"""The folder of the packages that run."""
COPY_FILE = "source-copy.json"
DIGEST_LENGTH = 16
"""Characters of a digest of sources."""


@dataclass(frozen=True)
class SourceCopy:
    """A copy of the sources, as it describes itself."""

    origin: str
    """The folder that was copied: a checkout, or that of the installed packages."""
    owner: int
    """The process that made the copy, and removes it."""
    lock: int
    """The owner's file descriptor of the lock on the folder."""
    commit: str | None
    """The id of the commit that was checked out there, in full; ``None``: unknown."""
    changed_files: bool | None
    """Whether files differed from that commit."""
    commit_reason: str | None
    """Why the commit is unknown."""


def read_source_copy(folder: Path = CODE) -> SourceCopy | None:
    """What the copy in a folder says of itself; ``None`` where the folder is no copy."""
    try:
        return SourceCopy(**json.loads((folder / COPY_FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def write_source_copy(folder: Path, description: SourceCopy) -> None:
    """Mark a folder as a copy of the sources."""
    (folder / COPY_FILE).write_text(json.dumps(asdict(description)) + "\n")


def _find_origin() -> Path:
    copy = read_source_copy()
    return CODE if copy is None else Path(copy.origin)


ORIGIN = _find_origin()
"""What :data:`CODE` was copied from; itself where it is no copy."""


def sources_digest(package: Path = CODE / "bench") -> str:
    """The digest of the modules that ranks run, by name and content.

    Args:
        package: The folder of the package ``bench``; by default the one that this process runs, which is read once:
            the files may change later.
    """
    return _running_digest() if package == CODE / "bench" else _digest_of(package)


@cache
def _running_digest() -> str:
    return _digest_of(CODE / "bench")


def _digest_of(package: Path) -> str:
    sha = hashlib.sha256()
    # Editors keep locks and backups under names that begin with a full stop; some are links to nowhere.
    for path in sorted(path for path in package.rglob("*.py") if not path.name.startswith(".")):
        sha.update(f"{path.relative_to(package)}\0".encode() + path.read_bytes() + b"\0")
    return sha.hexdigest()[:DIGEST_LENGTH]
