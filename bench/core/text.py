"""Text from elsewhere, to be shown: names, messages and lines of logs that a store, a case, a plugin, another tool or a
node has given.

A character that controls a terminal, reverses the direction of text, is invisible, or is no valid Unicode is replaced
by U+FFFD, so that a reader sees that there was something.
"""

from __future__ import annotations

import re
from functools import cache

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_CONTROLS = frozenset(map(chr, (*range(0x20), *range(0x7F, 0xA0))))
_INVISIBLE = (
    "\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufdd0-\ufdef\ufeff\ufff0-\ufffb\ufffe\uffff"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Characters that are not seen but do something, as a class of a regular expression: soft hyphens, joiners, directions,
separators of lines and paragraphs, halves of a pair, and what is no character (which XML forbids)."""


@cache
def _unprintable(keep: str) -> re.Pattern[str]:
    return re.compile(f"[{re.escape(''.join(sorted(_CONTROLS - set(keep))))}{_INVISIBLE}]")


def printable(text: str, keep: str = "") -> str:
    """Text of which every character can be shown; its lines are joined by spaces unless line feeds stay (pure).

    Args:
        text: Any text.
        keep: Control characters that stay, such as a line feed.
    """
    if text.isprintable():
        return text
    return _unprintable(keep).sub(REPLACEMENT, text if "\n" in keep else " ".join(text.splitlines()))


def one_line(text: str, longest: int = 0) -> str:
    """Text on one line: white space of any kind and length is one space, the rest as :func:`printable` (pure).

    Args:
        text: Any text.
        longest: The most characters, of which an ellipsis is the last where something was cut; 0: any number.
    """
    # Most of what is cut need not be looked at: an error may have hundreds of megabytes.
    start = text[: 8 * longest] if longest else text
    flat = printable(" ".join(start.split()))
    return f"{flat[: longest - 1]}…" if longest and (len(flat) > longest or len(start) < len(text)) else flat
