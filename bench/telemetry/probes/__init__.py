"""The probes: what reads the host, the GPUs, or a recording."""
