"""Which processes of a case run on a machine, and the environment of each. All but :func:`read_layout` is pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from bench.core.case import SAMPLER_ROLE, Case, Role, roles_to_start
from bench.host.network import (
    LOOPBACK,
    Interface,
    check_rendezvous_interface,
    select_interface,
    wait_for_hostnames,
)
from bench.node.rendezvous import INTERFACE_VARIABLE, RENDEZVOUS_WAIT_VARIABLE, Rendezvous, read_rendezvous
from bench.plugins.backend import Backend


def required_roles(case: Case, backend: Backend, *, services_provided: bool = False) -> tuple[Role, ...]:
    """The roles whose processes a site starts: those of the backend, and the sampler unless telemetry is off.

    Args:
        case: The case to run.
        backend: The backend that the case names.
        services_provided: Whether the site keeps the services of the backend itself
            (:func:`bench.core.case.roles_to_start`).
    """
    roles = roles_to_start(backend.launch(case), services_provided=services_provided)
    return (*roles, *((SAMPLER_ROLE,) if case.telemetry != "off" else ()))


def interface_environment(interface: Interface) -> dict[str, str]:
    """The variables that restrict Gloo and NCCL to one network interface.

    NCCL reads a bare name as a prefix; ``=`` asks for an exact match.
    """
    return {"GLOO_SOCKET_IFNAME": interface.name, "NCCL_SOCKET_IFNAME": f"={interface.name}"}


class LocalNode(NamedTuple):
    """One node of a trial on this machine: the machine itself, or a network namespace on it."""

    interface: Interface
    """The network interface that its processes communicate over."""
    address: str | None = None
    """Where processes of other nodes reach those of this one; ``None``: at the rendezvous host."""
    namespace: str | None = None
    """The network namespace of its processes, as a path; ``None``: that of the machine."""


@dataclass(frozen=True)
class NodeLayout:
    """How the processes of a case are distributed over the nodes on this machine.

    Processes fill the nodes in order: number ``n`` of a role runs on node ``n // ranks_per_node``.
    """

    rendezvous: Rendezvous
    """The first node on this machine, the number of nodes of the trial, and where rank 0 listens."""
    local_nodes: tuple[LocalNode, ...]
    """The nodes on this machine, numbered from ``rendezvous.node``."""
    ranks_per_node: int
    observer_namespace: str | None = None
    """The network namespace of observers, as a path; ``None``: that of the machine."""

    def process_numbers(self, role: Role) -> tuple[int, ...]:
        """The numbers of a role's processes on this machine. An observer has one process for each agent."""
        if role.observer:
            return (self.rendezvous.node,)
        return tuple(
            number for number in range(role.count) if self._local_index(number) in range(len(self.local_nodes))
        )

    def node_of(self, role: Role, number: int) -> LocalNode:
        """The node that a process runs on."""
        if role.observer:
            return self.local_nodes[0]._replace(namespace=self.observer_namespace)
        return self.local_nodes[self._local_index(number)]

    def environment(self, role: Role, number: int) -> dict[str, str]:
        """The environment variables of one process, by the names that torchrun established.

        ``LOCAL_RANK`` counts the processes of the role on this machine: nodes that are network namespaces share its
        cores and GPUs.
        """
        numbers, node = self.process_numbers(role), self.node_of(role, number)
        return {
            "RANK": str(number),
            "WORLD_SIZE": str(role.count),
            "LOCAL_RANK": str(numbers.index(number)),
            "LOCAL_WORLD_SIZE": str(len(numbers)),
            "MASTER_ADDR": self.rendezvous.rendezvous_host,
            "MASTER_PORT": str(self.rendezvous.rendezvous_port),
            **interface_environment(node.interface),
            **({"OWN_ADDR": node.address} if node.address else {}),
            **role.env,
        }

    def launcher_environment(self, role: Role) -> dict[str, str]:
        """As :meth:`environment`, for a launcher that gives each rank its rank and world size itself."""
        environment = self.environment(role, self.process_numbers(role)[0])
        return {name: value for name, value in environment.items() if "RANK" not in name and "WORLD" not in name}

    def _local_index(self, number: int) -> int:
        # A role may have more processes than the case has ranks: the last node holds the rest.
        node = min(number // self.ranks_per_node, self.rendezvous.nodes - 1)
        return node - self.rendezvous.node


def read_layout(case: Case, env: Mapping[str, str]) -> NodeLayout:
    """The part of a case that this node runs, by the site's environment variables.

    The ranks of a single node meet on its loopback interface, unless another one is named: nobody else has to reach
    them, and the name of a host may stand for a public address.

    Raises:
        RendezvousError: If the environment does not say which node this is.
        InterfaceError: If no network interface reaches the other nodes.
    """
    rendezvous = read_rendezvous(env)
    if rendezvous.nodes == 1 and not env.get(INTERFACE_VARIABLE):
        rendezvous = rendezvous._replace(rendezvous_host=LOOPBACK.address)
    wait_for_hostnames([rendezvous.rendezvous_host], float(env.get(RENDEZVOUS_WAIT_VARIABLE) or 0))
    interface = select_interface(rendezvous.rendezvous_host, rendezvous.nodes, env.get(INTERFACE_VARIABLE) or None)
    if rendezvous.node == 0 and rendezvous.nodes > 1:
        check_rendezvous_interface(interface, rendezvous.rendezvous_host)
    node = LocalNode(interface, interface.address if rendezvous.nodes > 1 else None)
    return NodeLayout(rendezvous, (node,), case.ranks_on_a_node)
