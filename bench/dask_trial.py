"""One trial on a Dask cluster that is there: places the ranks, waits for them, brings back what they left.

    python -m bench.dask_trial --case case.json --out FOLDER < cluster.json

Standard input begins with the cluster as one line of JSON; then the line ``end`` asks for an orderly end. When it is
closed the harness has gone: this process ends, the scheduler lets go of its tasks, and the workers of what they hold.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.backends.dask import QUIET, is_sharded
from bench.case import Case
from bench.dask_client import Cluster, Unreachable, building_graphs, connect, read_offers, refuse_pickles
from bench.dask_exchange import keep_ahead
from bench.dask_places import NoRoom, Seats, seat
from bench.dask_worker import Errand, clear, end_all, hold_node, hold_rank, look, port_on, still_held
from bench.orders import HarnessHasGone, SystemOrders
from bench.parcel import Unpacker
from bench.progress import read_progress
from bench.scene import NodeEnd, Scene
from bench.value import Value
from bench.worker import write

LOOK_AGAIN_S = 0.05
ASK_AGAIN_S = 0.5
LAST_WORDS_S = 8.0
"""How long those that are left may take to end when one has failed."""
NODES_OWN_WORD_S = 15.0
"""Nodes keep a trial's time themselves: how much later than theirs this side's ends."""
LOG_LINES = 10
FILE = "dask.json"


class TrialEnd(Value):
    """What the client saw besides what the nodes said."""

    problem: str | None = None
    """Why no rank was started, or what of them did not end."""
    log_tail: tuple[str, ...] = ()


class Trial:
    """The ranks of one case on the workers that were chosen for them."""

    def __init__(self, client: Any, case: Case, out: Path, seats: Seats) -> None:
        self.client, self.case, self.out, self.seats = client, case, out, seats
        self.name = secrets.token_hex(8)
        self.by_tasks = case.transport == "tasks"
        self.workers = tuple(offer for mine in seats for offer in mine)
        self.holders = self.workers if self.by_tasks else tuple(mine[0] for mine in seats)
        """The worker of each task: one a rank, or one a node."""
        self.tasks: list[Any] = []
        self.exchange: list[Any] = []
        self.lost: set[str] = set()
        self.failed = False
        self._taken: set[int] = set()

    def start(self) -> None:
        first = self.workers[0].address
        host = urlsplit(first).hostname or ""
        port = self._ask(port_on, host, of=[first])[first]
        hold = hold_rank if self.by_tasks else hold_node
        for number, holder in enumerate(self.holders):
            errand = Errand(
                case=self.case, trial=self.name, number=number, meeting_host=host, meeting_port=port,
                workers=tuple(offer.address for offer in self.workers),
            )  # fmt: skip
            task = self.client.submit(
                hold, errand.model_dump_json(), key=f"{self.name}-{hold.__name__}-{number}", pure=False,
                workers=[holder.address], allow_other_workers=False,
            )  # fmt: skip
            self.tasks.append(task)
        if self.by_tasks:
            threading.Thread(target=self._exchange, daemon=True).start()

    def _exchange(self) -> None:
        addresses = [offer.address for offer in self.workers]
        # It ends with the ranks: when they are cancelled it can't wait for them any more.
        with suppress(Exception, asyncio.CancelledError), building_graphs():
            self.exchange = keep_ahead(self.client, addresses, is_sharded(self.case), self.tasks, self.name)

    def watch(self, orders: SystemOrders) -> Scene:
        """Wait for the ranks; when one has failed, its worker has gone or the time is up, for the others' last words.

        Raises :class:`bench.orders.HarnessHasGone`.
        """
        allowed_s = self.case.timeout_s + (0.0 if self.by_tasks else NODES_OWN_WORD_S)
        self._await(lambda: self.failed or orders.heard(), time.monotonic() + allowed_s)
        late = bool(self._pending())
        stacks = self._stacks() if late else {}
        if late:
            for lines in self._ask(look, self.name, of=self._there()).values():
                self._unpack(lines)
            self._ask(end_all, self.name, of=self._there())
            self._await(lambda: not self._to_be_heard(), time.monotonic() + LAST_WORDS_S)
        scene = Scene(timed_out=late and not self.failed, timeout_s=self.case.timeout_s, stacks=stacks)
        self._speak_for_nodes(scene)
        return scene

    def _await(self, enough: Callable[[], bool], deadline: float) -> None:
        """Until all are done, there is ``enough``, or the time is up."""
        ask_again = time.monotonic() + ASK_AGAIN_S
        while self._pending() and time.monotonic() < deadline and not enough():
            time.sleep(LOOK_AGAIN_S)
            if time.monotonic() >= ask_again:
                there = self.client.nthreads()
                self.lost |= {offer.address for offer in self.workers if offer.address not in there}
                self.failed = self.failed or bool(self.lost)
                ask_again = time.monotonic() + ASK_AGAIN_S

    def _pending(self) -> list[int]:
        """Numbers of the tasks that are not done; what others left is taken."""
        for number, task in enumerate(self.tasks):
            if task.done() and number not in self._taken:
                self._taken.add(number)
                lines = task.result() if task.status == "finished" else []
                self._unpack(lines)
                self.failed = self.failed or not lines or self._ended_badly()
        return [number for number in range(len(self.tasks)) if number not in self._taken]

    def _to_be_heard(self) -> list[int]:
        return [number for number in self._pending() if self.holders[number].address not in self.lost]

    def _ended_badly(self) -> bool:
        ends = [NodeEnd.model_validate_json(path.read_text()) for path in self.out.glob("node-*.json")]
        silent = any(end.scene is None or not end.scene.well for end in ends)
        return silent or any(self.out.glob("failure-*.json"))

    def _unpack(self, lines: Sequence[str]) -> None:
        unpacker = Unpacker(self.out)
        for line in lines:
            unpacker.take(line)

    def _stacks(self) -> dict[str, list[str]]:
        """Of the ranks in workers' threads, the latest call first. Those of ranks in processes come from their node."""
        if not self.by_tasks:
            return {}
        pending = {self.tasks[number].key: number for number in self._to_be_heard()}
        found: dict[str, list[str]] = {}
        for tasks in (self.client.call_stack(keys=list(pending)) if pending else {}).values():
            for key, frames in tasks.items():
                lines = [line for frame in reversed(frames) for line in frame.rstrip().splitlines()]
                found[f"rank {pending[key]}"] = lines
        return found

    def _speak_for_nodes(self, scene: Scene) -> None:
        """Write the last word of nodes that can't speak: ranks in workers' threads have none, and some are lost."""
        for node, mine in enumerate(self.seats):
            facts = mine[0].facts.model_copy(update={"node": node})
            end = NodeEnd(facts=facts, scene=scene, problem=self._loss_on(node))
            if end.problem or self.by_tasks:
                write(self.out, end.file, end)

    def _loss_on(self, node: int) -> str | None:
        """``worker tcp://10.0.0.3:40123 has left the cluster; it held rank 1 in measured step 17``."""
        seen = {one.rank: one.said for one in read_progress(self.out)}
        here = self.case.ranks_on_a_node
        for place, offer in enumerate(self.seats[node]):
            if offer.address not in self.lost:
                continue
            ranks = [node * here + place] if self.by_tasks else list(range(node * here, (node + 1) * here))
            told = ", ".join(f"rank {rank} {seen.get(rank, 'that had not begun')}" for rank in ranks)
            holding = f"; it held {told}" if self.by_tasks or not place else ""
            return f"worker {offer.address} has left the cluster{holding}"
        return None

    def end(self) -> str | None:
        """Release everything; says what has not ended after all."""
        self.client.cancel([*self.tasks, *(one for graph in self.exchange for one in graph)], force=True)
        self.tasks, self.exchange = [], []
        deadline = time.monotonic() + LAST_WORDS_S
        while (left := self._left()) and time.monotonic() < deadline:
            time.sleep(LOOK_AGAIN_S)
        hosts = {offer.facts.host: offer.address for offer in self.workers if offer.address not in self.lost}
        self._ask(clear, self.name, of=list(hosts.values()))
        return f"{left}: restart that worker" if left else None

    def _left(self) -> str:
        found = self._ask(still_held, self.name, of=self._there())
        return next((f"{titles[0]} still runs in worker {address}" for address, titles in found.items() if titles), "")

    def log_tail(self) -> tuple[str, ...]:
        """The last lines of the workers' logs, the oldest first."""
        lines = []
        for address, said in self.client.get_worker_logs(n=LOG_LINES, workers=self._there()).items():
            lines += [f"worker {address}: {line}" for _, text in reversed(said) for line in text.splitlines()]
        return tuple(lines)

    def _there(self) -> list[str]:
        return [offer.address for offer in self.workers if offer.address not in self.lost]

    def _ask(self, function: Callable[..., Any], *arguments: Any, of: Sequence[str]) -> dict[str, Any]:
        """What the workers answer that are still there."""
        if not of:
            return {}
        found: dict[str, Any] = self.client.run(function, *arguments, workers=list(of), on_error="ignore")
        return found


