"""``python -m harness export``, ``ingest`` and ``merge``: what leaves a store and what enters it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.output import JsonOption, StoreOption, print_output, stderr_console
from harness.errors import EXIT_OK
from harness.store.store import DEFAULT_STORE
from reports.formats.exports import format_names

EXPORT_EXAMPLES = (
    "Examples:\n\n`python -m harness export > trials.csv` — the latest sweep, a row a trial\n\n"
    "`python -m harness export 20261121-101500-ab12 latest --out trials.parquet`\n\n"
    "`python -m harness export --out now.json && pytest-benchmark compare now.json`\n\n"
    "`python -m harness export --out steps.jsonl && extrap --json steps.jsonl` — Extra-P\n\n"
    "`python -m harness export --out trials.csv && python -m harness fit trials.csv`"
)


def export(
    sweeps: Annotated[list[str] | None, typer.Argument(metavar="SWEEP ...", help="Ids; default: the latest.")] = None,
    store: StoreOption = DEFAULT_STORE,
    format_name: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help=f"One of {', '.join(format_names())}. Default: as the file's suffix says, else csv.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Default: text goes to standard output.")] = None,
) -> int:
    """Hand stored trials to other tools: CSV, Parquet, pytest-benchmark's JSON or Extra-P's JSON Lines."""
    from harness.publish import export

    export.export(sweeps or [], store, format_name, out, stderr_console)
    return EXIT_OK


INGEST_EXAMPLES = (
    "Examples:\n\n`pytest benchmarks --benchmark-json one.json && python -m harness ingest one.json`\n\n"
    "`python -m harness ingest runs/*.json --night 2026-11-21`"
)


def ingest(
    files: Annotated[list[Path], typer.Argument(metavar="FILE ...", help="pytest-benchmark's JSON, a file a run.")],
    store: StoreOption = DEFAULT_STORE,
    night: Annotated[
        str | None, typer.Option(metavar="LABEL", help="The night they are runs of; default: each file's day (UTC).")
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Take pytest-benchmark's numbers into the store: they become series beside the sweeps'."""
    from harness.importers import pytest_benchmark

    return print_output(pytest_benchmark.ingest(files, store, night), as_json=as_json)


MERGE_EXAMPLES = (
    "Examples:\n\n`python -m harness merge artifact/results.sqlite`\n\n"
    "`python -m harness merge .runs/results.sqlite --store postgresql+psycopg://team@db/results`"
)


def merge(
    other: Annotated[str, typer.Argument(metavar="OTHER", help="The store to take from: a file or a database URL.")],
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> int:
    """Bring what another store holds into this one.

    A second time doubles nothing; a sweep that has grown since is completed.
    """
    from harness.store import merging

    return print_output(merging.merge(other, store), as_json=as_json)
