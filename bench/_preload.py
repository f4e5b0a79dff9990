"""Imported by the fork server as it starts: loads what the ranks will need, and nothing else."""

from bench.nursery import die_with_parent, preload_all

# A rank holds the fork server open and the fork server its ranks: without this neither would notice a killed harness.
die_with_parent()
preload_all()
