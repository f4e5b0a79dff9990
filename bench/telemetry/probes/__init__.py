"""The probes: what reads the devices of a node."""
