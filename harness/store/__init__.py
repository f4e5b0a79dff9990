"""The results store."""

DEFAULT_STORE = ".runs/results.sqlite"
