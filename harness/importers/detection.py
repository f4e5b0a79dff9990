"""Which tool wrote a file, by its beginning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.errors import UsageError
from harness.importers import IMPORTERS, Importer

HEAD_BYTES = 65_536
"""Of a file that are looked at. pytest-benchmark's flags of a CPU take some 2,000."""


def find_importer(path: Path) -> str:
    """The name of the importer that reads a file.

    Raises :class:`UsageError` where the file cannot be read, or no importer knows it, or several do.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as problem:
        raise UsageError(f"{path}: cannot be read ({problem.strerror}); name a file of results") from None
    loaded, _ = IMPORTERS.load_all()
    matching = matching_importers(head, loaded)
    if len(matching) == 1:
        return matching[0]
    if not matching:
        known = ", ".join(sorted(loaded))
        raise UsageError(f"{path}: is no file that an importer knows; name one by --from ({known}), or give --pattern")
    raise UsageError(f"{path}: may be a file of {' or '.join(matching)}; name one by --from")


def matching_importers(head: bytes, importers: Mapping[str, Importer]) -> list[str]:
    """The names of the importers whose signature the beginning of a file matches (pure)."""
    return [
        name
        for name, importer in importers.items()
        if importer.signature is not None and importer.signature.search(head)
    ]
