"""Pairs of trials: this code and another commit's in turn, each in a process and a tree of its own."""
