"""The results store."""

DEFAULT_STORE = ".runs/results.sqlite"
STORE_VARIABLE = "SCALING_STORE"
"""The environment variable with a store's location: arguments of a process are seen by every user of its machine."""
