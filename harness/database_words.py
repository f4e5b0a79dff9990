"""What went wrong in a database and what helps, in words."""

from __future__ import annotations

import sqlite3

LONGEST_WORDS = 160

# What helps, by SQLite's primary result code.
CURES = {
    sqlite3.SQLITE_FULL: "free some space",
    sqlite3.SQLITE_BUSY: "let the other sweep or program that holds it end (?timeout=SECONDS in its URL waits longer)",
    sqlite3.SQLITE_READONLY: "make the file and its folder writable",
    sqlite3.SQLITE_CANTOPEN: "make the file and its folder writable",
    sqlite3.SQLITE_CONSTRAINT: "let the other process that runs this sweep end",
    sqlite3.SQLITE_CORRUPT: "restore a copy of it",
    sqlite3.SQLITE_NOTADB: "restore a copy of it",
    sqlite3.SQLITE_IOERR: "see to its disk",
}
FAULTS = {sqlite3.SQLITE_CORRUPT: "is damaged", sqlite3.SQLITE_NOTADB: "not a results store"}
ELSEWHERE = "name another with --store"


def code_of(problem: BaseException) -> int:
    """SQLite's primary result code; 0 where another database failed."""
    cause = getattr(problem, "orig", None)
    if "Could not decode to UTF-8" in str(cause):
        return sqlite3.SQLITE_CORRUPT  # Python's own check, which carries no code
    code: int = getattr(cause, "sqlite_errorcode", 0)
    return code & 0xFF


def why(problem: BaseException) -> str:
    """The database's own words and what helps."""
    return f"({say(problem)}); {CURES.get(code_of(problem), 'see to that')}"


def say(problem: BaseException) -> str:
    """The first line, on a line of ours: it may quote what a damaged file holds."""
    said = str(getattr(problem, "orig", None) or problem).partition("\n")[0]
    return "".join(sign if sign.isprintable() else "?" for sign in said[:LONGEST_WORDS])
