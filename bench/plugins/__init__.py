"""The contracts of backends, workloads and probes, and how they are found."""
