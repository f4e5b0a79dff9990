"""The workloads: one module or one package each, found by :mod:`bench.plugins.registry`.

A user's own model is a file with ``WORKLOAD = TrainingWorkload(…)``, which needs no other import of this project.
"""

from bench.workloads.own_model.workload import TrainingWorkload
from bench.workloads.training import StepOptions

NOT_PLUGINS = frozenset({"own_model", "step", "training"})
"""Modules here that workloads share."""

__all__ = ["NOT_PLUGINS", "StepOptions", "TrainingWorkload"]
