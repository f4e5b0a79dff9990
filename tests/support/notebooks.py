"""Notebooks of the documentation, run from their first cell to their last.

    python -m tests.support.notebooks docs/how-to/notebook.ipynb

runs one in an empty folder, and writes it with its outputs; ``--out FILE`` writes them elsewhere.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

CELL_LIMIT_S = 240
PLOTLY = "application/vnd.plotly.v1+json"


def run_notebook(source: Path, target: Path) -> None:
    """Run a notebook and write it with its outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell raised.
    """
    notebook = nbformat.read(source, as_version=4)
    with tempfile.TemporaryDirectory(prefix="nb") as folder:
        # Sockets of files, whose names are short: ports may be taken by the time that they are used.
        os.environ["JUPYTER_RUNTIME_DIR"] = folder
        work = Path(folder, "work")
        work.mkdir()
        client = NotebookClient(
            notebook,
            timeout=CELL_LIMIT_S,
            kernel_name="python3",
            resources={"metadata": {"path": str(work)}},
            record_timing=False,
        )
        client.create_kernel_manager()
        client.km.transport, client.km.ip = "ipc", str(Path(folder, "kernel"))
        client.execute()
    target.write_text(nbformat.writes(without_machine(notebook)) + "\n")


def without_machine(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Without what is of the machine that ran it, and with one form of each figure."""
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if PLOTLY in output.get("data", {}):
                output["data"] = {PLOTLY: output["data"][PLOTLY]}
    return notebook


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    run_notebook(arguments.notebook, arguments.out or arguments.notebook)


if __name__ == "__main__":
    main()
