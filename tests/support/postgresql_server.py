"""A real PostgreSQL server for the tests: made in a folder of its own, as an unprivileged user, and gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

OWNER, PASSWORD = "harness", "p@ss/word"
UNPRIVILEGED = ("postgres", "nobody")
PATIENCE_S = 30
TEMPORARY = tempfile.gettempdir()
"""As it was before a command in this process had a folder of its own, which the server's user may not enter."""


class CannotServe(Exception):
    """What is missing here."""


@dataclass
class Server:
    port: int
    programs: Path
    home: Path
    process: subprocess.Popen | None = None

    def start(self) -> None:
        self.process = _serve(self.programs, self.home, self.port)
        _wait(self.process, self, self.home)

    def stop(self, sign: int = signal.SIGQUIT) -> None:
        """By default at once: nothing of it is kept."""
        self.process.send_signal(sign)
        self.process.wait(PATIENCE_S)

    def url(self, schema: str, user: str = OWNER, password: str = PASSWORD, database: str = "postgres") -> str:
        """A schema is a place of its own, as a database is, and made in no time."""
        query = {"options": f"-csearch_path={schema}"}
        found = sa.URL.create("postgresql+psycopg", user, password, "127.0.0.1", self.port, database, query)
        return found.render_as_string(hide_password=False)

    def do(self, *statements: str) -> None:
        engine = sa.create_engine(self.url("public"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)
        engine.dispose()


@contextmanager
def serving() -> Iterator[Server]:
    """Raises :class:`CannotServe` where PostgreSQL is not installed."""
    programs = _programs()
    home = Path(tempfile.mkdtemp(prefix="harness-postgresql-", dir=TEMPORARY))
    try:
        _initialize(programs, home)
        server = Server(_free_port(), programs, home)
        server.process = _serve(programs, home, server.port)
        try:
            _wait(server.process, server, home)
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(home)


def _programs() -> Path:
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4]))
    found = [str(versions[-1])] if versions else [path for path in (shutil.which("initdb"),) if path]
    if not found:
        raise CannotServe("PostgreSQL's server is not installed (Debian's package postgresql)")
    return Path(found[0]).parent


def _initialize(programs: Path, home: Path) -> None:
    user = _unprivileged(home)
    secret = home / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    data = home / "data"
    subprocess.run(
        [
            programs / "initdb",
            "-D",
            data,
            "-U",
            OWNER,
            "-A",
            "scram-sha-256",
            "--pwfile",
            secret,
            "-E",
            "UTF8",
            "--locale",
            "C.UTF-8",
            "--no-sync",
        ],
        cwd=home,
        check=True,
        stdout=subprocess.DEVNULL,
        **user,
    )


def _serve(programs: Path, home: Path, port: int) -> subprocess.Popen:
    with (home / "log").open("a") as log:
        return subprocess.Popen(
            [
                programs / "postgres",
                "-D",
                home / "data",
                "-k",
                home,
                "-h",
                "127.0.0.1",
                "-p",
                str(port),
                "-c",
                "fsync=off",
            ],
            cwd=home,
            stdout=log,
            stderr=log,
            **_unprivileged(home),
        )


def _unprivileged(home: Path) -> dict:
    """PostgreSQL refuses to be run by root."""
    if os.geteuid() != 0:
        return {}
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    chosen = next((known[name] for name in UNPRIVILEGED if name in known), None)
    if chosen is None:
        raise CannotServe(f"PostgreSQL is not run by root, and there is no user {' or '.join(UNPRIVILEGED)}")
    os.chown(home, chosen.pw_uid, chosen.pw_gid)
    return {"user": chosen.pw_uid, "group": chosen.pw_gid, "extra_groups": []}


def _free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return asked.getsockname()[1]


def _wait(process: subprocess.Popen, server: Server, home: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return server.do("select 1")
        except sa.exc.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError((home / "log").read_text()) from None
            time.sleep(0.05)
