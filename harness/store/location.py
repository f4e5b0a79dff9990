"""Where a store is: the name of a file, or the URL of a database. It is parsed once, and shown without its secrets."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, quote, quote_plus, unquote

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from bench.host.paths import from_home
from bench.host.secrets import MASK, has_secret, mask_secrets
from harness.errors import StoreError
from harness.output_files import same_file

FORMS = "name a file, sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE"
DRIVERS = {
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
"""By what a URL begins with, in lower case."""
URI_OPTIONS = {"uri", "mode", "immutable", "nolock", "vfs"}
"""Of SQLite's own notation, ``sqlite:///file:NAME?uri=true``: https://www.sqlite.org/uri.html."""
SHOWN_OPTIONS = frozenset(
    {
        *("application_name", "channel_binding", "connect_timeout", "dbname", "gssencmode", "host", "hostaddr"),
        *("keepalives", "load_balance_hosts", "options", "port", "require_auth", "service", "sslcert", "sslkey"),
        *("sslmode", "sslrootcert", "target_session_attrs", "tcp_user_timeout", "user"),
    }
)
"""Options of PostgreSQL's URLs that are no secret. All others are hidden: one may be a mistyped password."""
CONNECTION_KEYWORDS = SHOWN_OPTIONS | {"password", "passfile", "sslpassword"}
MAX_TIMEOUT_S = 86_400
SQLITE_WAL_VERSION = 2
"""Byte 18 of a SQLite file whose changes are written ahead: https://www.sqlite.org/fileformat.html."""
READ_ONLY, EXISTING, CREATING = "ro", "rw", "rwc"
"""How a SQLite file is opened."""

_URL = re.compile(r"(?s)(?P<scheme>[A-Za-z][\w+.-]*)://.*")
_PATH = re.compile(r"\.{0,2}/")
_MISTYPED = re.compile(
    r"(?i)(?P<scheme>[a-z][\w+.-]*:/|(?:postgres(?:ql)?|psql|pgsql|sqlite3?|mysql|mariadb)(?:\+\w+)?(?::|//))"
)
_LOGIN = re.compile(r"(?s)(?://)?[^/:@]+:.*@[^/]+(?:/|$)")


@dataclass(frozen=True)
class StoreLocation:
    """A store's place."""

    label: str
    """For messages and stored commands: without secrets."""
    path: Path | None
    """The file of a SQLite store; ``None``: it is on a server."""
    server: sa.URL | None = field(default=None, repr=False)
    options: Mapping[str, str] = field(default_factory=dict)
    """Of a SQLite URL."""

    def engine_url(self, mode: str) -> sa.URL:
        """The URL to connect to. ``mode``: how a file is opened (:data:`READ_ONLY`, …)."""
        if self.server is not None:
            return self.server
        # Not a plain name: SQLite would create a file that is missing. SQLAlchemy removes ".." from the text of a path,
        # which is another folder behind a symbolic link.
        name = "file:" + quote(os.fsencode(os.path.realpath(self.path or "")))
        chosen = {"mode": mode} if "mode" not in self.options else {}
        immutable = {"immutable": "1"} if mode == READ_ONLY and self.path and _is_unwritable_wal(self.path) else {}
        return sa.URL.create("sqlite", database=name, query={**self.options, **chosen, **immutable, "uri": "true"})

    @property
    def reading_mode(self) -> str:
        """How its file is opened for reading: SQLite writes where it has to undo what a killed process left, and beside
        a file with a write-ahead log, which it removes again."""
        if self.path is None or _is_unwritable_wal(self.path):
            return READ_ONLY
        journal = self.path.with_name(f"{self.path.name}-journal")
        return EXISTING if journal.exists() or _has_wal(self.path) else READ_ONLY

    def redact(self, text: str) -> str:
        """A message of its database, which may quote parts of the URL, without its secrets."""
        for secret in self._secrets():
            text = text.replace(secret, MASK)
        return mask_secrets(text)

    def _secrets(self) -> Iterator[str]:
        if self.server is None:
            return
        values = [self.server.password or ""]
        for name, given in self.server.query.items():
            if _is_hidden(name, str(given)):
                values += [given] if isinstance(given, str) else given
        for value in values:
            yield from sorted({value, quote(value, safe=""), quote_plus(value)} - {""}, key=len, reverse=True)


def parse_location(text: str) -> StoreLocation:
    """Parse a file's name or an SQLAlchemy URL.

    In a file's name no character has a meaning: neither ``?`` nor ``%`` nor ``#``. What looks like a mistyped URL is no
    file; with ``./`` in front it is.

    Raises:
        StoreError: It is neither, or a database that no store is kept in. The message holds no secret.
    """
    text = text.strip() if "://" in text and not _PATH.match(text) else text
    url = None if _PATH.match(text) else _URL.fullmatch(text)
    if url:
        scheme = url["scheme"].lower()
        if scheme not in DRIVERS:
            near = "; PostgreSQL's begins with postgresql+psycopg://" if scheme.startswith(("postgres", "pg")) else ""
            raise StoreError(f"store {scheme}://{MASK}: is neither SQLite nor PostgreSQL{near}; correct the URL")
        return _parse_url(text, scheme)
    if not text or "\0" in text:
        raise StoreError(f"store '{text}': is no name of a file; {FORMS}")
    if problem := _mistyped(text):
        raise StoreError(f"{problem}; {FORMS} (./NAME is a file, whatever its name)")
    return StoreLocation(text, from_home(text))


