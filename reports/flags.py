"""What is worth knowing beside a number, as names with what was seen and what to do."""

from __future__ import annotations

MEANING: dict[str, tuple[str, str]] = {
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
    "unproven": ("the same-work check was switched off", "set verify_steps above 0"),
}


def explain(flag: str) -> str:
    """The flag as a sentence: what was seen; what to do."""
    seen, remedy = MEANING.get(flag, ("", ""))
    return f"{seen}; {remedy}" if seen else flag
