"""Which code is this? Ranks of other sources than the harness's would measure something else, or not understand it.

python -m bench.plugins.sources
"""

from __future__ import annotations

import hashlib
from pathlib import Path

DIGEST_PREFIX = "scaling-sources "


def sources_digest() -> str:
    """Of every module of this package, by name and content."""
    package = Path(__file__).resolve().parents[1]
    sha = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        sha.update(f"{path.relative_to(package)}\0".encode() + path.read_bytes() + b"\0")
    return sha.hexdigest()[:16]


if __name__ == "__main__":
    print(DIGEST_PREFIX + sources_digest())
