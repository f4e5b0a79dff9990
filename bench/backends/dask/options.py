"""The options of the Dask backend."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bench.core.case import Case
from bench.plugins.backend import Options


class DaskOptions(Options):
    """The options of the Dask backend."""

    exchange: Literal["auto", "stream", "direct", "sharded"] = Field(
        "auto",
        description="tasks: stream sends arrays over Dask's connections between ranks; direct and sharded make them "
        "results of a task a step, whole ones in one hop or shards in two; auto: stream",
    )
    connections: Literal["auto", "tls"] = Field(
        "auto", description="auto: Unix sockets of the trial where all its processes are on one machine, else TLS"
    )
    find_unused_parameters: bool = Field(
        False, description="gloo: find the parameters that a step does not use; tasks always do"
    )


def exchange_mode(case: Case) -> str:
    """How arrays travel under ``tasks``: ``stream``, ``direct`` or ``sharded`` (pure)."""
    chosen = DaskOptions(**case.backend_options).exchange
    return "stream" if chosen == "auto" else chosen
