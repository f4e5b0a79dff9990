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
# What helps with PostgreSQL, by its code or by its words: refused connections carry no code.
SERVER_CURES = {
    "23505": "let the other process that runs this sweep end",
    "25006": "take a role that may write",
    "42501": "have the owner of its tables grant it",
    "53100": "free some space on the server",
    "password authentication failed": "correct user and password",
    '" does not exist': "have it made (`createdb`), or correct the URL",
    "refused": "start the server, or correct host and port",
    "resolve host": "correct the host",
    "timeout": "start the server, or correct host and port",
    "closed the connection": "start the server, or correct host and port",
    "terminating connection": "start the server",
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
    return f"({say(problem)}); {_cure(problem)}"


def _cure(problem: BaseException) -> str:
    code = code_of(problem)
    if code in CURES:
        return CURES[code]
    cause = getattr(problem, "orig", None)
    said = f"{getattr(cause, 'sqlstate', None)} {cause}"
    return next((cure for sign, cure in SERVER_CURES.items() if sign in said), "see to that")


def say(problem: BaseException) -> str:
    """The first line, on a line of ours: it may quote what a damaged file holds."""
    said = str(getattr(problem, "orig", None) or problem).partition("\n")[0].removeprefix("connection failed: ")
    return "".join(sign if sign.isprintable() else "?" for sign in said[:LONGEST_WORDS])
