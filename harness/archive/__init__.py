"""Sweeps that are stored: which there are, what they take, what a person says of them, and their deletion."""
