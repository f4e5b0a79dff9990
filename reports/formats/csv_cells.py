"""Text in cells of CSV files that spreadsheets open: none of it is a formula, and all of it can be read back.

A spreadsheet evaluates text that begins with ``=``, ``+``, ``-`` or ``@``
(https://owasp.org/www-community/attacks/CSV_Injection). Where its language separates columns by semicolons, cells also
begin after a semicolon, and quotation marks do not keep a line together. An apostrophe goes before such text, and
before text that begins with an apostrophe.
"""

from __future__ import annotations

import re

APOSTROPHE = "'"
_CELL_START = r"(^|[;\t\r\n])"
_FORMULA = rf"\s*[=+\-@\uff1d\uff0b\uff0d\uff20{APOSTROPHE}]"
"""Also in the full width of East Asian texts."""
_UNPROTECTED = re.compile(f"{_CELL_START}(?={_FORMULA})")
_PROTECTED = re.compile(f"{_CELL_START}{APOSTROPHE}(?={_FORMULA})")


def escape_cell(text: str) -> str:
    """Text as it is written to a cell (pure)."""
    return _UNPROTECTED.sub(rf"\1{APOSTROPHE}", text)


def unescape_cell(cell: str) -> str:
    """The text that :func:`escape_cell` wrote (pure)."""
    return _PROTECTED.sub(r"\1", cell)
