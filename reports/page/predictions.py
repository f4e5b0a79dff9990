"""The section that looks ahead: what is foretold, whether it would have been right, and what it is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from reports.carriers import LinkSpec
from reports.cells import Cell
from reports.findings import Findings
from reports.forecasts import Backtest, Forecast, Foretold
from reports.page import exchange_tables, words
from reports.page.exchange_tables import counts
from reports.page.values import Figure, Section, Series, Table
from reports.placement import Spread, spread_of

Styles = Mapping[str, int]
THROUGHPUT = "throughput, samples/s (95 %)"
EFFICIENCY = "efficiency (95 %)"


def sections(findings: Findings, styles: Styles) -> Iterator[Section]:
    """One, where there is anything to foretell, or to foretell it from."""
    forecasts, link = findings.forecasts, findings.asked.link
    tables = (
        *([_at_scale(forecasts, link)] if link else ()),
        _foretold(forecasts),
        _inputs(forecasts),
        _backtests(forecasts),
        _explained(forecasts),
        exchange_tables.places(findings.exchanges),
        exchange_tables.layers(findings.exchanges),
        exchange_tables.backtests(findings.exchanges),
    )
    if any(table.rows for table in tables):
        yield Section(
            "Predictions",
            "What is called foretold was not measured; its intervals are for one further measurement there.",
            figures=tuple(_figures(findings, styles)),
            tables=tuple(table for table in tables if table.rows),
        )


def asked_about(findings: Findings) -> tuple[Table, ...]:
    """What a reader who asked for rank counts or a link wants to see at once."""
    link = findings.asked.link
    at_scale = (_at_scale(findings.forecasts, link),) if link else ()
    return (*at_scale, _foretold(findings.forecasts), _inputs(findings.forecasts), _backtests(findings.forecasts))


def _title(forecast: Forecast) -> str:
    return f"{words.workload_title(forecast.case)} · {words.backend_title(forecast.case)} · {forecast.case.scaling}"


def _span(found: Foretold) -> tuple[str, str]:
    return words.prediction(found.prediction), words.percent(found.efficiency)


def _foretold(forecasts: Sequence[Forecast]) -> Table:
    rows: list[tuple[str, ...]] = []
    for forecast in forecasts:
        model = words.model_title(forecast.model)
        for found in forecast.foretold:
            ranks = found.prediction.ranks
            rows.append((_title(forecast), model, _at(forecast, ranks), *_span(found),
                         _where(ranks, forecast.measured_at)))  # fmt: skip
        for ranks in forecast.impossible:
            why = f"a batch of {forecast.case.batch} can't be cut into {ranks:,}"
            rows.append((_title(forecast), "–", str(ranks), "–", "–", why))
        for ranks, why in forecast.unknown.items():
            rows.append((_title(forecast), "none", _at(forecast, ranks), "–", "–", why))
        if not forecast.foretold and not forecast.unknown and forecast.reason:
            rows.append((_title(forecast), "none", "–", "–", "–", forecast.reason))
    note = (
        "Compute + α–β: each part of a step is fitted as a fixed time plus one in proportion to a rank's share of the "
        "batch; gradients become messages as the backend makes them, and travel while the backward pass goes on. "
        "Where that can't be had, or misses the measured steps by over 20 %, a law of scaling speaks, and its interval "
        "takes for granted that the law holds. Both widen with each doubling beyond the largest measured rank count. "
        "There is no interval where one rank count alone exchanges: it can't tell how far off the model is elsewhere."
    )
    return Table("Foretold throughput", ("curve", "model", "ranks", THROUGHPUT, EFFICIENCY, "lies"), tuple(rows), note)


def _at(forecast: Forecast, ranks: int) -> str:
    """``512 on 64 nodes``, where it was said how many a node holds."""
    told = forecast.case.ranks_per_node or forecast.ranks_per_node != spread_of(forecast.case).width
    return words.spread(Spread(ranks, forecast.ranks_per_node if told else None))


def _inputs(forecasts: Sequence[Forecast]) -> Table:
    """What each prediction by the step model is made of, and how far that was off where it could be judged."""
    rows = []
    for forecast in forecasts:
        found = forecast.inputs
        if found is None:
            continue
        alone = found.own.at(1.0, alone=True)
        fixed = sum(found.own.fixed_s.values()) + found.own.handling_s
        judged = next((one for one in forecast.backtests if one.kind == "step"), None)
        error = f"{100 * judged.error:+.1f} % at {words.ranks(judged.prediction.ranks)}" if judged else "–"
        width = "all on one" if forecast.ranks_per_node is None else str(forecast.ranks_per_node)
        layered = f"{found.layered}, {found.source}" if found.layered else "–"
        rows.append((_title(forecast), width, *exchange_tables.alpha_beta(found.inside),
                     *exchange_tables.alpha_beta(found.across), layered,
                     f"{words.duration(alone.total_s)}, of that {words.duration(fixed)} whatever its share",
                     f"{100 * (forecast.misfit or 0):.1f} %", error))  # fmt: skip
    header = ("curve", "ranks a node", "α inside a node (95 %)", "1/β inside", "α across nodes (95 %)", "1/β across",
              "several on each of several", "own work of one rank", "typical misfit of measured steps",
              "error of the backtest")  # fmt: skip
    note = (
        "Own work: data, forward, backward, optimizer of one rank with all of the batch that it would have alone. "
        "Every node is taken to have a link that nobody else uses; thousands of ranks may meet shared switches."
    )
    return Table("What the predictions are made of", header, tuple(rows), note)


def _where(ranks: int, measured_at: Sequence[int]) -> str:
    if ranks in measured_at:
        return "where it was measured too"
    if measured_at[0] < ranks < measured_at[-1]:
        return "between the measured"
    return "beyond the measured" if ranks > measured_at[-1] else "below the measured"


def _at_scale(forecasts: Sequence[Forecast], link: LinkSpec) -> Table:
    rows = [
        (_title(forecast), _at(forecast, found.prediction.ranks), *_span(found))
        for forecast in forecasts
        for found in forecast.at_scale
    ]
    rows += [(_title(one), "–", f"none: {one.at_scale_reason}", "–") for one in forecasts if one.at_scale_reason]
    note = (
        f"PREDICTIONS for a link of {link.label} from each rank, or from each node where several share one: inside it "
        "they exchange as was measured. A rank's own work is taken from what was measured here; between nodes the "
        "exchange is ring or tree, flat or hierarchical, whichever is faster; nothing else shares the link. The "
        "interval holds how far the model was off over the measured exchange, if there was one, and nothing of the "
        "other link."
    )
    return Table(f"Predicted over {link.label}", ("curve", "ranks", THROUGHPUT, EFFICIENCY), tuple(rows), note)


def _backtests(forecasts: Sequence[Forecast]) -> Table:
    rows = tuple(
        (_title(forecast), words.model_title(found.model), counts(found.smaller), counts(found.exchange_ranks),
         str(found.prediction.ranks), words.prediction(found.prediction), words.measured(found.measured),
         f"{100 * found.error:+.1f} %", _held(found))
        for forecast in forecasts
        for found in forecast.backtests
    )  # fmt: skip
    header = ("curve", "model", "from ranks", "α–β from ranks", "foretold for", "foretold (95 %)", "measured (95 %)",
              "error", "interval held it")  # fmt: skip
    note = (
        "How the largest measured rank count would have been foretold from the smaller ones. Of two rank counts the "
        "allreduces of the larger are used, its steps are not; likewise where only the larger crosses nodes."
    )
    return Table("Would it have been right?", header, rows, note)


def _held(found: Backtest) -> str:
    return {True: "yes", False: "NO", None: "no interval: too few rank counts to judge the model by"}[found.held]


def _explained(forecasts: Sequence[Forecast]) -> Table:
    rows = tuple(
        (_title(forecast), str(one.ranks), *(f"{words.number(seconds * 1e3)} ms" for seconds in
                                             (one.compute_s, one.exposed_s, one.modelled_s, one.measured_s)),
         f"{100 * one.error:+.1f} %")
        for forecast in forecasts
        for one in forecast.explained
        if one.ranks > 1
    )  # fmt: skip
    header = ("curve", "ranks", "measured compute", "predicted exposed exchange", "predicted step", "measured step",
              "error")  # fmt: skip
    note = (
        "Predicted step = measured compute + the part of the predicted exchange that it does not hide. Compute is what "
        "a rank does in steps without exchange, and the wait for the slowest; the step is that of the timed window."
    )
    return Table("Measured compute + predicted exchange, beside the measured step", header, rows, note)


def _figures(findings: Findings, styles: Styles) -> Iterator[Figure]:
    """One a workload: the measured throughputs, and the foretold with their intervals; another for another link."""
    groups: dict[tuple[str, ...], list[Forecast]] = {}
    for forecast in findings.forecasts:
        groups.setdefault(words.group_key(findings.fed[forecast.curve][0]), []).append(forecast)
    for number, group in enumerate(groups.values()):
        if any(one.foretold for one in group):
            yield _figure(f"foretold-{number}", "Foretold", group, lambda one: one.foretold, findings.fed, styles)
        if findings.asked.link and any(one.at_scale for one in group):
            title = f"Predicted over {findings.asked.link.label}"
            yield _figure(f"at-scale-{number}", title, group, lambda one: one.at_scale, {}, styles)


def _figure(
    key: str,
    title: str,
    forecasts: Sequence[Forecast],
    of: Callable[[Forecast], Sequence[Foretold]],
    fed: Mapping[str, Sequence[Cell]],
    styles: Styles,
) -> Figure:
    series = tuple(
        one for forecast in forecasts for one in _curve(forecast, of(forecast), fed.get(forecast.curve, ()), styles)
    )
    rows = tuple(
        (words.backend_title(forecast.case), _at(forecast, one.prediction.ranks), *_span(one))
        for forecast in forecasts
        for one in of(forecast)
    )
    case = forecasts[0].case
    whole = f"{title}: {words.workload_title(case)} · {case.scaling}"
    said = "; ".join(_last_word(forecast, of(forecast)) for forecast in forecasts if of(forecast))
    return Figure(key, whole, "ranks", "throughput (samples/s)", series, f"Foretold, not measured — {said}.",
                  Table(whole, ("backend", "ranks", THROUGHPUT, EFFICIENCY), rows), log_x=True, log_y=True)  # fmt: skip


def _last_word(forecast: Forecast, found: Sequence[Foretold]) -> str:
    throughput, efficiency = _span(found[-1])
    name, ranks = words.backend_title(forecast.case), words.ranks(found[-1].prediction.ranks)
    return f"{name} at {ranks}: {throughput} samples/s, efficiency {efficiency}"


def _curve(forecast: Forecast, found: Sequence[Foretold], cells: Sequence[Cell], styles: Styles) -> Iterator[Series]:
    """The measured points, and from the last of them on what is foretold."""
    name = words.backend_title(forecast.case)
    known = [(float(cell.case.ranks), cell.throughput) for cell in cells if cell.throughput]
    points = [(x, y.value, y.low, y.high) for x, y in known]
    if points:
        yield _series(name, points, styles[name])
    ahead = [one.prediction for one in found if not known or one.prediction.ranks > known[-1][0]]
    line = [*points[-1:], *((float(one.ranks), one.throughput, one.low, one.high) for one in ahead)]
    if ahead:
        yield _series(f"{name}: foretold", line, styles[name], foretold=True)


def _series(
    name: str,
    points: Sequence[tuple[float, float, float | None, float | None]],
    style: int,
    *,
    foretold: bool = False,
) -> Series:
    x, y, low, high = zip(*points, strict=True)
    return Series(name, x, y, low, high, style, (False,) * len(points), look="fitted" if foretold else "points")
