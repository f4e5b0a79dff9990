"""Machines that ssh reaches: the file that lists them, what ssh is told, a trial's sessions on them."""
