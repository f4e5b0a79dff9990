"""What is printed is taken literally: neither markup nor control characters in it have an effect."""

from __future__ import annotations

import io

import pytest
from rich.progress import Progress, TextColumn
from rich.table import Table
from rich.text import Text

from bench.core.text import printable
from reports.formats.console import TextConsole, literal, print_line

HOSTILE = "a\x1b[2J\x1b]8;;http://x\x07\x9b31m\u202eb\u2028[red]c[/] [link=file:///x]d[/link] :boom: e"
LITERAL = "[red]c[/] [link=file:///x]d[/link] :boom: e"


def _table(text: str) -> Table:
    table = Table(title=text)
    table.add_column(text, no_wrap=True)
    table.add_row(text)
    return table


def _print_progress(console: TextConsole, text: str) -> None:
    with Progress(TextColumn("{task.description}", markup=False), console=console) as bar:
        bar.add_task(printable(text))


PRINTERS = {
    "a line": print_line,
    "a text": lambda console, text: console.print(text),
    "a styled text": lambda console, text: console.print(literal(text, "bold")),
    "Rich's own text": lambda console, text: console.print(Text(text, "bold")),
    "a table": lambda console, text: console.print(_table(text)),
    "a status": lambda console, text: console.print(console.status(Text(text)).renderable),
    "progress": _print_progress,
}


@pytest.mark.parametrize("printer", PRINTERS.values(), ids=PRINTERS)
@pytest.mark.parametrize("terminal", [True, False])
def test_hostile_text_is_printed_literally(printer, terminal):
    plain, hostile = io.StringIO(), io.StringIO()
    for file, text in (
        (plain, HOSTILE.translate({ord(letter): "." for letter in "\x1b\x07\x9b\u202e\u2028"})),
        (hostile, HOSTILE),
    ):
        printer(TextConsole(file=file, force_terminal=terminal, width=300, legacy_windows=False), text)
    output = hostile.getvalue()
    assert LITERAL in output
    assert not {"\x07", "\x9b", "\u202e", "\u2028"} & set(output)
    # The console's own sequences alone: as many as for harmless text.
    assert output.count("\x1b") == plain.getvalue().count("\x1b")


def test_a_line_stays_one_line():
    file = io.StringIO()
    print_line(TextConsole(file=file, width=10), "one\r\ntwo\x0bthree\x85four" + "x" * 100, "yellow")
    assert file.getvalue() == "one two three four" + "x" * 100 + "\n"


@pytest.mark.parametrize("variables", [{"FORCE_COLOR": "1"}, {"TTY_COMPATIBLE": "1"}, {}])
def test_a_pipe_is_no_terminal_whatever_variables_say(monkeypatch, variables):
    """As continuous integration sets them: colors, but no bar that moves and no table of 80 columns."""
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    file = io.StringIO()
    console = TextConsole(file=file)
    assert not console.is_terminal
    print_line(console, "text", "red")
    assert ("\x1b[31m" in file.getvalue()) == ("FORCE_COLOR" in variables)
