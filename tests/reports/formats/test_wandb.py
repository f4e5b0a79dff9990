"""Cells as offline runs of W&B: written by its own package and service, read with its own messages."""

from __future__ import annotations

import importlib.util
import json
import math
import struct

import pytest

from bench.core.records import Reading
from harness.cli.app import main
from harness.planning.plan import Skip
from harness.store.opening import open_store
from tests.support.builders import make_case, make_record, make_trial
from tests.support.exports import HOSTILE, curve, store_sweep

pytestmark = [
    pytest.mark.slow,
    # Not imported here: it takes seconds, and each process of the tests would, whichever runs these.
    pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="the extra `wandb` is not installed"),
    pytest.mark.filterwarnings("ignore"),  # of wandb's own dependencies
]

API_KEY, SECRET = "0123456789abcdef" * 2 + "01234567", "hunter2-in-the-environment"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A curve, a failed cell, a skipped one, and an unknown reading, exported."""
    folder = tmp_path_factory.mktemp("wandb")
    readings = (Reading(name="compile_time", value=None, unit="s", reason="not compiled"),)
    unknown = make_trial(make_case(ranks=1, batch=16), ranks=(make_record(readings=readings, step_s=(0.1, 0.3)),))
    failed = make_trial(make_case(ranks=8), outcome="failed", ranks=(), reason=HOSTILE)
    skip = Skip(case=make_case(backend="horovod"), reason="Horovod is not installed")
    store_sweep(folder / "r.sqlite", [*curve(), unknown, failed], skips=[skip])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_API_KEY", API_KEY)
        patch.setenv("SCALING_TEST_SECRET", SECRET)
        # An environment that asks for uploads changes nothing.
        patch.setenv("WANDB_MODE", "online")
        patch.setenv("WANDB_ERROR_REPORTING", "false")
        export(folder)
        yield folder


def export(folder):
    store, out = str(folder / "r.sqlite"), str(folder / "out")
    assert main(["export", "--store", store, "--format", "wandb", "--out", out]) == 0


def run_files(folder):
    return sorted(folder.glob("out/wandb/offline-run-*/run-*.wandb"))


def records(content):
    """The records of an offline run: LevelDB's log format in blocks of 32 KiB, after a header of 7 bytes.

    https://github.com/google/leveldb/blob/main/doc/log_format.md
    """
    from wandb.proto.wandb_internal_pb2 import Record

    position, whole = 7, b""
    while position + 7 <= len(content):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, position)
        whole += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # a full record, or the last part of one
            yield Record.FromString(whole)
            whole = b""


class Run:
    """What an offline run holds."""

    def __init__(self, path):
        self.config, self.summary, self.rows = {}, {}, []
        for record in records(path.read_bytes()):
            if record.HasField("run"):
                self.info = record.run
                self.config = {item.key: json.loads(item.value_json) for item in record.run.config.update}
            elif record.HasField("history"):
                items = record.history.item
                self.rows.append({"/".join(item.nested_key): json.loads(item.value_json) for item in items})
            elif record.HasField("summary"):
                self.summary |= {item.key: json.loads(item.value_json) for item in record.summary.update if item.key}
            elif record.HasField("exit"):
                self.exit_code = record.exit.exit_code

    def values(self, step, name):
        return [(row[step], row[name]) for row in self.rows if name in row]


@pytest.fixture(scope="module")
def runs(folder):
    found = [Run(path) for path in run_files(folder)]
    return {(run.config["backend"], run.config["ranks"], run.config["batch"]): run for run in found}


def test_values_and_intervals_are_those_of_the_cells(runs):
    assert len(runs) == 6
    run = runs["ddp", 4, 8]
    # Two trials with steps of 0.05 and 0.051 s: mean and interval of their logarithms, t of one degree of freedom.
    logs = [math.log(0.05), math.log(0.051)]
    mean, half = sum(logs) / 2, 12.7062 * abs(logs[0] - logs[1]) / 2
    bounds = [run.summary[f"step{bound}_seconds"] for bound in ("_low", "", "_high")]
    assert bounds == pytest.approx([math.exp(mean - half), math.exp(mean), math.exp(mean + half)], rel=1e-4)
    assert run.summary["throughput_samples_per_second"] == pytest.approx(8 / math.exp(mean))
    assert run.summary["rank_step_seconds/rank_3"] == pytest.approx(0.0505)
    assert run.values("round", "trial/step_seconds") == [(0, 0.05), (1, pytest.approx(0.051))]
    assert (run.info.run_group, run.exit_code) == ("s1", 0)


def test_each_step_and_loss_of_a_trial_is_there(runs):
    run = runs["ddp", 1, 16]
    assert run.values("step", "steps/step_seconds/round_0") == [(1, 0.1), (2, 0.3)]
    assert run.values("step", "steps/loss/round_0") == [(1, 1.0), (2, 0.5)]


def test_cells_without_a_number_have_outcome_and_reason_and_no_metric(runs):
    failed, skipped, unknown = runs["ddp", 8, 8], runs["horovod", 2, 8], runs["ddp", 1, 16]
    assert (failed.config["outcome"], failed.exit_code, failed.rows) == ("failed", 1, [])
    assert failed.config["reason"].startswith('1 of 1 trials: died: "x", y =HYPERLINK')
    assert (skipped.config["outcome"], skipped.exit_code, skipped.rows) == ("skipped", 0, [])
    assert skipped.config["reason"] == skipped.info.notes == "Horovod is not installed"
    assert {name for run in (failed, skipped) for name in run.summary} <= {"outcome", "_runtime"}
    assert unknown.config["unknown"]["compile_time"] == "not compiled"
    assert not [name for name in unknown.summary if "compile" in name or "low" in name]


def test_nothing_of_the_environment_is_written(folder):
    written = [path for path in (folder / "out").rglob("*") if path.is_file()]
    assert len(written) > 6
    for path in written:
        content = path.read_bytes()
        assert API_KEY.encode() not in content
        assert SECRET.encode() not in content


def test_exporting_again_doubles_nothing_and_renews_what_has_changed(folder, runs, capsys):
    before = run_files(folder)
    export(folder)
    assert "0 runs written, 6 unchanged" in capsys.readouterr().err
    assert run_files(folder) == before
    store = open_store(str(folder / "r.sqlite"), create=True)
    store.add_trial("s1", make_trial(make_case(ranks=4), 2, 0.06))
    store.close()
    export(folder)
    assert "1 run written, 5 unchanged" in capsys.readouterr().err
    after = run_files(folder)
    assert len(after) == 6
    (renewed,) = [run for run in map(Run, after) if run.config["ranks"] == 4]
    assert renewed.info.run_id == runs["ddp", 4, 8].info.run_id
    assert renewed.values("round", "trial/step_seconds")[2:] == [(2, 0.06)]
