"""What is worth knowing beside a number, as names with what was seen and what to do."""

from __future__ import annotations

FLAG_MEANINGS: dict[str, tuple[str, str]] = {
    "oversubscribed": (
        "more threads than cores: ranks waited for each other's cores",
        "use fewer ranks or threads; it feeds no scaling claim",
    ),
    "emulated_compute": (
        "the compute is a wait of a stated length, the exchange is real",
        "compare it with other emulated numbers only",
    ),
    "stand_in_data": (
        "the samples are a stand-in, not the data the workload is named after",
        "name a folder with the real data: for mnist, --set mnist.data=FOLDER",
    ),
    "other_machinery": (
        "this backend does the same work by other means than the rest",
        "compare the means, not the exchange",
    ),
    "no_baseline": (
        "no measurement at 1 rank: speed-up and efficiency start from the smallest rank count",
        "add 1 to --ranks",
    ),
    "imprecise": (
        "the interval is wider than the precision asked for, and the budget is spent",
        "raise --budget, or quieten the machine",
    ),
    "few_trials": ("fewer than 3 trials: the interval is wide or missing", "raise --repeats"),
    "loose_tolerance": (
        "same work is judged with a looser tolerance than float32's",
        "read the tolerance in the same-work table",
    ),
    "slow_links": (
        "the links between ranks carried less than 90 % of their rate: this machine is the bottleneck, not they",
        "read the rate that was achieved under Provenance; ask for a lower one",
    ),
    "injected": ("a fault was injected on purpose", "leave --inject out; it is never a baseline"),
    "never_settled": (
        "step times had not settled when the measured window began",
        "give --warmup more steps, or look for what disturbs them",
    ),
    "cpu_steal": ("the hypervisor gave cores to other machines", "measure on a host of your own, or at another time"),
    "host_load": ("other processes used the cores", "end them, or measure at another time"),
    "cpu_clock_moved": ("the cores' clock changed within the window", "fix the clock, or let the machine cool down"),
    "swapping": ("memory went to disk and back; much of it makes the trial invalid", "use a smaller batch or model"),
    "foreign_gpu_process": ("somebody else computed on the GPUs: the trial is invalid", "have the GPUs to yourself"),
    "gpu_thermal_throttling": ("a GPU slowed down by heat: the trial is invalid", "improve the cooling"),
    "gpu_power_brake": ("a GPU's power supply slowed it down: the trial is invalid", "check the power supply"),
    "gpu_power_capped": ("a GPU ran at its power limit", "compare it with runs at the same limit only"),
    "gpu_xid": ("a GPU reported an error: the trial is invalid", "look the Xid up in the kernel's log"),
    "gpu_memory_errors": (
        "a GPU's memory had errors that could not be corrected: the trial is invalid",
        "retire the GPU",
    ),
    "gpu_clock_moved": ("a GPU's clock changed within the window", "fix it with nvidia-smi --lock-gpu-clocks"),
    "superlinear": (
        "more than proportional throughput: smaller pieces fit into a cache, or the baseline is unfair",
        "compare weak scaling, or measure the smallest rank count again",
    ),
    "retrograde": ("more ranks gave less throughput", "stop at the peak, or look at what limits the curve there"),
    "misfit": (
        "the points follow another law than the fitted one, such as a hard ceiling",
        "read the points, not the law; look for a shared limit",
    ),
    "at_bound": ("a fitted parameter ended at the edge of what it may be", "measure more rank counts"),
    "extrapolated_peak": (
        "the peak lies beyond what was measured",
        "measure there before you believe it",
    ),
    "outlier": ("one rank count is far from where the others say it should be", "measure that rank count again"),
    "few_points": ("as many parameters as there is evidence for", "measure at least 6 rank counts"),
    "too_few_points": ("too few rank counts for any law", "measure at least 3 rank counts, 4 for USL"),
    "unproven": ("the same-work check was switched off", "set verify_steps above 0"),
}


def remedy(flag: str) -> str:
    """What to do about it."""
    return FLAG_MEANINGS.get(flag, ("", ""))[1]


def explain_flag(flag: str) -> str:
    """The flag as a sentence: what was seen; what to do."""
    seen, remedy = FLAG_MEANINGS.get(flag, ("", ""))
    return f"{seen}; {remedy}" if seen else flag
