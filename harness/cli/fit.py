"""The command ``fit``: speed-up laws of anyone's throughputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, get_args

import typer

from bench.core.case import Scaling
from bench.host.paths import from_home
from harness.cli.output import JsonOption, VerbosityOption, print_output
from harness.errors import UsageError, suggest_name

EXAMPLES = {
    "fit": (
        "Examples:\n\n`python -m harness fit scaling.csv`\n\n"
        "`python -m harness fit scaling.csv --model usl --predict 64,1024 --json`\n\n"
        "`python -m harness fit times.csv --where model=gpt2 --by batch`\n\n"
        "The file has a column `ranks` (or `n`, `world_size`, `gpus`, `nodes`) and one `throughput`, or `seconds` "
        "(or `time_s`, `step_s`); repeats are further rows, and a column `curve` separates curves. Columns are "
        "separated by commas, or by semicolons or tabs, where a number may have a decimal comma."
    )
}


def fit(
    file: Annotated[Path, typer.Argument(parser=from_home, help="A CSV file.", metavar="FILE.csv")],
    model: Annotated[str, typer.Option(metavar="usl|amdahl|log|linear|best", help="The law to fit.")] = "best",
    method: Annotated[str, typer.Option(metavar="log|nls", help="Residuals of ln X (default), or of X.")] = "log",
    predict: Annotated[
        list[str] | None, typer.Option(metavar="8,64,1024", help="Rank counts to predict the throughput at.")
    ] = None,
    scaling: Annotated[
        str | None,
        typer.Option(metavar="strong|weak", help="Overrides the file's column; weak: serial shares by Gustafson."),
    ] = None,
    where: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN=VALUE", help="Only rows with this value; may be repeated.")
    ] = None,
    by: Annotated[str | None, typer.Option(metavar="COLUMN,...", help="Columns whose values separate curves.")] = None,
    per_rank: Annotated[bool, typer.Option("--per-rank", help="The throughputs are those of a rank.")] = False,
    as_json: JsonOption = False,
    verbosity: VerbosityOption = None,
) -> int:
    """Fit speed-up laws (USL, Amdahl, log, linear) to throughputs in a CSV file.

    Parameters have intervals, and flags name what makes a fit unreliable. A law that misses a measured rank count by
    more than 20 % predicts nothing; without --model, all other laws predict together.
    """
    from harness.importers.throughput_csv import RowChoice, parse_where, read_throughputs
    from harness.planning.flags import parse_rank_counts
    from reports.analysis.curve import fit_curve
    from reports.analysis.laws import ScalingLaw
    from reports.analysis.scaling import FitMethod
    from reports.formats.curve_fits import CurveFits

    _check_choice("model", model, (*get_args(ScalingLaw), "best"))
    _check_choice("method", method, get_args(FitMethod))
    if scaling is not None:
        _check_choice("scaling", scaling, get_args(Scaling))
    rank_counts = parse_rank_counts(predict)
    separating = tuple(name.strip().lower() for name in (by or "").split(",") if name.strip())
    table = read_throughputs(file, RowChoice(parse_where(where or ()), separating, per_rank, scaling))
    curves = [
        fit_curve(name, by_ranks, model, method, rank_counts, scaling or ("weak" if name in table.weak else "strong"))  # type: ignore[arg-type]  # the names were checked above
        for name, by_ranks in table.throughputs.items()
    ]
    return print_output(CurveFits(curves, table.left_out, table.notes), as_json=as_json)


def _check_choice(option: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise UsageError(f"--{option} {value}: unknown {option}{suggest_name(value, choices)}")
