"""Results of the comparison with the reference, kept for later trials: a reference is computed once for what it is of.

What the comparison finds is a function of the case, this project's code, the libraries and the processor, and of
everything that the ranks show: of training, parameters and buffers before a step, the batch, the exchanged gradients,
parameters after the step; of other work, its result. A finding is kept under the digest of all of that. So the ranks
take the verified steps in every trial, and where a single bit of them is another one than before, the reference is
computed as if nothing were kept.

Results lie in the user's cache, one file a case (:func:`open_kept_results`). A file that can't be read, or written, is
as if there were none.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from pydantic import Field

from bench.core.case import Case
from bench.core.frozen_model import FrozenModel, write_model
from bench.core.same_work import Reference
from bench.host.installation import cache_folder
from bench.host.machine import read_cpu_name
from bench.host.regular_files import read_regular
from bench.host.resources import device_name
from bench.host.running_code import sources_digest
from bench.plugins.backend import Backend
from bench.plugins.workload import Workload

MAX_FILE_BYTES = 2**22
MAX_FILES = 500
NOT_OF_THE_WORK = {
    *("own_cost", "roofline", "decompose", "telemetry", "window_s", "adapt_window", "chosen_window_s"),
    *("steps", "warmup", "precision", "timeout_s"),
}
"""Fields of a case that say what else is measured, and for how long."""

Numbers = tuple[float, ...]


class KeptFile(FrozenModel):
    """The content of a file."""

    numbers: dict[str, Numbers] = Field(default={})
    arithmetics: dict[str, str] = Field(default={})
    references: dict[str, Reference] = Field(default={})


def digest_text(*parts: str) -> str:
    """The SHA-256 of some texts, in order."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class KeptResults:
    """Results by the digests of what they depend on.

    Args:
        file: Where they are kept; ``None``: they are not, and each is computed.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.file = file
        self.computed = 0
        """How many results were not there."""
        self._kept = _read(file) if file is not None else KeptFile()
        self._used = KeptFile(numbers={}, arithmetics={}, references={})

    def numbers(self, key: str, compute: Callable[[], Numbers]) -> Numbers:
        """The numbers under a key; ``compute`` gives them where they are not kept."""
        found = self._kept.numbers.get(key) if self.file is not None else None
        if found is None:
            self.computed += 1
            found = compute()
        self._used.numbers[key] = found
        return found

    def reference(self, key: str, compute: Callable[[], Reference]) -> Reference:
        """What a whole comparison found under a key; ``compute`` gives it where it is not kept."""
        found = self._kept.references.get(key) if self.file is not None else None
        if found is None:
            self.computed += 1
            found = compute()
        self._used.references[key] = found
        return found

    def arithmetic(self, key: str, name: str | None = None) -> str | None:
        """The name under a key, which ``name`` sets."""
        found = name if name is not None else self._kept.arithmetics.get(key) if self.file is not None else None
        if found is not None:
            self._used.arithmetics[key] = found
        return found

    def save(self) -> None:
        """Keep what was used, in place of what the file had; do nothing where nothing is new."""
        if self.file is None or not self.computed:
            return
        with suppress(OSError):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            if len(self._used.model_dump_json()) <= MAX_FILE_BYTES:
                write_model(self.file.parent, self.file.name, self._used)
            _remove_oldest(self.file.parent)


def open_kept_results(
    case: Case, backend: Backend, workload: Workload, device: str, variables: Mapping[str, str]
) -> KeptResults:
    """The results that are kept of a case.

    Those of a user's own workload or backend are not kept: nobody knows which files its results depend on.

    Args:
        case: The case.
        backend: The backend that it names.
        workload: The workload that it names.
        device: The device of this rank.
        variables: The environment variables that change what is measured, as this rank has inherited them.
    """
    import numpy as np
    import torch

    if not workload.keeps_results or not type(backend).__module__.startswith("bench.backends."):
        return KeptResults()
    context = digest_text(
        case.model_dump_json(exclude=NOT_OF_THE_WORK),
        sources_digest(),
        platform.python_version(),
        torch.__version__,
        np.__version__,
        torch.backends.cpu.get_cpu_capability(),
        read_cpu_name() if device == "cpu" else device_name(device),
        str(torch.get_num_threads()),
        json.dumps(dict(variables), sort_keys=True),
    )
    return KeptResults(cache_folder("verified-steps") / f"{context}.json")


def _read(file: Path) -> KeptFile:
    with suppress(OSError, ValueError):
        return KeptFile.model_validate_json(read_regular(file, MAX_FILE_BYTES))
    return KeptFile()


def _remove_oldest(folder: Path) -> None:
    files = list(folder.glob("*.json"))
    if len(files) > MAX_FILES:
        for file in sorted(files, key=lambda path: path.stat().st_mtime)[: len(files) - MAX_FILES]:
            file.unlink(missing_ok=True)
