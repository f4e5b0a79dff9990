"""What all launchers share: which of them starts a case's ranks, and the command of one process of a trial.

Launchers, sites and backends are independent of each other: a backend's :class:`~bench.core.case.Role` says how its
processes may be started, a site says which launchers it has, and :func:`choose_launcher` decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.core.case import ANY_TRANSPORT, Case, Role

AGENT = "agent"
"""The node agents themselves: each starts the processes of its node."""
MPI_LAUNCHERS = ("mpirun", "srun")
"""Those that tell each process its place in MPI's world."""
LAUNCHERS = (AGENT, "torchrun", "horovodrun", *MPI_LAUNCHERS)
"""All launchers, the first choice first."""
WORKER_MODULE = "bench.rank.worker"


def worker_arguments(case_file: str, folder: str, role: str = "rank") -> tuple[str, ...]:
    """The arguments of :mod:`bench.rank.worker` (pure).

    Args:
        case_file: The file with the case as JSON.
        folder: Where the process leaves its record and its failure.
        role: The name of the role that the process plays.
    """
    return ("--case", case_file, "--role", role, "--out", folder)


def worker_command(python: str, case_file: str, folder: str, role: str = "rank") -> tuple[str, ...]:
    """The argument list that starts :mod:`bench.rank.worker` under the interpreter ``python`` (pure)."""
    return (python, "-m", WORKER_MODULE, *worker_arguments(case_file, folder, role))


def choose_launcher(roles: Sequence[Role], available: Sequence[str], preferred: str | None = None) -> str | None:
    """The launcher that starts the ranks of a case (pure).

    Args:
        roles: What the case's backend needs.
        available: The names of the launchers that a site has.
        preferred: The launcher to take where it can start the roles; else :data:`AGENT` where that can.

    Returns:
        A name of ``available``, or ``None`` where the site has no launcher that can start all roles.
    """
    usable = [name for name in _suitable_launchers(roles) if name in available]
    return preferred if preferred in usable else next(iter(usable), None)


def launch_unavailable_reason(
    case: Case,
    roles: Sequence[Role],
    available: Sequence[str],
    reason_against: Callable[[str], str | None] = lambda launcher: None,
) -> str | None:
    """Why a site can't start the roles of a case, with the remedy, or ``None`` (pure but for ``reason_against``).

    Args:
        case: The case; its site may join network namespaces of one machine (``case.net``).
        roles: What the case's backend needs.
        available: The names of the launchers that the site has.
        reason_against: Why the site can't use a launcher at present; asked for the one that the case takes.
    """
    other_transport = f"choose another transport (--set {case.backend}.transport=…)"
    if case.transport == ANY_TRANSPORT:
        other_transport = "choose another --launcher"
    launcher = choose_launcher(roles, available)
    if launcher is None:
        needed = " or ".join(_suitable_launchers(roles))
        return f"its ranks are started by {needed}, which site {case.site} does not have: {other_transport}"
    if case.net is not None and launcher != AGENT:
        return f"{launcher} starts all its ranks in one network namespace: {other_transport}, or leave --net out"
    if case.net is not None and any(role.bypasses_network for role in roles):
        return (
            f"{case.transport} joins the GPUs of one machine without its network: leave --net out, "
            f"or {other_transport}, or --device cpu"
        )
    return reason_against(launcher)


def _suitable_launchers(roles: Sequence[Role]) -> list[str]:
    """The launchers that can start every role, the first choice first. Observers are always started by agents."""
    sets = [_launchers_of(role) for role in roles if not role.observer]
    return [name for name in LAUNCHERS if all(name in names for names in sets)]


def _launchers_of(role: Role) -> tuple[str, ...]:
    return MPI_LAUNCHERS if role.fanout == "mpi" else (AGENT, *role.launchers)
