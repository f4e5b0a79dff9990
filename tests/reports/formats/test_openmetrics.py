"""Cells as OpenMetrics and as Prometheus text, read by the parsers of prometheus_client."""

from __future__ import annotations

import math
import re

import pytest

from bench.core.records import Reading
from harness.cli.app import main
from harness.planning.plan import Skip
from tests.support.builders import make_case, make_record, make_trial
from tests.support.exports import HOSTILE, curve

pytest.importorskip("prometheus_client", reason="prometheus-client, of the group `test`, is not installed")
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus_families

NODE_EXPORTER_TYPES = {"gauge", "counter", "untyped", "summary", "histogram"}


@pytest.fixture
def text(exported):
    """A curve, a failed case with a hostile reason, and a skipped one."""
    broken = make_trial(make_case(ranks=8), outcome="failed", ranks=(), reason=HOSTILE)
    skip = Skip(case=make_case(backend="horovod"), reason="Horovod is not installed")
    return exported([*curve(), broken], "--format", "openmetrics", skips=[skip]).out


def samples(text):
    """Values by name and rank count."""
    return {
        (sample.name, sample.labels.get("backend"), sample.labels.get("ranks"), sample.labels.get("rank")): sample
        for family in openmetrics.text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_both_parsers_read_the_same_numbers(text):
    read = {
        kind: sorted(
            (sample.name, sorted(sample.labels.items()), sample.value, sample.timestamp)
            for family in families(text)
            for sample in family.samples
        )
        for kind, families in {
            "openmetrics": openmetrics.text_string_to_metric_families,
            "prometheus": prometheus_families,
        }.items()
    }
    assert read["openmetrics"] == read["prometheus"]
    assert len(read["openmetrics"]) > 30
    assert all(timestamp is None for *_, timestamp in read["openmetrics"]), "the textfile collector refuses them"


def test_what_the_textfile_collector_and_prometheus_require(text):
    families = list(openmetrics.text_string_to_metric_families(text))
    assert {family.type for family in families} <= NODE_EXPORTER_TYPES
    assert all(family.name.endswith(f"_{family.unit}") for family in families if family.unit)
    assert {"seconds", "ratio", "samples_per_second"} <= {family.unit for family in families}
    names = [family.name for family in families]
    assert len(names) == len(set(names)), "the samples of a name are together"
    series = [(sample.name, *sorted(sample.labels.items())) for family in families for sample in family.samples]
    assert len(series) == len(set(series)), "of a series that occurs twice one value is lost"
    assert text.endswith("\n# EOF\n")
    # Rules of `promtool check metrics`.
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in names)
    assert all(family.documentation for family in families)
    assert not [name for name in names if name.endswith(("_total", "_count", "_sum", "_bucket", "_info"))]


def test_values_and_intervals_are_those_of_the_cells(text):
    read = samples(text)
    # Two trials with steps of 0.05 and 0.051 s, 8 samples each: means and intervals of logarithms, t of 1 degree.
    logs = [math.log(0.05), math.log(0.051)]
    mean, half = sum(logs) / 2, 12.7062 * abs(logs[0] - logs[1]) / 2
    expected = {"": mean, "_low": mean - half, "_high": mean + half}
    for bound, log in expected.items():
        sample = read[f"scaling_step{bound}_seconds", "ddp", "4", None]
        assert sample.value == pytest.approx(math.exp(log), rel=1e-4)
    rate = read["scaling_throughput_samples_per_second", "ddp", "4", None].value
    assert rate == pytest.approx(8 / math.exp(mean))
    assert read["scaling_efficiency_ratio", "ddp", "1", None].value == 1
    assert read["scaling_rank_step_seconds", "ddp", "4", "3"].value == pytest.approx(0.0505)


def test_cells_without_a_number_have_their_reason_and_no_metric(text):
    read = samples(text)
    failed, skipped = (read["scaling_cell_outcome", *cell, None] for cell in (("ddp", "8"), ("horovod", "2")))
    assert (failed.labels["outcome"], skipped.labels["outcome"]) == ("failed", "skipped")
    assert skipped.labels["reason"] == "Horovod is not installed"
    assert failed.labels["reason"].startswith('1 of 1 trials: died: "x", y =HYPERLINK("http://a";"b")')
    assert {name for name, _, ranks, _ in read if ranks == "8"} == {"scaling_cell_outcome", "scaling_cell_trials"}


def test_an_unknown_reading_is_absent_with_its_reason_and_shares_are_ratios(exported):
    readings = (
        Reading(name="test_accuracy", value=93.0, unit="%"),
        Reading(name="checkpoint_stall", value=None, unit="s", reason="not saved"),
    )
    record = make_record(0, 1, readings=readings)
    text = exported([make_trial(make_case(ranks=1), ranks=(record,))], "--format", "openmetrics").out
    read = samples(text)
    assert read["scaling_test_accuracy_ratio", "ddp", "1", None].value == pytest.approx(0.93)
    assert ("scaling_test_accuracy_low_ratio", "ddp", "1", None) not in read, "one trial has no interval"
    assert not [name for name, *_ in read if name.startswith("scaling_checkpoint")]
    assert 'quantity="checkpoint_stall",reason="not saved"} 1.0' in text


def test_the_file_is_recognised_by_its_suffix_and_replaced(tmp_path, exported):
    target = tmp_path / "scaling.prom"
    exported(curve(), "--out", str(target))
    first = target.read_bytes()
    assert first.startswith(b"# HELP scaling_")
    assert main(["export", "--store", str(tmp_path / "r.sqlite"), "--out", str(target)]) == 0
    assert target.read_bytes() == first
    assert {path.name for path in tmp_path.iterdir()} == {"scaling.prom", "r.sqlite"}, "no other *.prom file is left"
    (tmp_path / "other.prom").write_text("# HELP node_something by another script\n")
    assert main(["export", "--store", str(tmp_path / "r.sqlite"), "--out", str(tmp_path / "other.prom")]) == 2


def test_any_text_of_a_plugin_is_a_name_a_unit_or_a_label(exported):
    readings = (
        Reading(name='1 "x"} 1\n# EOF', value=2.0, unit=HOSTILE),
        Reading(name="x" * 5000, value=3.0, unit="furlongs/fortnight"),
    )
    record = make_record(0, 1, unit="tokens", readings=readings)
    case = make_case(ranks=1, workload_options={"data": '\\\n"} 1' * 300})
    text = exported([make_trial(case, ranks=(record,))], "--format", "openmetrics").out
    names = [family.name for family in openmetrics.text_string_to_metric_families(text)]
    assert names == [family.name for family in prometheus_families(text)]
    assert max(map(len, names)) < 200
    assert any(name.endswith("_furlongs_per_fortnight") for name in names)
    assert max(len(line) for line in text.splitlines()) < 3000
