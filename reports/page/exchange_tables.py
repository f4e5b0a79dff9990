"""Tables of the fitted exchanges: inside a node, across nodes, both at once; and whether they would have been right."""

from __future__ import annotations

from collections.abc import Mapping

from reports.analysis.communication import AllreduceModel
from reports.analysis.layers import Misfit
from reports.exchanges import CommunicationPath, FittedExchange
from reports.page import words
from reports.page.values import Table

Paths = Mapping[str, CommunicationPath]


def alpha_beta(found: AllreduceModel | None) -> tuple[str, str]:
    """α and 1/β with their intervals."""
    return ("–", "–") if found is None else (words.latency(found.latency_s), words.bandwidth(found.byte_s))


def exchange_table(paths: Paths) -> Table:
    """One row a way and place."""
    rows: list[tuple[str, ...]] = []
    for path in paths.values():
        for place, found in path.places.items():
            measured = (words.path_title(found.case), words.PLACE_TITLES[place], rank_counts_text(found.rank_counts))
            best = "–" if found.bus_bandwidth is None else f"{words.number(found.bus_bandwidth)}B/s"
            rows.append((*measured, *_model_columns(found), best, _link_share(found)))
    header = (
        "exchange",
        "place",
        "ranks",
        "algorithm",
        "α: latency (95 %)",
        "1/β: bandwidth (95 %)",
        "largest misfit",
        "highest bus bandwidth",
        "of the link",
    )
    note = (
        "Fitted to ln t of the allreduces of all sizes. Ring: 2(N−1)α + 2(N−1)/N·Sβ; tree: 2⌈log₂N⌉(α + Sβ); the "
        "nearer one is shown; from one rank count they can't be told apart. Bus bandwidth = S ÷ t · 2(N−1)/N: what "
        "each link must have carried, beside what a plain transfer over it achieved; through memory there is no link."
    )
    return Table("The exchange: latency and bandwidth", header, tuple(rows), note)


def _model_columns(found: FittedExchange) -> tuple[str, str, str, str]:
    if found.place == "both":
        return "see below: it has two kinds of links", "–", "–", "–"
    if found.model is None:
        return f"none: {found.reason}", "–", "–", "–"
    model = found.model
    where = f"{words.ranks(model.misfit_ranks)}, {words.message_size(int(model.misfit_bytes))}"
    algorithm = f"{model.algorithm}, assumed" if model.assumed else model.algorithm
    return algorithm, *alpha_beta(model), f"{100 * model.misfit:+.0f} % at {where}"


def _link_share(found: FittedExchange) -> str:
    if found.bus_bandwidth is None or found.link_bytes_s is None:
        return "–"
    return f"{found.bus_bandwidth / found.link_bytes_s:.0%} of {words.number(found.link_bytes_s)}B/s"


def layered_table(paths: Paths) -> Table:
    """How the allreduces of several ranks on each of several nodes follow from their parts, by either algorithm."""
    rows = []
    for path in paths.values():
        if "both" not in path.places:
            continue
        title, measured = words.path_title(path.case), rank_counts_text(path.places["both"].rank_counts)
        if path.layered is None:
            rows.append((title, measured, "none", f"unknown: {path.layered_reason}", "–", "–", "–"))
            continue
        for algorithm, found in path.layered.misfits.items():
            nearer = "nearer" if algorithm == path.layered.algorithm else ""
            rows.append(
                (
                    title,
                    measured,
                    algorithm,
                    path.layered.source,
                    f"{100 * found.typical:.0f} %",
                    _largest_misfit(found),
                    nearer or "–",
                )
            )
    header = ("exchange", "ranks", "algorithm", "α and β of its parts", "typical misfit", "largest misfit", "which is")
    note = (
        "N ranks on n nodes, K on each. Flat ring: 2(N−1)·max(αᵢ + S/N·βᵢ, αₓ + S/N·βₓ), whose slowest hop is the link "
        "between nodes. Hierarchical: reduce-scatter inside, allreduce of S/K across by each of the K ranks, allgather "
        "inside; the K share the node's link, and take together what one of S takes. i: inside, x: across nodes. "
        "Tested: α and β are those measured inside nodes alone and across them alone; fitted: those of the link "
        "between nodes are from the very allreduces that are judged."
    )
    return Table("Several ranks on each of several nodes: flat or hierarchical", header, tuple(rows), note)


def backtest_table(paths: Paths) -> Table:
    rows = tuple(
        (
            words.path_title(path.case),
            words.PLACE_TITLES[one.place],
            one.model,
            rank_counts_text(one.smaller),
            f"{one.ranks} on {words.nodes(one.nodes)}",
            f"{100 * one.misfit.typical:.0f} %",
            _largest_misfit(one.misfit),
        )
        for path in paths.values()
        for one in path.backtests()
    )
    header = ("exchange", "place", "model", "from ranks", "foretold for", "typical error", "largest error")
    note = (
        "How the allreduces at the most nodes (on one node: at the most ranks) would have been foretold by α and β of "
        "fewer."
    )
    return Table("Would the allreduces have been right?", header, rows, note)


def _largest_misfit(found: Misfit) -> str:
    where = f"{words.ranks(found.ranks)}, {words.message_size(int(found.message_bytes))}"
    return f"{100 * found.largest:+.0f} % at {where}"


def rank_counts_text(ranks: tuple[int, ...]) -> str:
    return ", ".join(map(str, ranks)) or "–"
