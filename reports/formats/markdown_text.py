"""Text in Markdown as GitHub and GitLab render it: none of it is markup, a link, or tells somebody of it.

Needs nothing but the standard library, as :mod:`harness.publish.github_issues` does.
"""

from __future__ import annotations

import re

from bench.core.text import one_line

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
