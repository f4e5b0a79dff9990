"""The backends: one module or one package each, found by :mod:`bench.plugins.registry`."""
