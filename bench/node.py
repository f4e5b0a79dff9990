"""One node of a trial beyond the harness's machine: starts this node's processes, watches them, says how they ended.

    python -m bench.node --case case.json --out FOLDER

The site starts one on each node; :mod:`bench.place` tells which node it is. It leaves what the ranks left, their logs,
and, as its very last act, ``node-<n>.json``. The trial's time is kept here, so that waiting in a queue does not count.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import registry, sampler
from bench.backends import Backend
from bench.case import Case, Role
from bench.crew import Crew, Member, Outsiders
from bench.interfaces import Interface, NoInterface, await_names, insist_on_meeting_at, own_interface
from bench.local import find_mpirun
from bench.machine import read_facts
from bench.nursery import Birth, bear, warm_up
from bench.orders import HarnessHasGone, SystemOrders
from bench.parcel import lines_of
from bench.place import Misplaced, Place, find_place
from bench.scene import TORCHRUN, NodeEnd, Scene
from bench.worker import write
from bench.workloads import DataProblem

INTERFACE = "SCALING_INTERFACE"
READY = "scaling-ready"
"""Said on standard output once the case is where ranks that somebody else starts will read it."""
AWAIT = "SCALING_AWAIT_S"
"""How long node 0 may not be known yet, where nodes are not there all at once."""
PATIENCE_S = 5.0
"""How much later than its ranks' own time a node's ends: the first to notice says more."""


def roles_of(case: Case, backend: Backend) -> tuple[Role, ...]:
    """What the backend needs, and a sampler where the case is to be watched."""
    return (*backend.launch(case), *((sampler.ROLE,) if case.telemetry != "off" else ()))


def numbers_here(role: Role, case: Case, node: int) -> tuple[int, ...]:
    """Which processes of a role run on a node (pure): its share of the ranks, and one observer."""
    if role.observer:
        return (node,)
    return tuple(number for number in range(role.count) if number // case.ranks_on_a_node == node)


def variables(role: Role, number: int, case: Case, place: Place, own: Interface) -> dict[str, str]:
    """The environment of one process (pure), by the names that torchrun made common."""
    here = case.ranks_on_a_node
    return {
        "RANK": str(number),
        "WORLD_SIZE": str(role.count),
        "LOCAL_RANK": str(number % here),
        "LOCAL_WORLD_SIZE": str(min(here, role.count)),
        "MASTER_ADDR": place.meeting_host,
        "MASTER_PORT": str(place.meeting_port),
        **bound_to(own),
        **({"OWN_ADDR": own.address} if place.nodes > 1 else {}),
        **role.env,
    }


def bound_to(own: Interface) -> dict[str, str]:
    """What keeps Gloo and NCCL to an interface (pure). NCCL takes a bare name for the beginning of one."""
    return {"GLOO_SOCKET_IFNAME": own.name, "NCCL_SOCKET_IFNAME": f"={own.name}"}


def torchrun_command(case: Case, place: Place, own: Interface, arguments: Sequence[str]) -> tuple[str, ...]:
    """torchrun's argument list for the ranks of this node (pure). Its static rendezvous exchanges JSON, where
    c10d's would unpickle what anyone wrote into the store; torch binds that store to every interface all the same."""
    return (
        sys.executable, "-m", "torch.distributed.run", "--nnodes", str(place.nodes), "--node-rank", str(place.node),
        "--nproc-per-node", str(case.ranks_on_a_node), "--rdzv-backend", "static",
        "--master-addr", place.meeting_host, "--master-port", str(place.meeting_port), "--local-addr", own.address,
        "-m", "bench.worker", *arguments,
    )  # fmt: skip


class Node:
    """This node's part of a trial."""

    def __init__(self, case: Case, place: Place, own: Interface, out: Path, ranks: str, case_file: Path | None) -> None:
        self.case, self.place, self.own, self.out, self.ranks = case, place, own, out, ranks
        self.awaited = case_file is not None
        self.case_file = case_file or out / f".case-{place.node}.json"
        mine = range(place.node * case.ranks_on_a_node, (place.node + 1) * case.ranks_on_a_node)
        self.crew = Crew(out, Outsiders(out, mine) if ranks == "elsewhere" else None)

    def play(self, orders: SystemOrders) -> Scene:
        """Start what belongs here and watch it to its end. Raises :class:`bench.orders.HarnessHasGone`."""
        self.case_file.write_text(self.case.model_dump_json())
        if self.awaited:
            print(READY, flush=True)
        backend = registry.load_backend(self.case.backend)
        # Ranks that others start import by themselves what they need.
        context = warm_up(backend.preload) if self.ranks == "own" else warm_up((), always=("bench.worker",))
        try:
            for role in roles_of(self.case, backend):
                for member in self._members(context, role):
                    self.crew.members.append(member)
            return self.crew.watch(self.case.timeout_s + (PATIENCE_S if self.place.node else 0), orders)
        finally:
            self.crew.end()
            self.case_file.unlink(missing_ok=True)

    def _members(self, context: Any, role: Role) -> Iterator[Member]:
        if role.name == "rank" and self.ranks == "elsewhere":
            return
        for number in numbers_here(role, self.case, self.place.node):
            log = self.out / f"{role.name}-{number}.log"
            arguments = ("--case", str(self.case_file), "--role", role.name, "--out", str(self.out))
            env: Mapping[str, str] = variables(role, number, self.case, self.place, self.own)
            command: tuple[str, ...] = ()
            launched = role.name == "rank" and self.ranks == TORCHRUN
            if launched:
                command = torchrun_command(self.case, self.place, self.own, arguments)
                env = {**bound_to(self.own), "OWN_ADDR": self.own.address, "OMP_NUM_THREADS": "1"}
            elif role.fanout == "mpi":
                raise Misplaced(f"{self.case.backend} over {self.case.transport}: mpirun starts its ranks, "
                                f"not a node ({find_mpirun() or 'no mpirun here'})")  # fmt: skip
            birth = Birth(log=log, env=env, arguments=arguments, command=command)
            name = TORCHRUN if launched else None
            yield Member(role, number, bear(context, birth, f"{role.name}-{number}"), log, name)
            if launched:
                # It starts the others of this node.
                return


