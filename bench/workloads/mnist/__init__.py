"""MNIST: its files and the workload."""
