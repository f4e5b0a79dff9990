"""The workloads: one module or one package each, found by :mod:`bench.plugins.registry`."""

NOT_PLUGINS = frozenset({"training"})
"""Modules here that workloads share."""
