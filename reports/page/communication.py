"""Communication on the page: the fitted allreduces and their back-tests, and a collective over message sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reports.analysis import case_titles, changes, formatting
from reports.analysis.communication import AllreduceModel
from reports.analysis.communication_paths import CommunicationPath, FittedExchange
from reports.analysis.layered_allreduce import Misfit
from reports.analysis.operation_models import OperationModel
from reports.page.elements import Table

TYPICAL_ERROR, LARGEST_ERROR = "typical error of the fit", "largest error of the fit"
Paths = Mapping[str, CommunicationPath]


def alpha_beta(model: AllreduceModel | None) -> tuple[str, str]:
    """α and 1/β with their intervals."""
    return ("–", "–") if model is None else (formatting.latency(model.latency_s), formatting.bandwidth(model.byte_s))


def exchange_table(paths: Paths) -> Table:
    """One row for each path and place."""
    rows: list[tuple[str, ...]] = []
    for path in paths.values():
        for place, exchange in path.places.items():
            measured = (
                exchange.labels.path,
                case_titles.PLACE_TITLES[place],
                rank_counts_text(exchange.rank_counts),
            )
            best = "–" if exchange.bus_bandwidth is None else formatting.byte_rate(exchange.bus_bandwidth)
            rows.append((*measured, *_model_columns(exchange), best, _link_share(exchange)))
    header = (
        "exchange",
        "place",
        "ranks",
        "algorithm",
        "α: latency (95 %)",
        "1/β: bandwidth (95 %)",
        LARGEST_ERROR,
        "highest bus bandwidth",
        "of the link",
    )
    note = (
        "Fitted to ln t of the allreduces of all sizes. Ring: 2(N−1)α + 2(N−1)/N·Sβ; tree: 2⌈log₂N⌉(α + Sβ); the "
        "closer one is shown; from one rank count they are indistinguishable. Bus bandwidth = S ÷ t · 2(N−1)/N: what "
        "each link must have carried, beside what a plain transfer over it achieved; through memory there is no link."
    )
    return Table("Allreduce: latency and bandwidth", header, tuple(rows), note)


def operation_table(models: Sequence[OperationModel]) -> Table:
    """One row for each operation of sharded training, communication path and place."""
    rows = tuple(
        (
            model.operation,
            model.labels.path,
            case_titles.PLACE_TITLES[model.place],
            rank_counts_text(model.rank_counts),
            *(
                (f"none: {model.reason}", "–", "–")
                if model.latency_s is None or model.byte_s is None
                else (
                    formatting.latency(model.latency_s),
                    formatting.bandwidth(model.byte_s),
                    changes.signed_percent(model.misfit or 0, 0),
                )
            ),
        )
        for model in models
    )
    header = (
        "operation",
        "exchange",
        "place",
        "ranks",
        "α: latency (95 %)",
        "1/β: bandwidth (95 %)",
        LARGEST_ERROR,
    )
    note = (
        "Fitted to ln t of all sizes: (N−1)α + (N−1)/N·Sβ, S the bytes of the whole. From them the step of a sharded "
        "model is predicted: each unit is gathered before it computes, and its gradients are reduced and scattered."
    )
    return Table("all_gather and reduce_scatter: latency and bandwidth", header, rows, note)


def _model_columns(exchange: FittedExchange) -> tuple[str, str, str, str]:
    if exchange.place == "both":
        return "see below: two kinds of links", "–", "–", "–"
    if exchange.model is None:
        return f"none: {exchange.reason}", "–", "–", "–"
    model = exchange.model
    where = f"{formatting.ranks(model.misfit_ranks)}, {formatting.message_size(int(model.misfit_bytes))}"
    algorithm = f"{model.algorithm}, assumed" if model.assumed else model.algorithm
    return algorithm, *alpha_beta(model), f"{changes.signed_percent(model.misfit, 0)} at {where}"


def _link_share(exchange: FittedExchange) -> str:
    if exchange.bus_bandwidth is None or exchange.link_bytes_s is None:
        return "–"
    share = formatting.share(exchange.bus_bandwidth / exchange.link_bytes_s)
    return f"{share} of {formatting.byte_rate(exchange.link_bytes_s)}"


def layered_table(paths: Paths) -> Table:
    """The allreduces of several ranks on each of several nodes, modelled from their parts by both algorithms."""
    rows = []
    for path in paths.values():
        if "both" not in path.places:
            continue
        title, measured = path.labels.path, rank_counts_text(path.places["both"].rank_counts)
        if path.layered is None:
            rows.append((title, measured, "none", f"unknown: {path.layered_reason}", "–", "–", "–"))
            continue
        for algorithm, misfit in path.layered.misfits.items():
            selected = "yes" if algorithm == path.layered.algorithm else "–"
            rows.append(
                (
                    title,
                    measured,
                    algorithm,
                    path.layered.source,
                    formatting.share(misfit.typical),
                    _largest_misfit(misfit),
                    selected,
                )
            )
    header = (
        "exchange",
        "ranks",
        "algorithm",
        "α and β of its parts",
        "typical error of the fit",
        LARGEST_ERROR,
        "selected",
    )
    note = (
        "N ranks on n nodes, K on each. Flat ring: 2(N−1)·max(αᵢ + S/N·βᵢ, αₓ + S/N·βₓ), whose slowest hop is the link "
        "between nodes. Hierarchical: reduce-scatter inside, allreduce of S/K across by each of the K ranks, allgather "
        "inside; the K share the node's link, and together take as long as one of S. i: inside, x: across nodes. "
        "Tested: α and β are measured inside nodes alone and across nodes alone; fitted: α and β of the link between "
        "nodes are fitted to the same allreduces."
    )
    return Table("Several ranks on each of several nodes: flat or hierarchical", header, tuple(rows), note)


def backtest_table(paths: Paths) -> Table:
    """One row for each path and place that was measured at several counts."""
    rows = tuple(
        (
            path.labels.path,
            case_titles.PLACE_TITLES[backtest.place],
            backtest.model,
            rank_counts_text(backtest.smaller),
            f"{backtest.ranks} on {formatting.nodes(backtest.nodes)}",
            formatting.share(backtest.misfit.typical),
            _largest_misfit(backtest.misfit),
        )
        for path in paths.values()
        for backtest in path.backtests()
    )
    header = ("exchange", "place", "model", "from ranks", "predicted for", "typical error", "largest error")
    note = (
        "The allreduces at the most nodes (on one node: at the most ranks), as predicted by α and β of the smaller "
        "counts."
    )
    return Table("Back-test of the allreduces", header, rows, note)


def _largest_misfit(misfit: Misfit) -> str:
    where = f"{formatting.ranks(misfit.ranks)}, {formatting.message_size(int(misfit.message_bytes))}"
    return f"{changes.signed_percent(misfit.largest, 0)} at {where}"


def rank_counts_text(ranks: tuple[int, ...]) -> str:
    """``1, 2, 4``"""
    return ", ".join(map(str, ranks)) or "–"
