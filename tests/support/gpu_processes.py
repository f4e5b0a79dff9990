"""The ranks of a trial as processes on a GPU of the substitute NVML library, and a stranger beside them."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from bench.core.records import RankRecord
from bench.core.telemetry import NodeTelemetry
from reports.analysis.gpu_processes import foreign_gpu_processes
from tests.support.nvml_library import build


@contextmanager
def gpu_with_ranks(folder: Path, ranks: int) -> Iterator[dict[str, str]]:
    """The variables with which a sampler finds a GPU that its trial's ranks and another process of this user are on.

    Args:
        folder: Of the library.
        ranks: How many ranks have to have begun on a node before their processes are listed, with those whose ids are
            in the file ``listed`` of the folder.
    """
    stranger = subprocess.Popen(["sleep", "600"])
    paths = filter(None, (str(build(folder)), os.environ.get("LD_LIBRARY_PATH")))
    try:
        yield {
            "LD_LIBRARY_PATH": ":".join(paths),
            "SUBSTITUTE_NVML": f"ranks={ranks},listed={folder / 'listed'},process={stranger.pid}",
        }
    finally:
        stranger.kill()
        stranger.wait()


def check_owners(trial: Mapping[str, Any], env: Mapping[str, str], holders: Collection[int] = ()) -> None:
    """On each node of a stored trial ranks were listed on the GPU as the trial's, and the stranger as none of it.

    Args:
        trial: As it is stored.
        env: From :func:`gpu_with_ranks`.
        holders: Further processes that were listed as the trial's.
    """
    stranger = int(env["SUBSTITUTE_NVML"].rpartition("=")[2])
    where = trial["case"]["backend"], trial["case"]["site"]
    ranks = {rank["pid"] for rank in trial["ranks"]}
    for node in trial["telemetry"]:
        listed = {owned: {one["pid"] for one in node["processes"] if one["ours"] is owned} for owned in (True, False)}
        assert listed[False] == {stranger}, (where, node["processes"], sorted(ranks))
        assert listed[True] & ranks, (where, node["processes"])
        assert listed[True] - ranks == set(holders) - ranks, (where, node["processes"])
    assert _foreign(trial, stranger) == [True] * len(trial["telemetry"]), (where, trial["telemetry"])


def _foreign(trial: Mapping[str, Any], stranger: int) -> list[bool]:
    """Of each node, whether the stranger alone would have made the trial invalid, had its ranks been on the GPU."""
    records = [RankRecord.model_validate(rank) for rank in trial["ranks"]]
    only_stranger = []
    for node in map(NodeTelemetry.model_validate, trial["telemetry"]):
        (gpu,) = (device.id for device in node.devices if device.id.startswith("GPU"))
        on_gpu = [record.model_copy(update={"gpu": gpu}) for record in records]
        found = [condition.seen for condition in foreign_gpu_processes(node, "here", [gpu], on_gpu)]
        only_stranger.append(len(found) == 1 and f" {stranger} (sleep)" in found[0] and ";" not in found[0])
    return only_stranger


def check_stored_owners(folder: Path, env: Mapping[str, str], holders: Collection[int] = ()) -> None:
    """:func:`check_owners` of the good and sampled trials that a harness has stored in a folder, at least one."""
    with closing(sqlite3.connect(folder / ".runs" / "results.sqlite")) as store:
        bodies = [json.loads(body) for (body,) in store.execute("select body from trials where outcome = 'ok'")]
    trials = [trial for trial in bodies if trial["telemetry"]]
    assert trials
    for trial in trials:
        check_owners(trial, env, holders)
