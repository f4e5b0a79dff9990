"""The section that looks ahead: α and β, how well compute and exchange explain the measured steps, what is foretold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from reports.cells import Cell
from reports.exchanges import FittedExchange
from reports.findings import Findings
from reports.forecasts import Forecast, Foretold, LinkSpec
from reports.page import words
from reports.page.values import Figure, Section, Series, Table

Styles = Mapping[str, int]


def sections(findings: Findings, styles: Styles) -> Iterator[Section]:
    """One, where there is anything to foretell, or to foretell it from."""
    forecasts, link = findings.forecasts, findings.link
    tables = (
        *(_at_scale(forecasts, link) if link else ()),
        _foretold(forecasts),
        _backtests(forecasts),
        _explained(forecasts),
        _exchanges(findings.exchanges),
    )
    if any(table.rows for table in tables):
        yield Section(
            "Predictions",
            "None of these rank counts was measured; the intervals are for one further measurement there.",
            figures=tuple(_figures(findings.cells, forecasts, styles)),
            tables=tuple(table for table in tables if table.rows),
        )


def _title(forecast: Forecast) -> str:
    return f"{words.workload_title(forecast.case)} · {words.backend_title(forecast.case)} · {forecast.case.scaling}"


def _span(found: Foretold) -> tuple[str, str]:
    return words.prediction(found.prediction), words.percent(found.efficiency)


def _foretold(forecasts: Sequence[Forecast]) -> Table:
    rows: list[tuple[str, ...]] = []
    for forecast in forecasts:
        for found in forecast.foretold:
            where = "beyond the measured" if found.prediction.extrapolated else "between the measured"
            model, ranks = words.model_title(forecast.model), str(found.prediction.ranks)
            rows.append((_title(forecast), model, ranks, *_span(found), where))
        if not forecast.foretold:
            rows.append((_title(forecast), "none", "–", "–", "–", forecast.reason or "nothing was asked for"))
    note = (
        "Compute + α–β: each part of a step is fitted as a fixed time plus one in proportion to a rank's share of the "
        "batch; gradients become messages as the backend makes them, and travel while the backward pass goes on. "
        "Where that can't be had, or misses the measured steps by over 20 %, the law of scaling speaks. "
        "The interval widens with each doubling beyond the largest measured rank count."
    )
    header = ("curve", "model", "ranks", "throughput, samples/s (95 %)", "efficiency (95 %)", "kind")
    return Table("Foretold throughput", header, tuple(rows), note)


def _at_scale(forecasts: Sequence[Forecast], link: LinkSpec) -> tuple[Table, ...]:
    rows = tuple(
        (_title(forecast), str(found.prediction.ranks), *_span(found))
        for forecast in forecasts
        for found in forecast.at_scale
    )
    note = (
        f"PREDICTIONS for a link of {link.label} from each rank: the compute was measured here, the exchange was not. "
        "Ring or tree, whichever is faster for a message; nothing else shares the link."
    )
    return (Table(f"Predicted over {link.label}", ("curve", "ranks", "throughput, samples/s (95 %)",
                                                   "efficiency (95 %)"), rows, note),)  # fmt: skip


def _backtests(forecasts: Sequence[Forecast]) -> Table:
    rows = tuple(
        (_title(forecast), words.model_title(found.model), ", ".join(map(str, found.smaller)),
         str(found.prediction.ranks), words.prediction(found.prediction), words.measured(found.measured),
         f"{100 * found.error:+.1f} %", {True: "yes", False: "NO", None: "no interval"}[found.held])
        for forecast in forecasts
        for found in forecast.backtests
    )  # fmt: skip
    header = ("curve", "model", "from ranks", "foretold for", "foretold (95 %)", "measured (95 %)", "error",
              "interval held it")  # fmt: skip
    note = "How the largest measured rank count would have been foretold from the smaller ones, exchange included."
    return Table("Would it have been right?", header, rows, note)


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


def _exchanges(exchanges: Mapping[str, FittedExchange]) -> Table:
    rows: list[tuple[str, ...]] = []
    for found in exchanges.values():
        name, counts = words.way_title(found.case), ", ".join(map(str, found.rank_counts))
        best = "–" if found.bus_bandwidth is None else f"{words.number(found.bus_bandwidth)}B/s"
        share = _of_the_link(found)
        if found.model is None:
            rows.append((name, counts, f"none: {found.reason}", "–", "–", "–", best, share))
            continue
        model = found.model
        where = f"{words.ranks(model.misfit_ranks)}, {words.message_size(int(model.misfit_bytes))}"
        off = f"{100 * model.misfit:+.0f} % at {where}"
        algorithm = f"{model.algorithm}, assumed" if model.assumed else model.algorithm
        alpha, beta = words.latency(model.latency_s), words.inverse(model.byte_s)
        rows.append((name, counts, algorithm, alpha, beta, off, best, share))
    header = ("exchange", "ranks", "algorithm", "α: latency (95 %)", "1/β: bandwidth (95 %)", "largest misfit",
              "highest bus bandwidth", "of the link")  # fmt: skip
    note = (
        "Fitted to ln t of the allreduces of all sizes. Ring: 2(N−1)α + 2(N−1)/N·Sβ; tree: 2⌈log₂N⌉(α + Sβ); the "
        "nearer one is shown; from one rank count they can't be told apart. Bus bandwidth = S ÷ t · 2(N−1)/N: what each "
        "link must have carried, beside what a plain transfer over it achieved; through memory there is no link."
    )
    return Table("The exchange: latency and bandwidth", header, tuple(rows), note)


def _of_the_link(found: FittedExchange) -> str:
    if found.bus_bandwidth is None or found.link_bytes_s is None:
        return "–"
    return f"{found.bus_bandwidth / found.link_bytes_s:.0%} of {words.number(found.link_bytes_s)}B/s"


def _figures(cells: Sequence[Cell], forecasts: Sequence[Forecast], styles: Styles) -> list[Figure]:
    """One a workload: the measured throughputs, and the foretold with their intervals."""
    groups: dict[tuple[str, ...], list[Forecast]] = {}
    by_curve = {cell.case.curve: cell for cell in cells}
    for forecast in forecasts:
        if forecast.foretold:
            groups.setdefault(words.group_key(by_curve[forecast.curve]), []).append(forecast)
    return [_figure(number, cells, found, styles) for number, found in enumerate(groups.values())]


def _figure(number: int, cells: Sequence[Cell], forecasts: Sequence[Forecast], styles: Styles) -> Figure:
    series: list[Series] = []
    for forecast in forecasts:
        name = words.backend_title(forecast.case)
        own = sorted((cell for cell in cells if cell.case.curve == forecast.curve and cell.speedup and cell.throughput),
                     key=lambda cell: cell.case.ranks)  # fmt: skip
        known = [(float(cell.case.ranks), cell.throughput) for cell in own if cell.throughput]
        style = styles[name]
        series.append(Series(name, tuple(x for x, _ in known), tuple(y.value for _, y in known),
                             tuple(y.low for _, y in known), tuple(y.high for _, y in known), style,
                             (False,) * len(known)))  # fmt: skip
        ahead = [(known[-1][0], known[-1][1].value, None, None)] if known else []
        further = [one.prediction for one in forecast.foretold if one.prediction.extrapolated]
        line = [*ahead, *((float(one.ranks), one.throughput, one.low, one.high) for one in further)]
        if further:
            x, y, low, high = zip(*line, strict=True)
            series.append(Series(f"{name}: foretold", x, y, low, high, style, (False,) * len(line), look="fitted"))
    first = forecasts[0]
    rows = tuple(
        (words.backend_title(forecast.case), str(one.prediction.ranks), *_span(one))
        for forecast in forecasts
        for one in forecast.foretold
    )
    title = f"{words.workload_title(first.case)} · {first.case.scaling}"
    table = Table(f"Foretold: {title}", ("backend", "ranks", "throughput, samples/s (95 %)", "efficiency (95 %)"), rows)
    return Figure(f"foretold-{number}", title, "ranks", "throughput (samples/s)", tuple(series), _sentence(forecasts),
                  table, log_x=True, log_y=True)  # fmt: skip


def _sentence(forecasts: Sequence[Forecast]) -> str:
    said = []
    for forecast in forecasts:
        last = forecast.foretold[-1]
        throughput, efficiency = _span(last)
        name, ranks = words.backend_title(forecast.case), words.ranks(last.prediction.ranks)
        said.append(f"{name} at {ranks}: {throughput} samples/s, efficiency {efficiency}")
    return f"Foretold, not measured — {'; '.join(said)}."
