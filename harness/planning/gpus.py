"""What the GPUs of a site allow: how many ranks they hold, and over which transports ranks may share one."""

from __future__ import annotations

from bench.core.case import Case
from bench.plugins.backend import Backend
from harness.planning.placements import Machine
from harness.planning.suite import Suite

NCCL = "nccl"
SHARING_TRANSPORT = "gloo"


def idle_gpus_problem(suite: Suite, machine: Machine) -> str | None:
    """Why the GPUs of a machine are not used though nobody chose the device, or ``None``."""
    if suite.device != "auto" or not machine.gpus or machine.cuda_torch:
        return None
    there = f"{machine.gpus} GPU{'s are' if machine.gpus > 1 else ' is'} there"
    return f"cells run on CPUs: {there}, but torch is not a CUDA build; install one, or --device cpu"


def ranks_on_a_machine(case: Case, machine: Machine) -> int:
    """The most ranks of a case on one machine: nodes of a single machine share its cores and GPUs."""
    return case.ranks_on_a_node if machine.multi_node else case.ranks


def shares_gpus(case: Case, machine: Machine) -> bool:
    """Whether several ranks of a case compute on one GPU."""
    return case.device == "cuda" and min(case.ranks_per_gpu, ranks_on_a_machine(case, machine)) > 1


def sharing_refused(case: Case, backend: Backend, machine: Machine) -> str | None:
    """Why ranks of the case can't share a GPU on any machine, with the remedy, or ``None``.

    NCCL refuses a second rank on a GPU when the ranks join: torch reports "Duplicate GPU detected", Horovod "invalid
    usage".
    """
    if not shares_gpus(case, machine):
        return None
    one_each = f"--set site.{machine.site}.ranks_per_gpu=1"
    if backend.starts_programs:
        return f"a program chooses its GPU by itself, which ranks_per_gpu does not change: {one_each}"
    if case.transport == NCCL:
        over_gloo = _gloo_setting(case, backend)
        return f"NCCL takes one rank a GPU, not {case.ranks_per_gpu}: {' '.join(over_gloo or [one_each])}"
    return None


def too_few_gpus(case: Case, backend: Backend, machine: Machine) -> str | None:
    """Why the GPUs of a machine don't suffice for a case, with the remedy, or ``None``: they do, or are not known."""
    if case.device == "cpu" or machine.gpus is None:
        return None
    if not machine.cuda_torch:
        return "torch is not a CUDA build; install one, or --device cpu"
    if machine.gpus == 0:
        return "no GPU was found: `doctor` says what was looked for; mend that, or --device cpu"
    ranks = ranks_on_a_machine(case, machine)
    needed = -(-ranks // case.ranks_per_gpu)
    if needed <= machine.gpus:
        return None
    shared = f", {case.ranks_per_gpu} a GPU," if case.ranks_per_gpu > 1 else ""
    remedies = ["use fewer ranks", "--device cpu"]
    over_gloo = _gloo_setting(case, backend)
    if over_gloo is not None and not backend.starts_programs:
        width = -(-ranks // machine.gpus)
        settings = [f"--set site.{machine.site}.ranks_per_gpu={width}", *over_gloo]
        remedies.insert(1, f"let {width} share a GPU ({' '.join(settings)})")
    return (
        f"{ranks} ranks{shared} need {needed} GPUs, {machine.gpus} found; {', '.join(remedies[:-1])} or {remedies[-1]}"
    )


def _gloo_setting(case: Case, backend: Backend) -> list[str] | None:
    """The setting by which the ranks exchange over gloo, if it takes one; ``None`` where the backend can't on GPUs."""
    if SHARING_TRANSPORT not in backend.transports.get("cuda", ()):
        return None
    return [] if case.transport == SHARING_TRANSPORT else [f"--set {backend.name}.transport={SHARING_TRANSPORT}"]
