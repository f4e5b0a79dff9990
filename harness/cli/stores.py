"""The commands ``export``, ``ingest`` and ``merge``: what leaves a store and what enters it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.host.paths import from_home
from harness.cli.completion import complete_sweeps
from harness.cli.output import (
    SWEEP_NAMES,
    JsonOption,
    PluginOption,
    StoreOption,
    VerbosityOption,
    print_output,
    stderr_console,
)
from harness.errors import EXIT_OK
from harness.store import DEFAULT_STORE
from reports.formats.exports import format_names

EXAMPLES = {
    "export": (
        "Examples:\n\n`python -m harness export > trials.csv` — the latest sweep, a row a trial\n\n"
        "`python -m harness export 20261121-101500-ab12 latest --out trials.parquet`\n\n"
        "`python -m harness export --out now.json && pytest-benchmark compare now.json`\n\n"
        "`python -m harness export --out steps.jsonl && "
        "extrap --json steps.jsonl --options allow_negative_exponents=True` — Extra-P, from 5 rank counts on, in an "
        "environment of its own (it needs NumPy 1); the option is for step times that fall, as under strong scaling\n\n"
        "`python -m harness export --out trials.csv && python -m harness fit trials.csv`\n\n"
        "`python -m harness export --out /var/lib/node_exporter/scaling.prom` — for its textfile collector\n\n"
        "`python -m harness export --format mlflow --out sqlite:///mlflow.db`\n\n"
        "`python -m harness export --format tensorboard --out logs && tensorboard --logdir logs`"
    ),
    "ingest": (
        "Examples:\n\n`pytest benchmarks --benchmark-json one.json && python -m harness ingest one.json`\n\n"
        "`python -m harness ingest runs/*.json --night 2026-11-21`\n\n"
        "`hyperfine --export-json now.json ./train.sh && python -m harness ingest now.json`\n\n"
        "`python -m harness ingest train.log --pattern '(?P<ms>[0-9.]+) ms/step'`"
    ),
    "merge": (
        "Examples:\n\n`python -m harness merge artifact/results.sqlite`\n\n"
        "`python -m harness merge .runs/results.sqlite --store postgresql+psycopg://team@db/results`"
    ),
}


def export(
    sweeps: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SWEEP ...", autocompletion=complete_sweeps, help=f"{SWEEP_NAMES}; default: the latest."
        ),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    format_name: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help=f"One of {', '.join(format_names())}; default: by the file's suffix, else csv.",
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="PLACE",
            help="The file to write; the folder of `tensorboard` and `wandb`; the tracking URI of `mlflow`. "
            "Default: text to standard output.",
        ),
    ] = None,
    plugins: PluginOption = None,
    verbosity: VerbosityOption = None,
) -> int:
    """Write stored trials to a file (CSV, Parquet, OpenMetrics, …) or to an experiment tracker (MLflow, …)."""
    from harness.publish import export
    from harness.sweep.plugins import use_plugin_files

    use_plugin_files(plugins or ())
    export.export(sweeps or [], store, format_name, out, stderr_console())
    return EXIT_OK


def ingest(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE ...", parser=from_home, help="Files of results, of one tool or of several."),
    ],
    store: StoreOption = DEFAULT_STORE,
    night: Annotated[
        str | None,
        typer.Option(metavar="LABEL", help="The night that the runs belong to; default: each file's day (UTC)."),
    ] = None,
    importer: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="NAME",
            help="The importer that reads the files (see `list`); default: each file's, by its beginning.",
        ),
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX",
            help="For lines of training logs: a named group s, ms, us or per_s is the number; groups step and name, "
            "where there are any, say whose.",
        ),
    ] = None,
    plugins: PluginOption = None,
    as_json: JsonOption = False,
    verbosity: VerbosityOption = None,
) -> int:
    """Read results of other tools into the store.

    They become series that `check` judges like those of sweeps. Known are files of pytest-benchmark, pyperf, asv,
    hyperfine, Google Benchmark and nccl-tests, and logs of torchtitan and Megatron-LM.
    """
    from harness.importers.ingest import ingest
    from harness.sweep.plugins import use_plugin_files

    use_plugin_files(plugins or ())
    return print_output(ingest(files, store, night, importer, pattern), as_json=as_json)


def merge(
    other: Annotated[str, typer.Argument(metavar="OTHER", help="The store to copy from: a file or a database URL.")],
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    verbosity: VerbosityOption = None,
) -> int:
    """Copy the sweeps of another store into this one.

    Repeating it duplicates nothing; a sweep that has grown since is completed.
    """
    from harness.store import merging

    return print_output(merging.merge(other, store), as_json=as_json)
