"""Output of other programs, read with a limit: whatever they write, it takes a known amount of memory.

What is too long keeps its beginning and its end, where the causes of errors are, and says how much was left out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

MAX_OUTPUT_BYTES = 2**20
"""What is kept of the output of a command."""
MAX_LINE_BYTES = 2**16
READ_BYTES = 2**16


class Excerpt:
    """The beginning and the end of bytes that arrive in pieces.

    Args:
        max_bytes: How much is kept, half from the beginning and half from the end.
    """

    def __init__(self, max_bytes: int = MAX_OUTPUT_BYTES) -> None:
        self._half, self._head = max_bytes // 2, bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_bytes = self._left_out = 0

    def add(self, piece: bytes) -> None:
        """Take note of further bytes."""
        room = self._half - len(self._head)
        self._head += piece[:room] if room > 0 else b""
        rest = piece[max(0, room) :][-self._half :]
        self._left_out += len(piece) - min(len(piece), max(0, room)) - len(rest)
        if rest:
            self._tail.append(rest)
            self._tail_bytes += len(rest)
        while self._tail and self._tail_bytes - len(self._tail[0]) >= self._half:
            dropped = self._tail.popleft()
            self._tail_bytes -= len(dropped)
            self._left_out += len(dropped)

    def decode(self, errors: str = "replace") -> str:
        """What was kept, as text. ``errors``: as :meth:`bytes.decode` takes it."""
        left_out = self._left_out + max(0, self._tail_bytes - self._half)
        tail = b"".join(self._tail)[-self._half :]
        between = f"\n… {left_out} bytes left out …\n".encode() if left_out else b""
        return (bytes(self._head) + between + tail).decode(errors=errors)


def bounded_lines(
    pieces: Iterable[bytes], max_bytes: Callable[[bytes], int] = lambda beginning: MAX_LINE_BYTES
) -> Iterator[str]:
    """The lines of bytes that arrive in pieces, without their ends; of a line that is too long, the beginning.

    Args:
        pieces: The bytes.
        max_bytes: How long a line may be, by its first bytes: at least :data:`MAX_LINE_BYTES` of a line that is longer.
    """
    kept: list[bytes] = []
    size, limit = 0, MAX_LINE_BYTES
    for piece in pieces:
        *ended, rest = piece.split(b"\n")
        for part in ended:
            kept.append(part)
            yield _line(kept, size + len(part), limit)
            kept, size, limit = [], 0, MAX_LINE_BYTES
        size += len(rest)
        if size > limit == MAX_LINE_BYTES:
            limit = max(MAX_LINE_BYTES, max_bytes(b"".join([*kept, rest])[:MAX_LINE_BYTES]))
        if size - len(rest) <= limit:
            kept.append(rest)
    if size:
        yield _line(kept, size, limit)


def _line(kept: list[bytes], size: int, limit: int) -> str:
    line = b"".join(kept)[:limit].decode(errors="replace").removesuffix("\r")
    return line if size <= limit else f"{line} … {size - limit} bytes left out"
