"""The ranks of a trial as tasks of a Dask cluster: submitted to chosen workers, watched, cancelled.

It serves a cluster that is the trial's own (:mod:`bench.backends.dask.backend`) and one that exists
(:mod:`bench.dask_cluster`). A task leaves the record of its rank in a folder, as a rank in a process of its own does;
its result is a truth value, so that no record travels through Dask.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.backends.dask.exchange import ExchangeClosed, submit_exchange_graphs
from bench.core.case import Case
from bench.core.frozen_model import FrozenModel, write_model
from bench.core.rank_info import RankInfo
from bench.core.records import RankFailure
from bench.host.network import free_port


class RankTask(FrozenModel):
    """What one task runs: one rank in a thread of its worker, or all ranks of a node as processes beside it."""

    case: Case
    trial: str
    """A name that no other trial on the cluster has; empty where the cluster is the trial's own."""
    number: int
    """Of the rank, or of the node."""
    rendezvous_host: str
    rendezvous_port: int
    workers: tuple[str, ...]
    """Addresses of all workers that the trial may use."""
    holders: tuple[int, ...] = ()
    """Process ids of the workers on its host that hold the node's ranks, which are processes beside them."""
    folder: str | None = None
    """Where ranks write their files; ``None``: a folder of the trial's among the host's temporary files."""


def measure_in_thread(rank_task: RankTask, me: RankInfo, folder: Path) -> bool:
    """Run one rank in this thread of a worker.

    It writes ``record-<rank>.json`` or ``failure-rank-<rank>.json`` to ``folder``, or neither where the exchange was
    closed from outside.

    Returns:
        Whether it did not fail.
    """
    from bench.rank.worker import describe_failure, measure_rank, write_failure

    failures: list[RankFailure] = []
    try:
        record = measure_rank(rank_task.case, me, folder, failures.append)
        write_model(folder, f"record-{me.rank}.json", record)
    except ExchangeClosed:
        return True
    except (Exception, SystemExit) as problem:
        # An exit would end the worker, which need not be ours.
        failure = failures[0] if failures else describe_failure("rank", me.rank, problem)
        write_failure(folder, failure)
        return False
    return True


class RankTasks:
    """The tasks of one trial on a cluster.

    Args:
        client: A synchronous client of the cluster.
        case: What is measured.
        trial: See :attr:`RankTask.trial`.
        exchange_context: Entered by the thread that submits the graphs of the exchange.
    """

    def __init__(
        self,
        client: Any,
        case: Case,
        trial: str = "",
        exchange_context: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.client, self.case, self.trial, self.exchange_context = client, case, trial, exchange_context
        self.futures: list[Any] = []
        self.exchange_problem: BaseException | None = None
        """Why the exchange could not be submitted."""
        self._exchange: list[Any] = []
        self._succeeded: dict[int, bool] = {}
        self._cancelled = False
        self._changed = threading.Event()

    def submit(
        self,
        run: Callable[[str], bool],
        task_workers: Sequence[str],
        workers: Sequence[str] | None = None,
        folder: Path | None = None,
        holders: Sequence[Sequence[int]] = (),
    ) -> None:
        """Submit one task to each of the given workers. Ranks meet at a free port of the first worker's host.

        Args:
            run: What a task runs, with its :class:`RankTask` as JSON text; returns whether its ranks did not fail.
            task_workers: Address of the worker of each task, by the task's number.
            workers: Addresses of all workers that the trial may use; ``None``: those of the tasks.
            folder: See :attr:`RankTask.folder`.
            holders: See :attr:`RankTask.holders`, by the task's number; empty where ranks are in workers.
        """
        workers = task_workers if workers is None else workers
        host = urlsplit(workers[0]).hostname or ""
        port = self.client.run(free_port, host, workers=[workers[0]])[workers[0]]
        for number, address in enumerate(task_workers):
            rank_task = RankTask(
                case=self.case,
                trial=self.trial,
                number=number,
                rendezvous_host=host,
                rendezvous_port=port,
                workers=tuple(workers),
                holders=tuple(holders[number]) if holders else (),
                folder=None if folder is None else str(folder),
            )
            future = self.client.submit(
                run,
                rank_task.model_dump_json(),
                key=f"{self.trial}-{run.__name__}-{number}",
                pure=False,
                workers=[address],
                allow_other_workers=False,
            )
            future.add_done_callback(lambda _: self._changed.set())
            self.futures.append(future)

    def submit_exchange(self, addresses: Sequence[str], mode: str) -> None:
        """Keep the graphs of the exchange ahead of the ranks, in a thread that ends with them.

        Args:
            addresses: Address of each rank's worker, by rank.
            mode: How arrays travel: ``stream``, ``direct`` or ``sharded``.
        """
        threading.Thread(target=self._submit_exchange, args=(addresses, mode), daemon=True).start()

    def _submit_exchange(self, addresses: Sequence[str], mode: str) -> None:
        try:
            with self.exchange_context():
                self._exchange = submit_exchange_graphs(self.client, addresses, mode, self.futures, self.trial)
        except (Exception, asyncio.CancelledError) as problem:
            # Tasks that were cancelled can't be waited for.
            if not self._cancelled:
                self.exchange_problem = problem
                self._changed.set()

    def watch(
        self,
        should_stop: Callable[[], bool] = lambda: False,
        *,
        deadline: float = math.inf,
        interval_s: float | None = None,
    ) -> None:
        """Return when all tasks are done, when ``should_stop()``, or at the deadline.

        Args:
            should_stop: Called whenever a task has ended.
            deadline: On the clock of ``time.monotonic``.
            interval_s: ``should_stop`` is called at least this often.
        """
        while True:
            self._changed.clear()
            left_s = deadline - time.monotonic()
            if not self.pending() or left_s <= 0 or should_stop():
                return
            timeout_s = min(left_s, math.inf if interval_s is None else interval_s)
            self._changed.wait(None if timeout_s == math.inf else timeout_s)

    def pending(self) -> list[int]:
        """Numbers of the tasks that are not done."""
        for number, future in enumerate(self.futures):
            if number not in self._succeeded and future.done():
                self._succeeded[number] = future.status == "finished" and future.result() is True
        return [number for number in range(len(self.futures)) if number not in self._succeeded]

    @property
    def failed(self) -> bool:
        """Whether a task has failed or its worker has, or the exchange could not be submitted."""
        self.pending()
        return self.exchange_problem is not None or not all(self._succeeded.values())

    def cancel(self) -> None:
        """Release all tasks. What runs in a worker's thread goes on until it notices."""
        self._cancelled = True
        exchange = [future for graph in self._exchange for future in graph]
        self.client.cancel([*self.futures, *exchange], force=True)
        self.futures, self._exchange = [], []
