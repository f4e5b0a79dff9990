"""Cells as runs of TensorBoard, read by its own reader of events."""

from __future__ import annotations

import math

import pytest

from bench.core.records import Reading
from harness.cli.app import main
from harness.planning.plan import Skip
from tests.support.builders import make_case, make_record, make_trial
from tests.support.exports import HOSTILE, curve, store_sweep

pytest.importorskip("tensorboard", reason="the extra `tensorboard` is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of TensorBoard's own dependencies


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A curve, a failed cell, a skipped one, and an unknown reading, exported."""
    folder = tmp_path_factory.mktemp("tensorboard")
    readings = (Reading(name="compile_time", value=None, unit="s", reason="not compiled"),)
    unknown = make_trial(make_case(ranks=1, batch=16), ranks=(make_record(readings=readings, step_s=(0.1, 0.3)),))
    failed = make_trial(make_case(ranks=8), outcome="failed", ranks=(), reason=HOSTILE)
    skip = Skip(case=make_case(backend="horovod"), reason="Horovod is not installed")
    store_sweep(folder / "r.sqlite", [*curve(), unknown, failed], skips=[skip])
    assert export(folder) == 0
    return folder


def export(folder, out="logs"):
    store = str(folder / "r.sqlite")
    return main(["export", "--store", store, "--format", "tensorboard", "--out", str(folder / out)])


@pytest.fixture(scope="module")
def runs(folder):
    """What TensorBoard reads of each run, by backend, ranks and batch."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    runs = {}
    for path in (folder / "logs").glob("s1/*"):
        events = EventAccumulator(str(path)).Reload()
        parameters = session(events).session_start_info.hparams
        backend, *numbers = (parameters[name] for name in ("backend", "ranks", "batch"))
        runs[backend.string_value, *(int(number.number_value) for number in numbers)] = events
    return runs


def session(events, tag="_hparams_/session_start_info"):
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    return HParamsPluginData.FromString(events.SummaryMetadata(tag).plugin_data.content)


def scalar(events, tag):
    return [(event.step, pytest.approx(event.value)) for event in events.Scalars(tag)]


def outcome(events):
    (event,) = events.Tensors("outcome")
    return event.tensor_proto.string_val[0].decode()


def test_values_and_intervals_are_those_of_the_cells(runs):
    assert len(runs) == 6
    events = runs["ddp", 4, 8]
    # Two trials with steps of 0.05 and 0.051 s: mean and interval of their logarithms, t of one degree of freedom.
    logs = [math.log(0.05), math.log(0.051)]
    mean, half = sum(logs) / 2, 12.7062 * abs(logs[0] - logs[1]) / 2
    for bound, log in {"_low": mean - half, "": mean, "_high": mean + half}.items():
        ((step, value),) = [(event.step, event.value) for event in events.Scalars(f"cell/step{bound}_seconds")]
        assert (step, value) == (2, pytest.approx(math.exp(log), rel=1e-4))
    assert scalar(events, "cell/throughput_samples_per_second") == [(2, 8 / math.exp(mean))]
    assert scalar(events, "cell/rank_step_seconds/rank_3") == [(2, 0.0505)]
    assert scalar(events, "trial/step_seconds") == [(0, 0.05), (1, 0.051)]


def test_each_step_and_loss_of_a_trial_is_there(runs):
    events = runs["ddp", 1, 16]
    assert scalar(events, "steps/step_seconds/round_0") == [(1, 0.1), (2, 0.3)]
    assert scalar(events, "steps/loss/round_0") == [(1, 1.0), (2, 0.5)]
    first, second = events.Scalars("steps/step_seconds/round_0")
    assert second.wall_time - first.wall_time == pytest.approx(0.3)


def test_hyperparameters_are_those_of_the_case(runs):
    parameters = session(runs["ddp", 4, 8]).session_start_info.hparams
    assert parameters["workload"].string_value == "synthetic"
    assert parameters["ranks"].number_value == 4
    assert len({session(events).session_start_info.group_name for events in runs.values()}) == 6


def test_cells_without_a_number_have_outcome_and_reason_and_no_scalar(runs):
    from tensorboard.plugins.hparams import api_pb2

    status = {
        key: session(events, "_hparams_/session_end_info").session_end_info.status for key, events in runs.items()
    }
    failed, skipped = ("ddp", 8, 8), ("horovod", 2, 8)
    assert (status[failed], status[skipped]) == (api_pb2.STATUS_FAILURE, api_pb2.STATUS_UNKNOWN)
    assert status["ddp", 4, 8] == api_pb2.STATUS_SUCCESS
    for key, reason in {failed: "1 of 1 trials", skipped: "Horovod is not installed"}.items():
        assert runs[key].Tags()["scalars"] == []
        assert reason in outcome(runs[key])
    unknown = runs["ddp", 1, 16]
    assert not [tag for tag in unknown.Tags()["scalars"] if "compile" in tag or "low" in tag]
    assert "compile&#95;time is unknown | not compiled" in outcome(unknown)


def test_the_same_bytes_again_and_nothing_is_doubled(folder):
    before = {path: path.read_bytes() for path in (folder / "logs").rglob("*") if path.is_file()}
    assert len(before) == 6
    assert export(folder) == 0
    assert {path: path.read_bytes() for path in (folder / "logs").rglob("*") if path.is_file()} == before


def test_an_event_file_of_somebody_else_stays(folder, capsys):
    (ours,) = (folder / "logs").glob("s1/*horovod*/*")
    theirs = folder / "theirs" / ours.relative_to(folder / "logs")
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"brain.Event:2 of another writer")
    assert export(folder, "theirs") == 2
    assert "holds something that this command has not written" in capsys.readouterr().err
    assert theirs.read_bytes() == b"brain.Event:2 of another writer"
