import time
from pathlib import Path


def save(value, path, seconds=0.0):
    """Writes in two halves: a file with one of them is half-written."""
    with Path(path).open("w") as file:
        file.write("half")
        file.flush()
        time.sleep(seconds)
        file.write(" and half")
