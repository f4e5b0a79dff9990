"""The section that looks ahead: what is foretold, whether it would have been right, and what it is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from reports.analysis import case_titles, formatting
from reports.analysis.backtest import Backtest
from reports.analysis.cells import Cell
from reports.analysis.communication_paths import LinkSpec
from reports.analysis.findings import Findings
from reports.analysis.placement import Placement, placement_of
from reports.analysis.predictions import CurvePrediction, Predicted
from reports.page import communication
from reports.page.communication import rank_counts_text
from reports.page.elements import Figure, Section, Series, Table
from reports.page.series import interval_series

Styles = Mapping[str, int]
THROUGHPUT_HEADER = "throughput, samples/s (95 %)"
EFFICIENCY_HEADER = "efficiency (95 %)"


def sections(findings: Findings, styles: Styles) -> Iterator[Section]:
    """One, where there is anything to foretell, or to foretell it from."""
    forecasts, link = findings.curve_predictions, findings.options.link
    tables = (
        *([_other_link_table(forecasts, link)] if link else ()),
        _predicted_table(forecasts),
        _inputs_table(forecasts),
        _backtest_table(forecasts),
        _explained_table(forecasts),
        communication.exchange_table(findings.exchanges),
        communication.layered_table(findings.exchanges),
        communication.backtest_table(findings.exchanges),
    )
    if any(table.rows for table in tables):
        yield Section(
            "Predictions",
            "What is called foretold was not measured; its intervals are for one further measurement there.",
            figures=tuple(_figures(findings, styles)),
            tables=tuple(table for table in tables if table.rows),
        )


def requested_tables(findings: Findings) -> tuple[Table, ...]:
    """What a reader who asked for rank counts or a link wants to see at once."""
    link = findings.options.link
    at_scale = (_other_link_table(findings.curve_predictions, link),) if link else ()
    return (
        *at_scale,
        _predicted_table(findings.curve_predictions),
        _inputs_table(findings.curve_predictions),
        _backtest_table(findings.curve_predictions),
    )


def _throughput_and_efficiency(predicted: Predicted) -> tuple[str, str]:
    return formatting.prediction(predicted.prediction), formatting.percent(predicted.efficiency)


def _predicted_table(curve_predictions: Sequence[CurvePrediction]) -> Table:
    rows: list[tuple[str, ...]] = []
    for forecast in curve_predictions:
        model = formatting.model_title(forecast.model)
        for predicted in forecast.foretold:
            ranks = predicted.prediction.ranks
            rows.append(
                (
                    forecast.labels.curve,
                    model,
                    _ranks_on_nodes(forecast, ranks),
                    *_throughput_and_efficiency(predicted),
                    _range_position(ranks, forecast.measured_at),
                )
            )
        for ranks in forecast.impossible:
            why = f"a batch of {forecast.case.batch} can't be cut into {ranks:,}"
            rows.append((forecast.labels.curve, "–", str(ranks), "–", "–", why))
        for ranks, why in forecast.unknown.items():
            rows.append((forecast.labels.curve, "none", _ranks_on_nodes(forecast, ranks), "–", "–", why))
        if not forecast.foretold and not forecast.unknown and forecast.reason:
            rows.append((forecast.labels.curve, "none", "–", "–", "–", forecast.reason))
    note = (
        "Compute + α–β: each part of a step is fitted as a fixed time plus one in proportion to a rank's share of the "
        "batch; gradients become messages as the backend makes them, and travel while the backward pass goes on. "
        "Where that can't be had, or misses the measured steps by over 20 %, a law of scaling speaks, and its interval "
        "takes for granted that the law holds. Both widen with each doubling beyond the largest measured rank count. "
        "There is no interval where one rank count alone exchanges: it can't tell how far off the model is elsewhere."
    )
    return Table(
        "Foretold throughput",
        ("curve", "model", "ranks", THROUGHPUT_HEADER, EFFICIENCY_HEADER, "lies"),
        tuple(rows),
        note,
    )


def _ranks_on_nodes(forecast: CurvePrediction, ranks: int) -> str:
    """``512 on 64 nodes``, where it was said how many a node holds."""
    show_nodes = forecast.case.ranks_per_node or forecast.ranks_per_node != placement_of(forecast.case).ranks_per_node
    return formatting.rank_count(Placement(ranks, forecast.ranks_per_node if show_nodes else None))


def _inputs_table(curve_predictions: Sequence[CurvePrediction]) -> Table:
    """What each prediction by the step model is made of, and how far that was off where it could be judged."""
    rows = []
    for forecast in curve_predictions:
        inputs = forecast.inputs
        if inputs is None:
            continue
        alone = inputs.own.at(1.0, alone=True)
        fixed = sum(inputs.own.fixed_s.values()) + inputs.own.handling_s
        step_backtest = next((backtest for backtest in forecast.backtests if backtest.kind == "step"), None)
        error = (
            f"{100 * step_backtest.error:+.1f} % at {formatting.ranks(step_backtest.prediction.ranks)}"
            if step_backtest
            else "–"
        )
        ranks_per_node = "all on one" if forecast.ranks_per_node is None else str(forecast.ranks_per_node)
        layered = f"{inputs.layered}, {inputs.source}" if inputs.layered else "–"
        rows.append(
            (
                forecast.labels.curve,
                ranks_per_node,
                *communication.alpha_beta(inputs.inside),
                *communication.alpha_beta(inputs.across),
                layered,
                f"{formatting.duration(alone.total_s)}, of that {formatting.duration(fixed)} whatever its share",
                f"{100 * (forecast.misfit or 0):.1f} %",
                error,
            )
        )
    header = (
        "curve",
        "ranks a node",
        "α inside a node (95 %)",
        "1/β inside",
        "α across nodes (95 %)",
        "1/β across",
        "several on each of several",
        "own work of one rank",
        "typical misfit of measured steps",
        "error of the backtest",
    )
    note = (
        "Own work: data, forward, backward, optimizer of one rank with all of the batch that it would have alone. "
        "Every node is taken to have a link that nobody else uses; thousands of ranks may meet shared switches."
    )
    return Table("What the predictions are made of", header, tuple(rows), note)


def _range_position(ranks: int, measured_at: Sequence[int]) -> str:
    if ranks in measured_at:
        return "where it was measured too"
    if measured_at[0] < ranks < measured_at[-1]:
        return "between the measured"
    return "beyond the measured" if ranks > measured_at[-1] else "below the measured"


def _other_link_table(curve_predictions: Sequence[CurvePrediction], link: LinkSpec) -> Table:
    rows = [
        (
            forecast.labels.curve,
            _ranks_on_nodes(forecast, predicted.prediction.ranks),
            *_throughput_and_efficiency(predicted),
        )
        for forecast in curve_predictions
        for predicted in forecast.at_scale
    ]
    rows += [
        (forecast.labels.curve, "–", f"none: {forecast.at_scale_reason}", "–")
        for forecast in curve_predictions
        if forecast.at_scale_reason
    ]
    note = (
        f"PREDICTIONS for a link of {link.label} from each rank, or from each node where several share one: inside it "
        "they exchange as was measured. A rank's own work is taken from what was measured here; between nodes the "
        "exchange is ring or tree, flat or hierarchical, whichever is faster; nothing else shares the link. The "
        "interval holds how far the model was off over the measured exchange, if there was one, and nothing of the "
        "other link."
    )
    return Table(
        f"Predicted over {link.label}", ("curve", "ranks", THROUGHPUT_HEADER, EFFICIENCY_HEADER), tuple(rows), note
    )


def _backtest_table(curve_predictions: Sequence[CurvePrediction]) -> Table:
    rows = tuple(
        (
            forecast.labels.curve,
            formatting.model_title(backtest.model),
            rank_counts_text(backtest.smaller),
            rank_counts_text(backtest.exchange_ranks),
            str(backtest.prediction.ranks),
            formatting.prediction(backtest.prediction),
            formatting.estimate(backtest.measured),
            f"{100 * backtest.error:+.1f} %",
            _interval_verdict(backtest),
        )
        for forecast in curve_predictions
        for backtest in forecast.backtests
    )
    header = (
        "curve",
        "model",
        "from ranks",
        "α–β from ranks",
        "foretold for",
        "foretold (95 %)",
        "measured (95 %)",
        "error",
        "interval held it",
    )
    note = (
        "How the largest measured rank count would have been foretold from the smaller ones. Of two rank counts the "
        "allreduces of the larger are used, its steps are not; likewise where only the larger crosses nodes."
    )
    return Table("Would it have been right?", header, rows, note)


def _interval_verdict(backtest: Backtest) -> str:
    return {True: "yes", False: "NO", None: "no interval: too few rank counts to judge the model by"}[backtest.held]


def _explained_table(curve_predictions: Sequence[CurvePrediction]) -> Table:
    rows = tuple(
        (
            forecast.labels.curve,
            str(step.ranks),
            *(
                f"{formatting.number(seconds * 1e3)} ms"
                for seconds in (step.compute_s, step.exposed_s, step.modelled_s, step.measured_s)
            ),
            f"{100 * step.error:+.1f} %",
        )
        for forecast in curve_predictions
        for step in forecast.explained
        if step.ranks > 1
    )
    header = (
        "curve",
        "ranks",
        "measured compute",
        "predicted exposed exchange",
        "predicted step",
        "measured step",
        "error",
    )
    note = (
        "Predicted step = measured compute + the part of the predicted exchange that it does not hide. Compute is what "
        "a rank does in steps without exchange, and the wait for the slowest; the step is that of the timed window."
    )
    return Table("Measured compute + predicted exchange, beside the measured step", header, rows, note)


def _figures(findings: Findings, styles: Styles) -> Iterator[Figure]:
    """One a workload: the measured throughputs, and the foretold with their intervals; another for another link."""
    groups: dict[tuple[str, ...], list[CurvePrediction]] = {}
    for forecast in findings.curve_predictions:
        groups.setdefault(case_titles.group_key(forecast.case), []).append(forecast)
    for number, group in enumerate(groups.values()):
        if any(forecast.foretold for forecast in group):
            yield _figure(
                f"foretold-{number}",
                "Foretold",
                group,
                lambda forecast: forecast.foretold,
                findings.curve_cells,
                styles,
            )
        if findings.options.link and any(forecast.at_scale for forecast in group):
            title = f"Predicted over {findings.options.link.label}"
            yield _figure(f"at-scale-{number}", title, group, lambda forecast: forecast.at_scale, {}, styles)


def _figure(
    key: str,
    title: str,
    curve_predictions: Sequence[CurvePrediction],
    of: Callable[[CurvePrediction], Sequence[Predicted]],
    curve_cells: Mapping[str, Sequence[Cell]],
    styles: Styles,
) -> Figure:
    series = tuple(
        curve
        for forecast in curve_predictions
        for curve in _curve(forecast, of(forecast), curve_cells.get(forecast.curve, ()), styles)
    )
    rows = tuple(
        (
            forecast.labels.backend,
            _ranks_on_nodes(forecast, predicted.prediction.ranks),
            *_throughput_and_efficiency(predicted),
        )
        for forecast in curve_predictions
        for predicted in of(forecast)
    )
    labels = curve_predictions[0].labels
    full_title = f"{title}: {labels.workload} · {labels.scaling}"
    summaries = "; ".join(_largest_prediction(forecast, of(forecast)) for forecast in curve_predictions if of(forecast))
    return Figure(
        key,
        full_title,
        "ranks",
        "throughput (samples/s)",
        series,
        f"Foretold, not measured — {summaries}.",
        Table(full_title, ("backend", "ranks", THROUGHPUT_HEADER, EFFICIENCY_HEADER), rows),
        log_x=True,
        log_y=True,
    )


def _largest_prediction(forecast: CurvePrediction, predicted: Sequence[Predicted]) -> str:
    throughput, efficiency = _throughput_and_efficiency(predicted[-1])
    name, ranks = forecast.labels.backend, formatting.ranks(predicted[-1].prediction.ranks)
    return f"{name} at {ranks}: {throughput} samples/s, efficiency {efficiency}"


def _curve(
    forecast: CurvePrediction, predicted: Sequence[Predicted], cells: Sequence[Cell], styles: Styles
) -> Iterator[Series]:
    """The measured points, and from the last of them on what is foretold."""
    name = forecast.labels.backend
    known = [(float(cell.case.ranks), cell.throughput) for cell in cells if cell.throughput]
    points = [(x, y.value, y.low, y.high) for x, y in known]
    if points:
        yield interval_series(name, points, styles[name])
    extrapolated = [point.prediction for point in predicted if not known or point.prediction.ranks > known[-1][0]]
    line = [*points[-1:], *((float(point.ranks), point.throughput, point.low, point.high) for point in extrapolated)]
    if extrapolated:
        yield interval_series(f"{name}: foretold", line, styles[name], "fitted")
