"""Cells as runs of TensorBoard: a folder with an event file each, for the Scalars, HParams and Text dashboards.

An event file is of records of TensorFlow's TFRecord format; its scalars are single-precision numbers. The files are
written by TensorBoard's own package, which needs neither TensorFlow nor PyTorch for it. Times are those of the trials,
so that the same cells give the same bytes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from hashlib import sha256
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from reports.formats.cell_records import CellRecord, TrialRecord
from reports.formats.exports import FileOfFolder, FolderFormat, require_packages
from reports.formats.markdown_text import text as escaped
from reports.formats.metric_units import as_name
from reports.formats.sweep_records import SweepRecord

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary

WRITER = "scaling-harness"
FILE = f"events.out.tfevents.0.{WRITER}"
"""TensorBoard takes every file for one of events whose name holds ``tfevents``."""
MAX_TITLE = 80
"""Characters of a title in the name of a folder."""


def files(sweeps: Iterable[SweepRecord]) -> Iterator[FileOfFolder]:
    """See :attr:`reports.formats.exports.FolderFormat.files`."""
    require_packages("tensorboard", {"tensorboard": "tensorboard"})
    for sweep in sweeps:
        for cell in sweep.cells:
            path = PurePosixPath(sweep.facts.id, _folder(cell), FILE)
            yield FileOfFolder(path, _event_file(sweep, cell, tuple(sweep.trials(cell))))


def _folder(cell: CellRecord) -> str:
    """A name that says what the cell is and that no other cell of its sweep has."""
    digest = sha256(cell.case.key.encode(errors="backslashreplace")).hexdigest()[:8]
    return f"{as_name(cell.title)[:MAX_TITLE]}-{digest}".replace("_", "-")


def _event_file(sweep: SweepRecord, cell: CellRecord, trials: Sequence[TrialRecord]) -> bytes:
    from tensorboard.compat.proto.event_pb2 import Event, SourceMetadata
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    began_s = _seconds(trials[0].started_at if trials else sweep.facts.started_at)
    content = io.BytesIO()
    writer = RecordWriter(content)

    def write(**fields: Any) -> None:
        writer.write(Event(**fields).SerializeToString(deterministic=True))

    write(wall_time=began_s, file_version="brain.Event:2", source_metadata=SourceMetadata(writer=WRITER))
    for summary in (_hyperparameters(cell, began_s), _outcome(sweep, cell), _end(cell, _end_s(trials, began_s))):
        write(wall_time=began_s, step=0, summary=summary)
    for tag, at_s, step, value in (*_cell_scalars(cell, began_s), *_trial_scalars(trials)):
        write(wall_time=at_s, step=step, summary=Summary(value=[Summary.Value(tag=tag, simple_value=value)]))
    return content.getvalue()


def _cell_scalars(cell: CellRecord, at_s: float) -> Iterator[tuple[str, float, int, float]]:
    """Tag, time, step and value of each number of a cell; the step is the number of trials."""
    for metric in cell.metrics:
        labels = "".join(f"/{label}_{value}" for label, value in metric.labels.items())
        for name, value in metric.values.items():
            yield f"cell/{name}{labels}", at_s, cell.trials, value


def _trial_scalars(trials: Iterable[TrialRecord]) -> Iterator[tuple[str, float, int, float]]:
    """The same for the numbers of the trials, by round, and for the step times and losses of each."""
    for trial in trials:
        at_s = began_s = _seconds(trial.started_at)
        for name, value in trial.values.items():
            yield f"trial/{name}", at_s, trial.round, value
        for number, step_s in enumerate(trial.step_s, 1):
            at_s += step_s * trial.steps_per_entry
            yield f"steps/step_seconds/round_{trial.round}", at_s, number * trial.steps_per_entry, step_s
        for step, loss in trial.losses:
            yield f"steps/loss/round_{trial.round}", began_s, step, loss


def _hyperparameters(cell: CellRecord, began_s: float) -> Summary:
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb

    # TensorBoard averages over runs of one trial.
    trial_id = f"{cell.sweep} {cell.case.key}"
    summary = hparams_pb({"sweep": cell.sweep, **cell.parameters}, trial_id=trial_id, start_time_secs=began_s)
    for value in summary.value:
        data = value.metadata.plugin_data
        # Its map of parameters has another order in each process.
        data.content = HParamsPluginData.FromString(data.content).SerializeToString(deterministic=True)
    return summary


def _end(cell: CellRecord, ended_s: float) -> Summary:
    # hparams.summary has a function for it, but imports TensorFlow.
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import metadata
    from tensorboard.plugins.hparams.api_pb2 import STATUS_FAILURE, STATUS_SUCCESS, STATUS_UNKNOWN
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo

    status = {"ok": STATUS_SUCCESS, "skipped": STATUS_UNKNOWN}.get(cell.outcome, STATUS_FAILURE)
    end = HParamsPluginData(session_end_info=SessionEndInfo(status=status, end_time_secs=ended_s))
    tag, description = metadata.SESSION_END_INFO_TAG, metadata.create_summary_metadata(end)
    return Summary(value=[Summary.Value(tag=tag, metadata=description, tensor=metadata.NULL_TENSOR)])


def _outcome(sweep: SweepRecord, cell: CellRecord) -> Summary:
    """A table of what is no number, in Markdown."""
    from tensorboard.plugins.text.summary_v2 import text_pb

    texts = {
        "outcome": cell.outcome,
        "reason": cell.reason or "",
        "flags": ", ".join(cell.flags),
        **{f"{quantity} is unknown": reason for quantity, reason in cell.unknown.items()},
        "case": cell.case.key,
        "sweep": f"{sweep.title} ({sweep.facts.id})",
        "commit": sweep.facts.commit or "",
        "host": sweep.facts.host,
    }
    rows = [f"| {escaped(name)} | {escaped(text)} |" for name, text in texts.items() if text]
    return text_pb("outcome", "\n".join(["| | |", "| --- | --- |", *rows]))


def _end_s(trials: Sequence[TrialRecord], began_s: float) -> float:
    return max((_seconds(trial.started_at) + (trial.wall_s or 0) for trial in trials), default=began_s)


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()


FORMAT = FolderFormat(
    "a run a cell for TensorBoard: step times, losses, trials and hyperparameters",
    files,
    signature=re.compile(rb"brain\.Event:2R.{1,4}scaling-harness", re.DOTALL),
)