def _mistyped(text: str) -> str | None:
    """Why a text is no file's name: it may hold a password, which a folder would be called by."""
    # Before paths: //me:password@host/database has lost its scheme.
    if _LOGIN.match(text.strip()):
        return f"store {MASK}@…: looks like a URL without its beginning"
    if _PATH.match(text):
        return None
    if "://" in text:
        return f"store {MASK}: is no valid URL"
    if match := _MISTYPED.match(text.strip()):
        return f"store {match['scheme']}{MASK}: is a mistyped URL"
    words = [word.partition("=") for word in text.split() if "=" in word]
    known = [name for name, _, _ in words if name.lower() in CONNECTION_KEYWORDS]
    if len(known) > 1 or any(name.lower().endswith(("password", "passfile")) for name in known):
        return f"store {' '.join(f'{name}={MASK}' for name in known)}: is a connection string"
    return None


def _parse_url(text: str, scheme: str) -> StoreLocation:
    refused = f"store {scheme}://{MASK}"
    rest = text[len(scheme) :]
    try:
        url = sa.make_url(DRIVERS[scheme] + rest)
    except (SQLAlchemyError, ValueError):  # what it says may quote the password
        raise StoreError(f"{refused}: is no valid URL; correct it") from None
    if DRIVERS[scheme] == "sqlite":
        return _parse_sqlite(url, rest, refused)
    # Else a part of the password would be taken for a host, a database or an option.
    if rest.count("@") > 1 or re.search(r"[?=&/]", url.username or ""):
        raise StoreError(f"{refused}: names no host; write an @ in a password as %40, correct the URL")
    shown = url.update_query_dict(
        {name: MASK if _is_hidden(name, str(value)) else value for name, value in url.query.items()}
    )
    # The mask's stars are no characters of a URL.
    label = shown.render_as_string(hide_password=True).replace(quote_plus(MASK), MASK)
    return StoreLocation(label, None, url)


def _is_hidden(option: str, value: str) -> bool:
    return option not in SHOWN_OPTIONS or has_secret(value)


def _parse_sqlite(url: sa.URL, rest: str, refused: str) -> StoreLocation:
    if url.host or url.username or url.password or url.port:
        raise StoreError(f"{refused}: names a host; a file's URL has three slashes, sqlite:///FILE; correct it")
    name = url.database or ""
    options = dict(parse_qsl(rest.partition("?")[2], keep_blank_values=True))
    label = mask_secrets(f"sqlite{rest}")
    is_uri = name.startswith("file:")
    known = {"timeout"} | (URI_OPTIONS if is_uri else set())
    if len(options) != len(parse_qsl(rest.partition("?")[2], keep_blank_values=True)):
        raise StoreError(f"store {label}: has an option twice; correct the URL")
    if unknown := sorted(set(options) - known):
        raise StoreError(
            f"store {label}: SQLite's URLs have no option '{mask_secrets(unknown[0])}' ({', '.join(sorted(known))}); "
            "write a ? of a file's name as %3F, or name the file without sqlite:///, or correct the URL"
        )
    _check_timeout(options, label)
    if is_uri and options.get("uri", "").lower() not in ("true", "1", "yes"):
        raise StoreError(f"store {label}: SQLite's notation file: needs ?uri=true; correct the URL")
    path = unquote(re.sub(r"^file:(//(localhost)?(?=/))?", "", name)) if is_uri else name
    if path in ("", ":memory:") or "\0" in path or options.get("mode") == "memory":
        raise StoreError(f"store {label}: names no file, and what is in memory is lost at the end; {FORMS}")
    return StoreLocation(label, Path(path), options={key: options[key] for key in options if key != "uri"})


def _check_timeout(options: Mapping[str, str], label: str) -> None:
    try:
        seconds = float(options.get("timeout", "0"))
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= MAX_TIMEOUT_S:
        raise StoreError(f"store {label}: timeout is no number of seconds from 0 to {MAX_TIMEOUT_S}; correct the URL")


def store_path(text: str) -> Path | None:
    """The file of a SQLite store; ``None`` for a server. Raises as :func:`parse_location` does."""
    return parse_location(text).path


def store_label(text: str) -> str:
    """The location without secrets. Raises as :func:`parse_location` does."""
    return parse_location(text).label


def is_same_store(first: str, second: str) -> bool:
    """Whether two locations are one store."""
    one, other = parse_location(first), parse_location(second)
    if one.path is None or other.path is None:
        return one.server == other.server and one.path == other.path
    return same_file(one.path, other.path)


def _has_wal(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(19)[18:] == bytes([SQLITE_WAL_VERSION])
    except OSError:
        return False


def _is_unwritable_wal(path: Path) -> bool:
    """SQLite could not make the index of the log. Without a log, the file is all there is."""
    log = path.with_name(f"{path.name}-wal")
    return _has_wal(path) and not log.exists() and not os.access(path.resolve().parent, os.W_OK)
