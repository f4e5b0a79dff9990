"""Collective operations alone, over message sizes; its workload is in :mod:`bench.workloads.collectives.workload`."""
