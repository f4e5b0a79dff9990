"""A trial on hosts: a session of ssh for each node, one more where a launcher starts the ranks."""

from __future__ import annotations

import queue
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from bench.case import Case
from bench.node import READY
from bench.parcel import Unpacker
from harness.remote import MARGIN_S, Lost, ends_in, gather
from harness.sites import Ending, Job
from harness.ssh import client
from harness.ssh.hosts_file import Host
from harness.ssh.session import Session

LAST_WORDS_S = 3.0
"""How long the others may go on once a node has ended badly: their ranks may still say why."""
PARTING_S = 15.0
"""How long nodes that are told to end may take for stacks and parcels."""
HANG_UP_S = 3.0


class Order(NamedTuple):
    """A command for one host. ``node``: which one it stands for; ``None``: it is the launcher."""

    title: str
    node: int | None
    host: Host
    command: list[str]


class HostsJob(Job):
    """The sessions of one trial."""

    def __init__(self, case: Case, folder: Path, orders: Sequence[Order], config: str, access: client.Access) -> None:
        self.case, self.folder, self.access, self.config = case, folder, access, config
        self.happened: queue.Queue[Session | int] = queue.Queue()
        """Sessions that have ended, and numbers of nodes that are ready for a launcher's ranks."""
        self.nodes: dict[int, Session] = {}
        self.awaited = set(range(case.nodes))
        self.to_launch = next((order for order in orders if order.node is None), None)
        self.launcher: Session | None = None
        try:
            for order in orders:
                if order.node is not None:
                    self.nodes[order.node] = self._open(order, case.model_dump(mode="json"))
        except BaseException:
            self.cancel()
            raise

    def _open(self, order: Order, begin_with: Any) -> Session:
        unpacker = Unpacker(self.folder)

        def take(line: str) -> bool:
            if order.node is not None and line.rstrip() == READY:
                self.happened.put(order.node)
                return True
            return unpacker.take(line)

        log = self.folder / f"{order.title}.log"
        return Session(order.host, order.command, log, begin_with=begin_with, take=take, ended=self.happened.put)

    def _is_ready(self, node: int) -> None:
        self.awaited.discard(node)
        if not self.awaited and self.to_launch is not None and self.launcher is None:
            self.launcher = self._open(self.to_launch, self.config)

    @property
    def _sessions(self) -> list[Session]:
        return [*self.nodes.values(), *((self.launcher,) if self.launcher else ())]

    def wait(self, timeout_s: float) -> Ending:
        try:
            # A node's own word on what took too long comes first.
            timed_out = not self._first_end(time.monotonic() + timeout_s + MARGIN_S)
            for session in self._running() if timed_out or self._running_after(LAST_WORDS_S) else ():
                session.dismiss()
            self._running_after(PARTING_S)
        finally:
            self.cancel()
        return self._ending(timed_out=timed_out)

    def _running(self) -> list[Session]:
        return [session for session in self.nodes.values() if not session.ended]

    def _first_end(self, deadline: float) -> bool:
        """Wait until all nodes have ended, or one session has ended badly; whether that came in time."""
        while self._running():
            try:
                found = self.happened.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return False
            if isinstance(found, int):
                self._is_ready(found)
            elif found.status:
                return True
        return True

    def _running_after(self, seconds: float) -> bool:
        """Whether one still runs when all have been given this long."""
        deadline = time.monotonic() + seconds
        while self._running() and (left := deadline - time.monotonic()) > 0:
            with suppress(queue.Empty):
                self.happened.get(timeout=left)
        return bool(self._running())

    def _ending(self, *, timed_out: bool) -> Ending:
        spoken = ends_in(self.folder)
        lost = [
            Lost(number, session.host.name, self._why(session))
            for number, session in self.nodes.items()
            if number not in spoken and not session.cut_off
        ]
        ending = gather(self.folder, self.case, lost, timed_out=timed_out)
        return ending if self.launcher is None or lost else self._with_launcher(self.launcher, ending)

    def _why(self, session: Session) -> str:
        if session.problem:
            return session.problem
        if session.status == client.FAILED:
            return client.why_it_failed(session.last_words(), session.host, self.access)
        said = next((line for line in reversed(session.last_words()) if line.strip()), "no word")
        return f"its agent ended with status {session.status} ({said.strip()})"

    def _with_launcher(self, launcher: Session, ending: Ending) -> Ending:
        """The launcher's own words count where the ranks had none."""
        failed = bool(launcher.status) and not launcher.cut_off
        if ending.outcome == "ok" and not failed:
            return ending
        words = [line for line in launcher.last_words() if line.strip()]
        ending = replace(ending, log_tail=(*ending.log_tail, *(f"{launcher.title}: {line}" for line in words)))
        if failed and not ending.failures and ending.outcome == "ok":
            why = f"{launcher.title} on {launcher.host.name}: {_telling(words)}"
            return replace(ending, outcome="failed", reason=why)
        return ending

    def cancel(self) -> None:
        for session in self._sessions:
            session.hang_up()
        deadline = time.monotonic() + HANG_UP_S
        for session in self._sessions:
            session.close(deadline)


def _telling(words: Sequence[str]) -> str:
    """The line that says most, in the order of what may be said."""
    for mark in ("verification failed", "denied", "ssh:", "Error", "error"):
        found = next((line.strip() for line in words if mark in line), None)
        if found is not None:
            return found
    return words[-1].strip() if words else "ended without a word"
