"""This machine: its processes, cores, network interfaces, network namespaces and installed software."""
