"""Slurm: a batch job a trial, or a round."""
