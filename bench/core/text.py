"""Text from elsewhere, to be shown: names, messages and lines of logs that a store, a case, a plugin, another tool or a
node has given.

A character that controls a terminal, reverses the direction of text, is invisible, or is no valid Unicode is replaced
by U+FFFD, so that a reader sees that there was something.
"""

from __future__ import annotations

import unicodedata

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def printable(text: str, keep: str = "") -> str:
    """Text of which every character can be shown; its lines are joined by spaces unless line feeds stay (pure).

    Args:
        text: Any text.
        keep: Control characters that stay, such as a line feed.
    """
    if text.isprintable():
        return text
    text = text if "\n" in keep else " ".join(text.splitlines())
    return "".join(
        letter if letter.isprintable() or letter in keep or unicodedata.category(letter) == "Zs" else REPLACEMENT
        for letter in text
    )


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