def run(cluster: Cluster, case: Case, out: Path, orders: SystemOrders) -> TrialEnd:
    """Raises :class:`bench.orders.HarnessHasGone`."""
    import dask

    try:
        with dask.config.set(QUIET), connect(cluster) as client:
            trial = Trial(client, case, out, seat(case, read_offers(client)))
            try:
                trial.start()
                scene = trial.watch(orders)
                tail = () if scene.well and not trial.failed else trial.log_tail()
            finally:
                left = trial.end()
            return TrialEnd(problem=left, log_tail=tail)
    except (Unreachable, NoRoom) as problem:
        return TrialEnd(problem=str(problem))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.dask_trial", description=__doc__.splitlines()[0])
    parser.add_argument("--case", type=Path, required=True, help="file with the case as JSON")
    parser.add_argument("--out", type=Path, required=True, help="folder for what the ranks leave")
    chosen = parser.parse_args(arguments)
    orders = SystemOrders(listen=True)
    refuse_pickles()
    try:
        cluster = Cluster.model_validate(orders.first_line())
        end = run(cluster, Case.model_validate_json(chosen.case.read_text()), chosen.out, orders)
    except HarnessHasGone:
        return 1
    write(chosen.out, FILE, end)
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # Dask's helpers are not waited for: all that counts is written by now.
    os._exit(code)
