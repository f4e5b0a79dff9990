"""Flags of cells and fits with their meaning and remedy, those of :mod:`reports.analysis.conditions` included."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from bench.core.case import Case
from bench.core.records import Link, Trial
from bench.core.same_work import SameWork
from bench.plugins.backend import FLOAT32_TOLERANCE
from reports.analysis.nccl_paths import is_over_sockets, is_without_p2p, nccl_of

MIN_TRIALS = 3
LOOSE_TOLERANCE = 1.1 * FLOAT32_TOLERANCE.value
"""Float32's own rounding adds less than a tenth."""
SCALING_TOLERANCE = 0.05
"""By how much the work of a step may differ from what the kind of scaling says: a last batch may be a small one."""
FULL_RATE_SHARE = 0.9
"""Links that carry a smaller share of their configured rate are flagged. A full one carries 0.956 in payload."""
NO_SCALING_CLAIM: dict[str, str] = {
    "oversubscribed": "have more threads than there are cores",
    "shared_gpu": "share GPUs",
}
"""Flags of cells that feed no scaling claim, and what their ranks share that each would have of its own elsewhere."""
FLAG_MEANINGS: dict[str, tuple[str, str]] = {
    "oversubscribed": (
        "more threads than cores, so that ranks waited for each other's cores",
        "use fewer ranks or threads; the cell feeds no scaling claim",
    ),
    "shared_gpu": (
        "several ranks computed on one GPU, one after the other or side by side",
        "use as many GPUs as ranks; the cell feeds no scaling claim",
    ),
    "emulated_compute": (
        "the compute is a wait of a stated length; the exchange is real",
        "compare emulated numbers with each other only",
    ),
    "stand_in_data": (
        "the samples are stand-in data, not the data set of the workload",
        "give a folder with the real data: for mnist, --set mnist.data=FOLDER",
    ),
    "other_machinery": (
        "this backend implements the same work differently from the others",
        "compare the implementations as a whole, not their exchange",
    ),
    "other_scaling": (
        "the samples of the program's step do not grow with its ranks as this kind of scaling says",
        "--scaling weak where each rank has a batch of its own, strong where ranks share a fixed one",
    ),
    "no_baseline": (
        "no measurement at 1 rank: speed-up and efficiency start from the smallest rank count",
        "add 1 to --ranks",
    ),
    "imprecise": (
        "the interval is wider than the requested precision, and the budget is used up",
        "raise --budget, or reduce other load on the machine",
    ),
    "few_trials": ("fewer than 3 trials: the interval is wide or missing", "raise --repeats"),
    "settled": (
        "fewer than 3 trials: `--until decided` needed no more; the cell's own interval is wide or missing",
        "sweep without --until decided",
    ),
    "loose_tolerance": (
        "same work is judged with a looser tolerance than float32's",
        "read the tolerance in the same-work table",
    ),
    "slow_links": (
        "the links between ranks carried less than 90 % of their rate: this machine is the bottleneck, not the links",
        "see the achieved rate under Provenance; choose a lower rate",
    ),
    "injected": ("a fault was injected on purpose", "leave out --inject; the cell is never a baseline"),
    "never_settled": (
        "step times had not settled when the measured window began",
        "raise --warmup, or find what disturbs the steps",
    ),
    "taken_again": (
        "the machine or a rank was suspended during an earlier attempt at a trial, which was discarded",
        "let sweeps run without a break; the number itself is not affected",
    ),
    "measured_later": (
        "measured after all rounds of the other cells, since its backend was compiled first: a drift of the machine in "
        "between is part of its ratio to them",
        "measure again: it runs in shuffled rounds with the others now",
    ),
    "noisy_log": (
        "a process printed more than 16 MiB, of which the end was kept",
        "print less: it takes time within the measured steps",
    ),
    "cpu_steal": ("the hypervisor gave CPU time to other machines", "measure on a dedicated host, or at another time"),
    "shared_cores": (
        "nodes turned out to be one machine, and their ranks were pinned to the same cores",
        "place each node on a machine of its own, give each a CPU set, or set affinity = none",
    ),
    "shared_machine": (
        "another sweep measured on the same cores meanwhile, since --shared waits for nobody",
        "leave --shared out: sweeps of one machine take turns, a trial each",
    ),
    "throttled": (
        "the CPU quota of the job was used up, and its threads were stopped until the next period",
        "raise the quota (docker --cpus, Kubernetes' limits.cpu), or use fewer ranks or threads",
    ),
    "host_load": ("other processes used the cores", "free the cores, or measure later"),
    "cpu_clock_moved": ("the cores' clock changed within the window", "fix the clock, or let the machine cool down"),
    "swapping": ("memory was swapped; above 1 MiB/s the trial is invalid", "use a smaller batch or model"),
    "not_measured": (
        "a measurement after the window failed; the number stands, and that part is missing",
        "see the reason; decompose, own_cost and roofline = false in a suite leave these measurements out",
    ),
    "not_sampled": (
        "the sampler did not observe the whole window: whether something disturbed the trial is unknown, and so is "
        "what it used",
        "see the reason; measure again where nothing ends or stops the sampler",
    ),
    "replayed": (
        "readings of devices, and energy, are those of a recording: of another machine, or another time",
        "leave --telemetry replay: out to sample this machine",
    ),
    "left_running": (
        "processes that a rank had started left its session and outlived it; they were ended with the trial",
        "end them in the workload; the number itself is not affected",
    ),
    "own_threads": (
        "a program computed with another number of threads than its launcher gave it",
        "compare rank counts at the same number of threads: give the program an argument for it, or --threads",
    ),
    "had_to_be_ended": (
        "a program that was stopped after its window did not end by itself",
        "the number itself is not affected; see what the program does on SystemExit",
    ),
    "ranks_apart": (
        "ranks of a program trained each by itself: without a process group of torch.distributed, Horovod or mpi4py",
        "start it by the launcher whose variables it reads (--launcher torchrun, horovod or mpi)",
    ),
    "energy_aliased": (
        "a step is about as long as a multiple or a fraction of the interval at which the GPU's energy counter samples "
        "the power: the energy of a trial depends on when its steps began, by up to 30 % where a step is idle for half "
        "of its time; its interval allows for that",
        "raise --repeats, or change the length of a step by a few percent (--batch); the other numbers are not "
        "affected",
    ),
    "gpu_draws": (
        "a program that draws on a display used the GPUs a little",
        "measure without a display, or on a GPU that has none",
    ),
    "nccl_without_p2p": (
        "GPUs of one node exchanged through the host's memory or the network, past NVLink and PCIe",
        "see `nvidia-smi topo -m`; look for NCCL_P2P_DISABLE or NCCL_P2P_LEVEL, containers that see one GPU each, and "
        "PCIe access control (ACS)",
    ),
    "nccl_over_sockets": (
        "NCCL exchanged between nodes over TCP, not by RDMA",
        "look for NCCL_IB_DISABLE, for the network card in `ibv_devinfo`, and for the network's NCCL plugin",
    ),
    "foreign_gpu_process": ("other processes computed on the GPUs: the trial is invalid", "use the GPUs exclusively"),
    "gpu_thermal_throttling": ("a GPU slowed down by heat: the trial is invalid", "improve the cooling"),
    "gpu_power_brake": ("a GPU's power supply slowed it down: the trial is invalid", "check the power supply"),
    # Of sweeps of before: it is a reading, the share of the window.
    "gpu_power_capped": ("a GPU ran at its power limit", "compare it with runs at the same limit only"),
    "gpu_xid": ("a GPU reported an error: the trial is invalid", "look up the Xid in the kernel log"),
    "gpu_memory_errors": (
        "a GPU's memory had uncorrectable errors: the trial is invalid",
        "replace the GPU",
    ),
    "gpu_clock_moved": ("a GPU's clock changed within the window", "lock it with nvidia-smi --lock-gpu-clocks"),
    "superlinear": (
        "more than proportional throughput: caching or an unfair baseline",
        "compare weak scaling, or measure the smallest rank count again",
    ),
    "retrograde": (
        "more ranks gave less throughput",
        "use the rank count of the peak, or see what limits the curve there",
    ),
    "misfit": (
        "poor fit: the points do not follow the fitted law, as under a hard ceiling",
        "use the points, not the law; look for a shared limit",
    ),
    "at_bound": ("a fitted parameter ended at a bound of its range", "measure more rank counts"),
    "extrapolated_peak": (
        "the peak is extrapolated beyond the measured rank counts",
        "measure at the peak",
    ),
    "outlier": ("one rank count is far off a fit to the others", "measure that rank count again"),
    "few_points": ("few rank counts for the parameters of the law", "measure at least 6 rank counts"),
    "too_few_points": ("too few rank counts for any scaling law", "measure at least 3 rank counts, 4 for USL"),
    "no_law": (
        "no scaling law is within 20 % of every measured rank count: nothing is predicted",
        "measure the rank count that is named again; look for what changes there",
    ),
    "unproven": (
        "the same-work check was switched off, the model is random in evaluation mode too, or a program did not report "
        "its losses",
        "read the reason in the same-work table",
    ),
}


