"""The options of the Dask backend."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bench.plugins.backend import Options

MIN_SHARDED_RANKS = 4
"""From this many ranks on, arrays are sharded by default."""


class DaskOptions(Options):
    """The options of the Dask backend."""

    exchange: Literal["auto", "direct", "sharded"] = Field(
        "auto",
        description=f"tasks: whole gradients in one hop, or shards in two; auto shards from {MIN_SHARDED_RANKS} ranks",
    )
    connections: Literal["auto", "tls"] = Field(
        "auto", description="auto: Unix sockets of the trial where all its processes are on one machine, else TLS"
    )
    find_unused_parameters: bool = Field(
        False, description="gloo: find the parameters that a step does not use; tasks always do"
    )
