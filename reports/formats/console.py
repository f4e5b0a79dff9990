"""Text for people on a terminal: the only place where names and messages from elsewhere become output."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from bench.core.text import printable

UNKNOWN_WIDTH = 80
"""As Rich takes for a terminal that does not say."""


class TextConsole(Console):
    """A console that takes text literally: it interprets no markup, and no character of a text controls the terminal.

    Rich itself does neither: it reads ``[red]``, ``[link=…]`` and ``:smile:`` in every string, and passes ESC on. To
    Rich ``FORCE_COLOR`` makes a pipe a terminal, with bars that move; here it asks for colors alone.

    Args:
        settings: Those of :class:`rich.console.Console`.
    """

    def __init__(self, **settings: Any) -> None:
        stream = settings.get("file") or (sys.stderr if settings.get("stderr") else sys.stdout)
        settings.setdefault("force_terminal", stream.isatty())
        if not settings["force_terminal"] and os.environ.get("FORCE_COLOR"):
            settings.setdefault("color_system", "standard")
        super().__init__(markup=False, highlight=False, emoji=False, **settings)
        if not self.width:  # COLUMNS=0: Rich would print nothing at all
            self.width = UNKNOWN_WIDTH

    def render_str(self, text: str, **settings: Any) -> Text:
        """As Rich. Characters are replaced before Rich measures how wide a text is."""
        return super().render_str(printable(text, keep="\n"), **settings)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As Rich, whose own control sequences are segments of their own, or styles."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield segment if control or text.isprintable() else Segment(printable(text, keep="\n"), style)


def literal(text: str, style: str = "") -> Text:
    """Text for a cell or the title of a table on any console, on one line until the table wraps it."""
    return Text(printable(text), style)


def print_line(console: Console, text: str, style: str = "") -> None:
    """Print text on one line, as wide as it is."""
    console.print(Text(printable(text), style), soft_wrap=True)
