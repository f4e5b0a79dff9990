"""This machine: processes, sockets, interfaces, cores, cache folders, network namespaces."""
