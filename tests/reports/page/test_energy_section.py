"""What the page says of energy: a figure where it is known, one row a reason where it is not."""

from __future__ import annotations

import pytest

from bench.core.telemetry import HOST, Device, NodeTelemetry, Series
from reports.analysis.cells import make_cells
from reports.page.figure_axes import value_title, y_axis
from tests.support.builders import make_case, make_record, make_trial
from tests.support.pages import page_of

TIMES = (0.0, 0.5, 1.0, 1.5, 2.0)


def sampled(case, *, watts=None, gpu_watts=None):
    """Two steps of a second by ranks that do 8 samples together: 8 samples a second."""
    series = [
        Series(
            device=device,
            name=name,
            times_s=TIMES,
            reason="no RAPL counters",
            values=tuple(None if power is None else power * at for at in TIMES),
        )
        for device, name, power in ((HOST, "cpu_energy_j", watts), ("GPU-a", "energy_j", gpu_watts))
    ]
    gpus = (Device(id="GPU-a", name="GPU"),) if gpu_watts else ()
    node = NodeTelemetry(
        host="here",
        source="live",
        interval_s=0.5,
        began_s=0,
        ended_s=2,
        series=tuple(series),
        devices=(Device(id=HOST, name="here"), *gpus),
    )
    ranks = tuple(make_record(rank, case.ranks, (1.0, 1.0)) for rank in range(case.ranks))
    return make_trial(case, ranks=ranks, telemetry=(node,))


def page_of_trials(trials):
    cases = list({trial.case.key: trial.case for trial in trials}.values())
    return page_of(make_cells(cases, {}, trials, {}))


def energy(page):
    return next((section for section in page.sections if section.title == "Energy"), None)


def test_joules_a_sample_are_drawn_over_ranks():
    trials = [sampled(make_case(ranks=ranks), watts=40.0 * ranks, gpu_watts=80.0) for ranks in (1, 2)]
    section = energy(page_of_trials(trials))
    cpu, gpu = section.figures
    assert cpu.y_title == gpu.y_title == "energy (J/sample)"
    assert (cpu.series[0].x, cpu.series[0].y) == ((1, 2), pytest.approx((5, 10)))
    assert gpu.series[0].y == pytest.approx((10, 10))
    assert "The lowest: 5.00 J/sample, ddp/gloo at 1 rank" in cpu.caption
    assert len(section.tables[0].rows) == 4
    assert all("energy" not in name for name in page_of_trials(trials).table("Usage of ranks").header)


def test_the_axis_names_one_unit_with_its_prefix():
    trials = [sampled(make_case(ranks=ranks), watts=2e-3 * ranks) for ranks in (1, 2)]
    (figure,) = energy(page_of_trials(trials)).figures
    assert value_title(figure) == "energy (µJ/sample)"
    assert [name for _, name in y_axis(figure).ticks][:3] == ["0", "100", "200"]
    assert figure.y_title == "energy (J/sample)"


def test_energies_of_two_units_have_an_axis_each():
    steps = sampled(make_case(ranks=2), watts=40.0)
    steps = steps.model_copy(
        update={"ranks": tuple(rank.model_copy(update={"unit": "tokens"}) for rank in steps.ranks)}
    )
    figures = energy(page_of_trials([sampled(make_case(ranks=1), watts=40.0), steps])).figures
    assert [figure.y_title for figure in figures] == ["energy (J/sample)", "energy (J/token)"]
    assert [len(figure.series) for figure in figures] == [1, 1]


def test_an_unknown_energy_is_one_row_with_its_reason_and_no_figure():
    section = energy(page_of_trials([sampled(make_case(ranks=ranks)) for ranks in (1, 2)]))
    assert section.figures == ()
    assert section.tables[0].rows == (
        ("2 cells", "CPU packages of the hosts", "unknown: no RAPL counters", "–", "–", "–"),
    )


def test_without_telemetry_energy_is_not_sampled():
    assert energy(page_of_trials([make_trial(make_case())])).tables[0].rows[0][2] == "unknown: not sampled"
    assert energy(page_of_trials([make_trial(make_case(), outcome="failed", reason="x", ranks=())])) is None
