"""What importers of other tools' files share: parts of a JSON document, moments, names of runs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import UsageError
from harness.importers.limits import read_json_file

if TYPE_CHECKING:
    from harness.store.ledger import IngestedRun

ModelT = TypeVar("ModelT", bound=BaseModel)
MAX_DIGEST_LENGTH = 16


class Section(BaseModel):
    """The parts of a tool's file that are read; others are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


@dataclass(frozen=True)
class Source:
    """A file whose runs are read.

    Args:
        path: The file.
        content: Its bytes; runs are told apart by their digest, so that a file is stored once.
        night: The label of its night; ``None`` stands for its day (UTC).
    """

    path: Path
    content: bytes
    night: str | None

    @property
    def digest(self) -> str:
        """Identifies the content."""
        return hashlib.sha256(self.content).hexdigest()[:MAX_DIGEST_LENGTH]

    @property
    def modified_at(self) -> datetime:
        """When the file was last written (UTC): the moment of tools that note none."""
        return datetime.fromtimestamp(self.path.stat().st_mtime, UTC)

    def run(
        self,
        benchmark: str,
        number: int | None,
        seconds: tuple[float, ...],
        at: datetime,
        place: Mapping[str, Any],
        *,
        commit: str | None = None,
    ) -> IngestedRun:
        """A run of a benchmark in this file.

        Args:
            benchmark: Its name.
            number: Which of several runs of the benchmark; ``None`` where the file is one.
            seconds: What it measured, in seconds.
            at: When. A moment without a time zone is this machine's local time.
            place: Machine and versions by name; what is unknown (``None`` or empty) is left out.
            commit: What was measured, where the file says it.
        """
        # The ledger loads SQLAlchemy, which listing importers does not need.
        from harness.store.ledger import IngestedRun

        moment = at.astimezone(UTC)
        return IngestedRun(
            night=self.night or moment.date().isoformat(),
            benchmark=benchmark,
            run=self.digest if number is None else f"{self.digest}-{number}",
            at=moment.isoformat(),
            commit=commit,
            place={name: str(value) for name, value in place.items() if value not in (None, "")},
            seconds=seconds,
            source=str(self.path),
        )


def read_document(path: Path, night: str | None, model: type[ModelT], tool: str, remedy: str) -> tuple[Source, ModelT]:
    """A tool's JSON file, parsed.

    Args:
        path: The file.
        night: As :class:`Source` takes it.
        model: What is read of it.
        tool: Whose file it should be, for messages.
        remedy: What to do where it is none.

    Raises:
        UsageError: Naming the file, the place in it and the remedy.
    """
    content = read_json_file(path, remedy)
    try:
        return Source(path, content, night), model.model_validate_json(content)
    except ValidationError as problem:
        raise UsageError(f"{path}: {first_error(problem, tool)}; {remedy}") from None


def first_error(problem: ValidationError, tool: str) -> str:
    """The first error of a document, with its place."""
    first = problem.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if not where:
        return f"is no JSON of {tool} ({first['msg']})"
    is_now = f", not {first['input']}" if isinstance(first["input"], float | int | str) else ""
    return f"{where}: {first['msg']}{is_now}"


def parse_time(text: Any) -> datetime | None:
    """A moment in ISO 8601, without a time zone in this machine's local time; ``None`` where the text is none."""
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None
