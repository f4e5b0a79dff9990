"""Limits on files of other programs, so that no file takes more memory or time than a real one.

The limits hold for what a file unpacks to. They are checked while it is read, before its content is parsed.
"""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from harness.errors import UsageError

MIB = 2**20
MAX_TABLE_BYTES = 512 * MIB
"""Of a CSV file: some ten million readings."""
MAX_LINE_BYTES = MIB
GZIP_MAX_RATIO = 1032
"""Bytes that deflate unpacks from one byte, at most (https://zlib.net/zlib_tech.html)."""
MAX_LABELS = 1_000_000
"""Different benchmarks, nights, runs or samples."""
MAX_JSON_BYTES = 128 * MIB
MAX_JSON_VALUES = 8_000_000
"""Of a JSON file, whose values take some 50 bytes of memory each."""
READ_BYTES = MIB


class TooLargeError(UsageError):
    """A file is larger than any that is read."""


def read_json_file(path: Path, remedy: str) -> bytes:
    """The content of a JSON file, not parsed.

    Nesting is limited by the parser: pydantic's ends at 200 levels.

    Args:
        path: The file.
        remedy: What to do where it cannot be read or is too large.

    Raises:
        UsageError: Naming the file, the limit and the remedy.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_JSON_BYTES + 1)
    except OSError as problem:
        raise UsageError(f"{path}: cannot be read ({problem.strerror}); {remedy}") from None
    if len(content) > MAX_JSON_BYTES:
        raise TooLargeError(f"{path}: is larger than {MAX_JSON_BYTES // MIB} MiB; {remedy}")
    if sum(map(content.count, (b",", b"[", b"{"))) > MAX_JSON_VALUES:
        raise TooLargeError(f"{path}: holds more than {MAX_JSON_VALUES:,} values; {remedy}")
    return content


def open_table(path: Path, *, compressed: bool) -> IO[bytes]:
    """A CSV file for reading, unpacked.

    Reading raises :class:`TooLargeError` beyond :data:`MAX_TABLE_BYTES`, or in a line of more than
    :data:`MAX_LINE_BYTES`; see :func:`check_table`.
    """
    source = cast(BinaryIO, gzip.open(path)) if compressed else path.open("rb")  # noqa: SIM115 - closed with the reader
    return io.BufferedReader(_LimitedReader(path, source), READ_BYTES)


def check_table(path: Path, *, compressed: bool) -> None:
    """Raise :class:`TooLargeError` for a CSV file that is too large, before much of it is parsed.

    Unpacking takes a small part of the time that parsing takes.
    """
    if not compressed:
        if path.stat().st_size > MAX_TABLE_BYTES:
            raise _table_too_large(path)
    elif path.stat().st_size * GZIP_MAX_RATIO > MAX_TABLE_BYTES:
        with open_table(path, compressed=True) as file:
            while file.read(READ_BYTES):
                pass


def _table_too_large(path: Path) -> TooLargeError:
    limit = f"{MAX_TABLE_BYTES // MIB} MiB"
    return TooLargeError(f"{path}: is larger than {limit} unpacked; leave out nights that are no longer judged")


class _LimitedReader(io.RawIOBase):
    """Another file's bytes up to the limits."""

    def __init__(self, path: Path, source: BinaryIO) -> None:
        self._path, self._source = path, source
        self._total = self._line = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._source.read(len(memoryview(buffer)))
        memoryview(buffer)[: len(block)] = block
        self._count(block)
        return len(block)

    def _count(self, block: bytes) -> None:
        self._total += len(block)
        newline = block.rfind(b"\n")
        self._line = self._line + len(block) if newline < 0 else len(block) - newline - 1
        if self._total > MAX_TABLE_BYTES:
            raise _table_too_large(self._path)
        if self._line > MAX_LINE_BYTES:
            raise TooLargeError(f"{self._path}: has a line of more than {MAX_LINE_BYTES // MIB} MiB; name a CSV file")

    def close(self) -> None:
        self._source.close()
        super().close()
