"""Slurm: the scripts that it is given, its command line tools, the trials that run there."""
