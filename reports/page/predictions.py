"""The predictions section: predicted throughput, what it is made of, and back-tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from reports.analysis import changes, formatting
from reports.analysis.backtest import Backtest
from reports.analysis.communication_paths import LinkSpec
from reports.analysis.findings import Findings
from reports.analysis.predictions import CurvePrediction
from reports.page import communication
from reports.page.communication import rank_counts_text
from reports.page.elements import Section, Table
from reports.page.palette import SeriesStyle
from reports.page.prediction_figures import EFFICIENCY_HEADER, prediction_figures, throughput_header

Styles = Mapping[str, SeriesStyle]


def sections(findings: Findings, styles: Styles) -> Iterator[Section]:
    """One section, where there are predictions."""
    curve_predictions, link = findings.curve_predictions, findings.options.link
    tables = (
        *([_other_link_table(curve_predictions, link)] if link else ()),
        _predicted_table(curve_predictions),
        _inputs_table(curve_predictions),
        _backtest_table(curve_predictions),
        _explained_table(curve_predictions),
    )
    if any(table.rows for table in tables):
        yield Section(
            "Predictions",
            "Predictions were not measured; their intervals are for one further measurement.",
            figures=tuple(prediction_figures(findings, styles)),
            tables=tuple(table for table in tables if table.rows),
        )


def exchange_sections(findings: Findings) -> Iterator[Section]:
    """One section, where exchanges were fitted: predictions of all workloads are made from them."""
    tables = (
        communication.exchange_table(findings.exchanges),
        communication.operation_table(findings.operations),
        communication.layered_table(findings.exchanges),
        communication.backtest_table(findings.exchanges),
    )
    if any(table.rows for table in tables):
        yield Section(
            "Fitted exchanges",
            "Predictions are made from them.",
            tables=tuple(table for table in tables if table.rows),
        )


def requested_tables(findings: Findings) -> tuple[Table, ...]:
    """The tables for requested rank counts or a requested link, for the terminal."""
    link = findings.options.link
    at_scale = (_other_link_table(findings.curve_predictions, link),) if link else ()
    return (
        *at_scale,
        _predicted_table(findings.curve_predictions),
        _inputs_table(findings.curve_predictions),
        _backtest_table(findings.curve_predictions),
    )


def _predicted_table(curve_predictions: Sequence[CurvePrediction]) -> Table:
    rows: list[tuple[str, ...]] = []
    for curve in curve_predictions:
        model = formatting.model_title(curve.model)
        for predicted in curve.predictions:
            rows.append(
                (
                    curve.labels.curve,
                    model,
                    predicted.labels.ranks,
                    predicted.labels.throughput,
                    predicted.labels.efficiency,
                    predicted.labels.position,
                )
            )
        for ranks in curve.impossible:
            why = f"a batch of {curve.case.batch} can't be split over {ranks:,} ranks"
            rows.append((curve.labels.curve, "–", str(ranks), "–", "–", why))
        for ranks, why in curve.unknown.items():
            rows.append((curve.labels.curve, "none", curve.rank_count_label(ranks), "–", "–", why))
        if not curve.predictions and not curve.unknown and curve.reason:
            rows.append((curve.labels.curve, "none", "–", "–", "–", curve.reason))
    note = (
        "Compute + α–β: each part of a step is fitted as a fixed time plus a time in proportion to a rank's share of "
        "the batch; gradients are grouped into messages as the backend does, and travel during the backward pass. "
        "Where that is not possible, or is off a measured step by over 20 %, the scaling laws that are within 20 % of "
        "every measured rank count are averaged, weighted by how well each predicts the curve's own larger rank counts "
        "from its smaller ones; their interval is the one that holds 95 % of published curves. Both intervals widen "
        "with each doubling beyond the largest measured rank count. There is no interval where a single rank count "
        "exchanges: the error at others is unknown."
    )
    return Table(
        "Predicted throughput",
        ("curve", "model", "ranks", throughput_header(curve_predictions), EFFICIENCY_HEADER, "range"),
        tuple(rows),
        note,
    )


def _inputs_table(curve_predictions: Sequence[CurvePrediction]) -> Table:
    """The inputs of each prediction by the step model, and its error where it could be judged."""
    rows = []
    for curve in curve_predictions:
        inputs = curve.inputs
        if inputs is None:
            continue
        alone = inputs.own.at(1.0, alone=True)
        fixed = sum(inputs.own.fixed_s.values()) + inputs.own.handling_s
        step_backtest = next((backtest for backtest in curve.backtests if backtest.kind == "step"), None)
        error = (
            f"{changes.signed_percent(step_backtest.error)} at {formatting.ranks(step_backtest.prediction.ranks)}"
            if step_backtest
            else "–"
        )
        ranks_per_node = "all on one" if curve.ranks_per_node is None else str(curve.ranks_per_node)
        layered = f"{inputs.layered}, {inputs.source}" if inputs.layered else "–"
        rows.append(
            (
                curve.labels.curve,
                ranks_per_node,
                *communication.alpha_beta(inputs.inside),
                *communication.alpha_beta(inputs.across),
                layered,
                f"{formatting.duration(alone.total_s)}, {formatting.duration(fixed)} of it fixed",
                formatting.share(curve.misfit or 0, 1),
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
        "several ranks on each of several nodes",
        "compute of one rank",
        "typical error of the fit to measured steps",
        "error of the back-test",
    )
    note = (
        "Compute: data, forward, backward and optimizer of one rank with the batch that it would have alone. Every "
        "node is assumed to have a link of its own; thousands of ranks may share switches."
    )
    return Table("Inputs of the predictions", header, tuple(rows), note)


def _other_link_table(curve_predictions: Sequence[CurvePrediction], link: LinkSpec) -> Table:
    rows = [
        (
            curve.labels.curve,
            predicted.labels.ranks,
            predicted.labels.throughput,
            predicted.labels.efficiency,
        )
        for curve in curve_predictions
        for predicted in curve.at_scale
    ]
    rows += [
        (curve.labels.curve, "–", f"none: {curve.at_scale_reason}", "–")
        for curve in curve_predictions
        if curve.at_scale_reason
    ]
    note = (
        f"Predictions, not measurements, for a link of {link.label} from each rank, or from each node where several "
        "ranks share one and exchange inside it as measured. A rank's compute is as measured here; between nodes the "
        "exchange is ring or tree, flat or hierarchical, whichever is faster; nothing else shares the link. The "
        "interval includes the error of the model over the measured exchange, if there was one, and none of the other "
        "link."
    )
    return Table(
        f"Predicted over {link.label}",
        ("curve", "ranks", throughput_header(curve_predictions), EFFICIENCY_HEADER),
        tuple(rows),
        note,
    )


def _backtest_table(curve_predictions: Sequence[CurvePrediction]) -> Table:
    rows = tuple(
        (
            curve.labels.curve,
            formatting.model_title(backtest.model),
            rank_counts_text(backtest.smaller),
            rank_counts_text(backtest.exchange_ranks),
            str(backtest.prediction.ranks),
            formatting.prediction(backtest.prediction),
            formatting.estimate(backtest.measured),
            changes.multiple(backtest.error),
            _interval_verdict(backtest),
        )
        for curve in curve_predictions
        for backtest in curve.backtests
    )
    header = (
        "curve",
        "model",
        "from ranks",
        "α–β from ranks",
        "predicted for",
        "predicted (95 %)",
        "measured (95 %)",
        "error",
        "inside the interval",
    )
    note = (
        "The largest measured rank count, as predicted from the smaller ones. Of two rank counts the allreduces of the "
        "larger are used, its steps are not; likewise where only the larger crosses nodes."
    )
    return Table("Back-test", header, rows, note)


def _interval_verdict(backtest: Backtest) -> str:
    return {True: "yes", False: "NO", None: "no interval: too few rank counts to judge the model"}[backtest.held]


def _explained_table(curve_predictions: Sequence[CurvePrediction]) -> Table:
    rows = tuple(
        (
            curve.labels.curve,
            str(step.ranks),
            *(
                formatting.duration(seconds)
                for seconds in (step.compute_s, step.exposed_s, step.modelled_s, step.measured_s)
            ),
            changes.multiple(step.error),
        )
        for curve in curve_predictions
        for step in curve.explained
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
        "Predicted step = measured compute + the exposed part of the predicted exchange. Compute is what a rank "
        "does in steps without exchange, and waiting for the slowest; the step is that of the timed window."
    )
    return Table("Measured compute + predicted exchange, and the measured step", header, rows, note)
