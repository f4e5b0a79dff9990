"""The command ``report``: pages of stored sweeps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.host.paths import from_home
from harness.cli.completion import complete_sweeps
from harness.cli.option_groups import takes_groups
from harness.cli.output import (
    SWEEP_NAMES,
    JsonOption,
    MarkdownOption,
    StoreOption,
    VerbosityOption,
    check_printed,
    output_path,
    print_output,
)
from harness.cli.sweep_options import Co2Option, PriceOption, TargetOption
from harness.errors import UsageError
from harness.store import DEFAULT_STORE

if TYPE_CHECKING:
    from harness.reporting.summary_outputs import SummaryPaths
    from reports.analysis.predictions import PredictOptions

EXAMPLES = {
    "report": (
        "Examples:\n\n`python -m harness report`\n\n"
        "`python -m harness report 20261121-101500-ab12 --out night.html`\n\n"
        "`python -m harness report 20261120-101500-cd34 latest` — side by side, with what changed\n\n"
        "`python -m harness report --predict 8,64 --link 100Gbit,5us` — predictions for other rank counts\n\n"
        "`python -m harness report --predict 64,512,4096 --ranks-per-node 8` — predictions for more nodes\n\n"
        "`python -m harness report A B --markdown -` — on standard output, for the summary of a CI job\n\n"
        "`python -m harness report --svg figures/ --badge scaling.svg` — for a README\n\n"
        "`python -m harness report --index nights/` — a report of each finished sweep, and the trend over them"
    ),
}


@dataclass(frozen=True)
class SummaryOptions:
    """What is written beside the page."""

    markdown: MarkdownOption = None
    svg: Annotated[
        Path | None,
        typer.Option(metavar="DIR", parser=from_home, help="The efficiency table and the curves as SVG files."),
    ] = None
    png: Annotated[
        Path | None,
        typer.Option(metavar="DIR", parser=from_home, help="The same as PNG files; needs resvg-py."),
    ] = None
    badge: Annotated[
        Path | None,
        typer.Option(metavar="FILE.svg", parser=output_path("--badge"), help="How far it scales, for a README."),
    ] = None

    def paths(self) -> SummaryPaths:
        from harness.reporting.summary_outputs import SummaryPaths

        return SummaryPaths(self.markdown, self.svg, self.png, self.badge)


@dataclass(frozen=True)
class PredictionOptions:
    """What is predicted."""

    predict: Annotated[
        list[str] | None,
        typer.Option(metavar="8,64,1024", help="Rank counts to predict; default: 2, 4 and 8 times the largest."),
    ] = None
    link: Annotated[
        str | None, typer.Option(metavar="100Gbit,5us", help="Predict up to 4,096 ranks over such a link.")
    ] = None
    ranks_per_node: Annotated[
        int | None, typer.Option(metavar="K", help="Predict for nodes of this many ranks; default: as measured.")
    ] = None

    @property
    def given(self) -> bool:
        return bool(self.predict or self.link or self.ranks_per_node)

    def parsed(self) -> PredictOptions:
        """Raises :class:`UsageError`."""
        from harness.planning.flags import parse_link, parse_rank_counts, parse_ranks_per_node
        from reports.analysis.predictions import PredictOptions

        return PredictOptions(
            parse_rank_counts(self.predict), parse_link(self.link), parse_ranks_per_node(self.ranks_per_node)
        )


@dataclass(frozen=True)
class PriceOptions:
    """What work costs."""

    price_per_hour: PriceOption = None
    co2: Co2Option = None
    target: TargetOption = None

    @property
    def given(self) -> bool:
        return any(value is not None for value in self.by_field().values())

    def by_field(self) -> dict[str, Any]:
        """The values by the suite's field."""
        return {"price_per_hour": self.price_per_hour, "co2_g_per_kwh": self.co2, "target": self.target}


@takes_groups
def report(
    sweeps: Annotated[
        list[str] | None,
        typer.Argument(metavar="SWEEP", autocompletion=complete_sweeps, help=f"{SWEEP_NAMES}; default: the latest."),
    ] = None,
    *,
    store: StoreOption = DEFAULT_STORE,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", parser=output_path("--out"), help="The page; default: beside the store."),
    ] = None,
    index: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", parser=from_home, help="Write the trend over these sweeps, or all, with their reports."
        ),
    ] = None,
    summary: SummaryOptions,
    prediction: PredictionOptions,
    price: PriceOptions,
    as_json: JsonOption = False,
    verbosity: VerbosityOption = None,
) -> int:
    """Write the page of a stored sweep, of several side by side, or an index over many."""
    check_printed(summary.markdown, as_json=as_json)
    paths = summary.paths()
    if index is not None:
        _check_index(out, paths, prediction, price)
        from harness.publish.index import write_index

        return print_output(write_index(sweeps or [], store, index), as_json=as_json)
    if sweeps and len(sweeps) > 1:
        predict_options = prediction.parsed()
        if price.given:
            raise UsageError("--price-per-hour, --co2 and --target apply to the page of one sweep; name one")
        from harness.publish import comparison

        return print_output(comparison.compare_sweeps(sweeps, store, out, predict_options, paths), as_json=as_json)
    from harness.reporting.report_files import rewrite_report

    sweep = sweeps[0] if sweeps else "latest"
    result = rewrite_report(sweep, store, out, prediction.parsed(), price.by_field(), paths)
    return print_output(result, as_json=as_json)


def _check_index(out: Path | None, paths: SummaryPaths, prediction: PredictionOptions, price: PriceOptions) -> None:
    """Raises :class:`UsageError` where an option is given that does not apply to an index."""
    if out is not None:
        raise UsageError("--out names one page and --index a folder of pages; leave one of them out")
    if paths.wanted:
        raise UsageError("--markdown, --svg, --png and --badge are of a page of sweeps, not of an --index")
    if prediction.given:
        raise UsageError(
            "--predict, --ranks-per-node and --link apply to a page of sweeps, not to an --index; leave them out"
        )
    if price.given:
        raise UsageError("--price-per-hour, --co2 and --target apply to the page of one sweep, not to an --index")