def claim_problem(flags: Collection[str]) -> str | None:
    """The flag for which a cell feeds no scaling claim; ``None``: it may feed one."""
    return next((flag for flag in NO_SCALING_CLAIM if flag in flags), None)


def remedy(flag: str) -> str:
    """What to do about a flag; empty for an unknown one."""
    return FLAG_MEANINGS.get(flag, ("", ""))[1]


def explain_flag(flag: str) -> str:
    """The meaning of a flag and its remedy, in one line; the flag itself where it is unknown."""
    meaning, action = FLAG_MEANINGS.get(flag, ("", ""))
    return f"{meaning}; {action}" if meaning else flag


def trial_flags(good: Sequence[Trial]) -> tuple[str, ...]:
    """What the records of a case's successful trials add to its flags."""
    nccl, _ = nccl_of(good)
    found = {
        "nccl_without_p2p": nccl is not None and is_without_p2p(nccl),
        "nccl_over_sockets": nccl is not None and is_over_sockets(nccl),
        "never_settled": any(record.settled is False for trial in good for record in trial.ranks),
    }
    return tuple(name for name, holds in found.items() if holds)


def cell_flags(
    case: Case,
    good: int,
    baseline: Case | None,
    proof: SameWork | None,
    machinery: str | None,
    link: Link | None,
    *,
    collective: bool,
) -> tuple[str, ...]:
    """The flags of a cell: those of its case, and what its trials add; :func:`trial_flags` come after them.

    Args:
        case: of the cell.
        good: the number of its successful trials.
        baseline: the case that its speed-up starts from.
        proof: the same-work verdict that counts for the cell.
        machinery: how its backend's implementation differs from the others'.
        link: the slowest links that joined its ranks.
        collective: whether they measured a collective alone.
    """
    extra = {
        "stand_in_data": case.data is not None and case.data.stands_for is not None,
        "other_machinery": machinery is not None,
        "no_baseline": baseline is not None and baseline.ranks > 1 and not collective,
        "few_trials": good < MIN_TRIALS,
        "loose_tolerance": proof is not None and (proof.tolerance or 0) > LOOSE_TOLERANCE,
        "unproven": proof is not None and proof.verdict == "unproven",
        "slow_links": link is not None and link.achieved_bytes_s < FULL_RATE_SHARE * (link.wanted_bytes_s or 0),
    }
    return (*case.flags, *(name for name, holds in extra.items() if holds))


def is_other_scaling(case: Case, amount: float, base: Case, base_amount: float) -> bool:
    """Whether the work of a step does not grow with the ranks as a case says (pure): a program divides it by itself.

    Args:
        case: a case.
        amount: the work of one of its steps, of all ranks together.
        base: the case of its curve that speed-up starts from.
        base_amount: the same of that one.
    """
    expected = case.ranks / base.ranks if case.scaling == "weak" else 1.0
    return abs(amount / base_amount / expected - 1) > SCALING_TOLERANCE
