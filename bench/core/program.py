"""A user's program as a case carries it to the nodes: its script and the Python files beside it."""

from __future__ import annotations

from pydantic import Field

from bench.core.frozen_model import FrozenModel


class Program(FrozenModel):
    """A program that runs unchanged, with what it needs on a node."""

    script: str
    """The path of the script in :attr:`folder`."""
    folder: str
    """The folder of the script, on the harness's machine."""
    module: str | None = None
    """Its name where it is a module of :attr:`folder` (``python -m package.train``); ``None``: it is a script."""
    working_directory: str
    """Where the program is started, where that exists on its node; else in the copy of the folder."""
    digest: str
    """Of the script and the other files. Results of other programs are not compared."""
    digests: dict[str, str] = Field(default={})
    """The digest of each Python file that travels, by its path in :attr:`folder`, the script included."""
    files: dict[str, str] = Field(default={})
    """The text of each of these files; empty in a stored trial."""
    left_out: str | None = None
    """Why the other Python files of the folder do not travel; ``None``: they do."""

    @property
    def name(self) -> str:
        """The name of the script's file."""
        return self.script.rpartition("/")[2]


def copy_folder_name(node: int) -> str:
    """The name of a node's copy of the program's folder, in the folder of a trial: hidden, as it does not stay."""
    return f".program-{node}"
