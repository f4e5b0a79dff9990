"""Imported by the fork server as it starts: loads what the ranks will need, and nothing else."""

from bench.node.forkserver import preload_modules

preload_modules()
