"""The control plane: plans, runs, stores, and the command line."""