def with_data_here(case: Case) -> Case:
    """The case with its data where this node's ranks can read it: as it was prepared, or prepared again from the same
    source. Raises :class:`DataProblem` where that gives other data."""
    if case.data is None or Path(case.data.path).exists():
        return case
    again = registry.load_workload(case.workload).prepare(case)
    if again is None or again.digest != case.data.digest:
        raise DataProblem(f"{case.data.name} is other data here than on the harness's machine; copy it to "
                          f"{case.data.path}, or name the same files")  # fmt: skip
    return case.model_copy(update={"data": again})


@contextmanager
def made(out: Path, *, fresh: bool) -> Iterator[Path]:
    """The folder for what the ranks leave. ``fresh``: for this trial only, closed to others, gone afterwards.

    Raises ``OSError`` where a fresh one is there already, or can't be made.
    """
    if not fresh:
        out.mkdir(parents=True, exist_ok=True)
        yield out
        return
    out.mkdir(mode=0o700)
    try:
        yield out
    finally:
        shutil.rmtree(out, ignore_errors=True)


def play(
    case: Case, env: Mapping[str, str], out: Path, ranks: str, orders: SystemOrders, case_file: Path | None = None
) -> int:
    """Play this node's part and write its last word; returns the exit status. ``case_file``: where ranks that somebody
    else starts read the case."""
    said = env.get("SCALING_NODE", "0")
    node = int(said) if said.isdigit() else 0
    scene, problem = None, None
    try:
        place = find_place(env)
        node = place.node
        await_names([place.meeting_host], float(env.get(AWAIT) or 0))
        own = own_interface(place.meeting_host, place.nodes, env.get(INTERFACE) or None)
        if place.node == 0 and place.nodes > 1:
            insist_on_meeting_at(own, place.meeting_host)
        scene = Node(with_data_here(case), place, own, out, ranks, case_file).play(orders)
    except HarnessHasGone:
        raise
    except (Misplaced, NoInterface, DataProblem) as trouble:
        problem = str(trouble)
        print(problem, file=sys.stderr, flush=True)
    except Exception as trouble:
        traceback.print_exc()
        problem = traceback.format_exception_only(trouble)[-1].strip()
    end = NodeEnd(facts=read_facts(node), scene=scene, problem=problem)
    write(out, end.file, end)
    return 0 if scene is not None and scene.well else 1


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.node", description=__doc__.splitlines()[0])
    parser.add_argument("--case", type=Path, help="file with the case as JSON; with --stdio it is written there, for "
                        "ranks that somebody else starts")  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="folder for what the ranks leave")
    parser.add_argument("--fresh", action="store_true", help="make that folder for this trial only, closed to others, "
                        "and remove it afterwards")  # fmt: skip
    parser.add_argument("--ranks", choices=("own", TORCHRUN, "elsewhere"), default="own",
                        help="who starts this node's ranks: itself, torchrun, or somebody else")  # fmt: skip
    parser.add_argument("--parcel", action="store_true", help="print what the ranks left, as lines")
    parser.add_argument("--stdio", action="store_true", help="read the case, and orders, from standard input")
    chosen = parser.parse_args(arguments)
    if not chosen.stdio and chosen.case is None:
        parser.error("--case FILE, or --stdio")
    orders = SystemOrders(listen=chosen.stdio)
    try:
        text = json.dumps(orders.first_line()) if chosen.stdio else chosen.case.read_text()
        case_file = chosen.case if chosen.stdio else None
        with made(chosen.out, fresh=chosen.fresh) as out:
            status = play(Case.model_validate_json(text), os.environ, out, chosen.ranks, orders, case_file)
            if chosen.parcel or chosen.stdio:
                for line in lines_of(out):
                    print(line)
                sys.stdout.flush()
    except HarnessHasGone:
        return 1
    return status


if __name__ == "__main__":
    code = main()
    # Frameworks' helpers and the warm parent are not waited for: all that counts is written by now.
    sys.stdout.flush()
    os._exit(code)
