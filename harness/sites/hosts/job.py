"""A trial on hosts: an agent for each node, and one more ssh session where a launcher starts the ranks."""

from __future__ import annotations

import queue
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from bench.core.case import Case
from bench.node.node_trial import READY_LINE
from bench.node.transfer import TransferReceiver
from bench.node.trial_feed import FedTrial
from harness.sites.base.contract import Job, TrialResult
from harness.sites.base.remote import MARGIN_S, LostNode, gather_result, read_node_reports
from harness.sites.hosts import client
from harness.sites.hosts.agents import KeptAgents, TrialPart
from harness.sites.hosts.hosts_file import Host
from harness.sites.hosts.session import SshSession

FAILURE_GRACE_S = 3.0
"""How long the other nodes may run on after one has failed: their ranks may still report why."""
STOP_GRACE_S = 15.0
"""How long nodes that are asked to end may take for stack dumps and transfers."""
DISCONNECT_GRACE_S = 3.0
NO_ANSWER = "it did not report at the time limit, nor when it was asked to: its agent hangs, or was stopped by a signal"


class HostCommand(NamedTuple):
    """A command for one host.

    Attributes:
        title: The name of its log, without the suffix.
        node: The node whose agent it is; ``None``: it is the launcher.
        host: Where it runs.
        command: The argument list of ssh.
        document: What an agent that outlives the trial is told; ``None``: the command is for this trial alone.
    """

    title: str
    node: int | None
    host: Host
    command: list[str]
    document: FedTrial | None = None


Session = SshSession | TrialPart


