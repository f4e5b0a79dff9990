"""``python -m harness fit``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.output import JsonOption, print_json, stdout_console
from harness.errors import EXIT_OK

FIT_EXAMPLES = (
    "Examples:\n\n`python -m harness fit scaling.csv`\n\n"
    "`python -m harness fit scaling.csv --model usl --predict 64,1024 --json`\n\n"
    "The file: columns `ranks` (or `n`) and `throughput`, repeats as further rows; a column `curve` tells curves apart."
)


def fit(
    file: Annotated[Path, typer.Argument(help="A CSV file.", metavar="FILE.csv")],
    model: Annotated[str, typer.Option(metavar="usl|amdahl|linear|best", help="What to fit.")] = "best",
    method: Annotated[str, typer.Option(metavar="log|nls", help="Residuals of ln X (default), or of X.")] = "log",
    predict: Annotated[str | None, typer.Option(metavar="8,64,1024", help="Rank counts that were not run.")] = None,
    scaling: Annotated[
        str | None, typer.Option(metavar="strong|weak", help="weak: serial shares by Gustafson; else as the file says.")
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Fit speed-up laws to measured throughputs: USL, Amdahl or linear, with intervals and traps named."""
    from harness.importers import throughput_csv
    from harness.planning.predict_options import parse_rank_counts

    fits = throughput_csv.fit_csv(file, model, method, parse_rank_counts(predict), scaling)
    if as_json:
        print_json(throughput_csv.fits_as_json(fits))
    else:
        throughput_csv.print_fits(fits, stdout_console())
    return EXIT_OK
