"""Text in Markdown as GitHub and GitLab render it: none of it is markup, a link, or tells somebody of it.

Needs nothing but the standard library, as :mod:`harness.publish.github_issues` does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from bench.core.text import one_line

GITHUB_COMMENT_LIMIT = 65_536
"""Characters that GitHub accepts in a comment."""
MAX_TEXT_LENGTH = 240
"""Characters of a name or a reason."""
MARKUP_CHARACTERS = re.compile(r"[\\`*_{}\[\]<>|~$&\"':]|(?<=[Ww]{3})\.")
"""And the full stop of ``www.``, which is a link without any markup."""
MENTIONS = re.compile(r"([@#]|\bGH-)(?=\w)", re.IGNORECASE)
"""Of people and of issues."""
ZERO_WIDTH_SPACE = "\u200b"


def text(plain: str, longest: int = MAX_TEXT_LENGTH) -> str:
    """Text with everything escaped that would be markup, break a table, or mention a person or an issue."""
    return _escaped(MENTIONS.sub(rf"\1{ZERO_WIDTH_SPACE}", one_line(plain, longest)))


def code(name: str, longest: int = MAX_TEXT_LENGTH) -> str:
    """A name or a command, verbatim. HTML, because names may contain backticks."""
    return f"<code>{_escaped(one_line(name, longest))}</code>"


def _escaped(line: str) -> str:
    return MARKUP_CHARACTERS.sub(lambda mark: f"&#{ord(mark[0])};", line)


def take_fitting(lines: Iterable[str], remaining: int) -> list[str]:
    """The first lines that fit into ``remaining`` characters."""
    kept: list[str] = []
    for line in lines:
        remaining -= len(line)
        if remaining < 0:
            break
        kept.append(line)
    return kept
