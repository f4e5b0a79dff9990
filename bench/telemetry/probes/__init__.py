"""The probes: what reads the host, the GPUs, or a recording."""

NOT_PLUGINS = frozenset({"replay"})
"""The recording takes the place of all probes."""
