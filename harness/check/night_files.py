"""The files in the folder of a night: those of an earlier one are removed, and no others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from harness.check import micro_benchmarks
from harness.output_files import OutputFile, check_outputs, remove_output
from reports.formats.verdict import json_document, junit, markdown
from reports.page import html

SIGNATURES: Mapping[str, re.Pattern[bytes]] = {
    "report.html": html.SIGNATURE,
    "index.html": html.SIGNATURE,
    "verdict.html": html.SIGNATURE,
    "verdict.md": markdown.SIGNATURE,
    "verdict.json": json_document.SIGNATURE,
    "junit.xml": junit.SIGNATURE,
}
"""The files of a night beside its micro-benchmarks. The index adds a report for each sweep."""
MICRO_FOLDER = "micro"


def night_output(folder: Path, name: str) -> OutputFile:
    """One of the files of :data:`SIGNATURES`."""
    return OutputFile("--out", folder / name, SIGNATURES[name])


def clear_folder(folder: Path, store: Path | None) -> None:
    """Remove the files of an earlier night, so that they are not mistaken for tonight's.

    Args:
        folder: The folder of the night.
        store: The file of the store, which may lie in the folder.

    Raises:
        OutputError: Before anything is removed, for a file that can't be written or is somebody else's.
    """
    outputs = [night_output(folder, name) for name in SIGNATURES]
    outputs += micro_benchmarks.night_files(folder / MICRO_FOLDER)
    check_outputs(outputs, store)
    for output in outputs:
        remove_output(output)