class SshJob(Job):
    """The sessions of one trial.

    Args:
        case: The trial's case.
        folder: Receives what the nodes leave.
        host_commands: The command of each node's agent, and that of the launcher, where there is one.
        config: The text of ssh's configuration, for the launcher.
        access: How ssh reaches the hosts, for error messages.
        certificate: That of the trial, which the agents read before the case; ``None``: they need none.
        agents: Those that outlive the trial.
    """

    def __init__(
        self,
        case: Case,
        folder: Path,
        host_commands: Sequence[HostCommand],
        config: str,
        access: client.SshAccess,
        certificate: str | None = None,
        agents: KeptAgents | None = None,
    ) -> None:
        self.agents = agents or KeptAgents()
        self.case, self.folder, self.access, self.config = case, folder, access, config
        self.events: queue.Queue[Session | int] = queue.Queue()
        """Sessions that have ended, and numbers of nodes that are ready for the launcher's ranks."""
        self.nodes: dict[int, Session] = {}
        self.nodes_not_ready = set(range(case.nodes))
        self.launcher_command = next(
            (host_command for host_command in host_commands if host_command.node is None), None
        )
        self.launcher: SshSession | None = None
        self.stopped: set[Session] = set()
        """Those whose ssh was stopped by a signal when the trial ended."""
        messages = [*([certificate] if certificate else []), case.model_dump(mode="json")]
        try:
            for host_command in host_commands:
                if host_command.node is not None:
                    self.nodes[host_command.node] = self._open_node(host_command, messages)
        except BaseException:
            self.cancel()
            raise

    def _open_node(self, host_command: HostCommand, messages: Sequence[Any]) -> Session:
        if host_command.document is None:
            return self._open(host_command, messages)
        agent = self.agents.take(host_command.host, host_command.command)
        return TrialPart(agent, host_command.document, self.folder / f"{host_command.title}.log", self.events.put)

    def _open(self, host_command: HostCommand, messages: Sequence[Any]) -> SshSession:
        receiver, ready = TransferReceiver(self.folder), False

        def take(line: str) -> bool:
            nonlocal ready
            if host_command.node is not None and line.rstrip() == READY_LINE and not ready:
                ready = True
                self.events.put(host_command.node)
                return True
            return receiver.take(line)

        log = self.folder / f"{host_command.title}.log"
        return SshSession(
            host_command.host, host_command.command, log, messages=messages, take=take, ended=self.events.put
        )

    def _node_ready(self, node: int) -> None:
        self.nodes_not_ready.discard(node)
        if not self.nodes_not_ready and self.launcher_command is not None and self.launcher is None:
            self.launcher = self._open(self.launcher_command, [self.config])

    @property
    def _sessions(self) -> list[Session]:
        return [*self.nodes.values(), *((self.launcher,) if self.launcher else ())]

    def wait(self, timeout_s: float) -> TrialResult:
        try:
            # The nodes keep the trial's time and report first.
            timed_out = not self._wait_for_first_end(time.monotonic() + timeout_s + MARGIN_S)
            for session in self._running() if timed_out or self._any_running_after(FAILURE_GRACE_S) else ():
                session.request_end()
            self._any_running_after(STOP_GRACE_S)
        finally:
            self.stopped = {session for session in self._sessions if session.is_stopped}
            self.cancel()
        return self._result(timed_out=timed_out)

    def _running(self) -> list[Session]:
        return [session for session in self.nodes.values() if not session.ended]

    def _answering(self) -> list[Session]:
        return [session for session in self._running() if not session.is_stopped]

    def _wait_for_first_end(self, deadline: float) -> bool:
        """Wait until all nodes have ended or one session has failed; ``False`` where ``deadline`` came first."""
        while self._running():
            try:
                event = self.events.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return False
            if isinstance(event, int):
                self._node_ready(event)
            elif event.status:
                return True
        return True

    def _any_running_after(self, seconds: float) -> bool:
        """Whether a node still runs after so many seconds."""
        deadline = time.monotonic() + seconds
        while self._answering() and (left := deadline - time.monotonic()) > 0:
            with suppress(queue.Empty):
                self.events.get(timeout=left)
        return bool(self._running())

    @property
    def own_logs(self) -> Sequence[Path]:
        return [session.log for session in self._sessions]

    def _result(self, *, timed_out: bool) -> TrialResult:
        reported = read_node_reports(self.folder)
        lost = [
            LostNode(number, session.host.name, self._failure_of(session))
            for number, session in self.nodes.items()
            if number not in reported and (timed_out or not session.was_disconnected)
        ]
        result = gather_result(self.folder, self.case, lost, timed_out=timed_out)
        return result if self.launcher is None or lost else self._with_launcher_output(self.launcher, result)

    def _failure_of(self, session: Session) -> str:
        if session.problem:
            return session.problem
        if session in self.stopped:
            return f"the ssh that reaches it (process {session.process.pid}) was stopped by a signal"
        if session.was_disconnected:
            return NO_ANSWER
        if session.status == client.SSH_FAILED and not client.is_silent(session.output_tail()):
            return client.connection_failure(session.output_tail(), session.host, self.access)
        if session.status == client.SSH_FAILED:
            return "its agent was killed by a signal"
        message = next((line for line in reversed(session.output_tail()) if line.strip()), "no output")
        return f"its agent ended with status {session.status} ({message.strip()})"

    def _with_launcher_output(self, launcher: SshSession, result: TrialResult) -> TrialResult:
        """The result with the launcher's output, whose error is the reason where the ranks report none."""
        failed = bool(launcher.status) and not launcher.was_disconnected
        if result.outcome == "ok" and not failed:
            return result
        lines = [line for line in launcher.output_tail() if line.strip()]
        result = replace(result, log_tail=(*result.log_tail, *(f"{launcher.title}: {line}" for line in lines)))
        if failed and not result.failures and result.outcome == "ok":
            reason = f"{launcher.title} on {launcher.host.name}: {_error_line(lines)}"
            return replace(result, outcome="failed", reason=reason)
        return result

    def cancel(self) -> None:
        for session in self._sessions:
            session.disconnect()
        deadline = time.monotonic() + DISCONNECT_GRACE_S
        for session in self._sessions:
            session.close(deadline)


def _error_line(lines: Sequence[str]) -> str:
    """The line of a launcher's output that most likely gives the reason of its failure (pure)."""
    for mark in ("verification failed", "denied", "ssh:", "Error", "error"):
        line = next((line.strip() for line in lines if mark in line), None)
        if line is not None:
            return line
    return lines[-1].strip() if lines else "ended without output"
