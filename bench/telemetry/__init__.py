"""The sampler of a node, and its probes."""
