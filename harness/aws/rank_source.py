"""The source that ranks run, as an archive for machines that have not installed us."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import bench

RANK_REQUIREMENTS = ("nvidia-ml-py>=13", "psutil>=6", "pydantic>=2.9")
"""What ranks import beside their framework, as in pyproject.toml; what is there already is not fetched again."""


def pack_source() -> bytes:
    """``bench`` and a requirements.txt as tar.gz; the same source gives the same bytes."""
    root = Path(bench.__file__).parent
    files = {f"bench/{path.relative_to(root)}": path.read_bytes() for path in sorted(root.rglob("*.py"))}
    files["requirements.txt"] = ("\n".join(RANK_REQUIREMENTS) + "\n").encode()
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()
