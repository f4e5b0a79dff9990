"""A user's own model as a workload: a few lines in a file, from which the shared training step is made."""
