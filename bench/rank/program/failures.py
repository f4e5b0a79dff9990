"""What a program did that gives no number, each in one line with a remedy (pure)."""

from __future__ import annotations

import shlex

from bench.core.text import one_line

MAX_LAST_LINE = 200


class ProgramProblem(BaseException):
    """The program can't be measured. The text is one line: what it did, and the remedy. A program that catches every
    ``Exception`` does not catch it."""


def never_imported_torch(name: str) -> str:
    return (
        f"{name} ended without importing torch, so that no step of it was seen; for a program of another framework, "
        "--metric REGEX finds the rate that it prints"
    )


def never_stepped(name: str, metric: str) -> str:
    if metric:
        return f"{name} ended without an optimizer step, and {_no_match(metric)}"
    return (
        f"{name} ended without an optimizer step in the process of its rank; a program that starts its own processes "
        "to train has to leave that to the launcher, and one that trains without torch.optim needs --metric REGEX"
    )


def never_printed(name: str, metric: str) -> str:
    """No rank has printed a value in its window."""
    return (
        f"{name}: in the measured window {_no_match(metric)}; where it prints more rarely, measure longer (--window, "
        "--steps, --whole)"
    )


def printed_by_some(name: str, metric: str, rank: int) -> str:
    """Some ranks have printed values of one rank, and others none."""
    return f"{name}: on rank {rank} {_no_match(metric)}: where one rank prints for all, add --metric-scope total"


def printed_no_rate(name: str, metric: str, rank: int, value: float) -> str:
    """A rank has printed a value in its window that is not above zero, over which no mean is taken."""
    return (
        f"{name}: in the measured window rank {rank} printed {value:g} for --metric {_pattern(metric)}, and a rate is "
        "above 0: choose a pattern that leaves such lines out"
    )


def _no_match(metric: str) -> str:
    return f"no line of its output matches --metric {_pattern(metric)}"


def _pattern(metric: str) -> str:
    return one_line(shlex.quote(metric), MAX_LAST_LINE)


def not_measured(name: str, problem: str) -> str:
    """A defect of this project."""
    return f"{name} could not be measured, which is no fault of its own: {one_line(problem, MAX_LAST_LINE)}"


def too_few_steps(name: str, steps: int, needed: int, warmup: int) -> str:
    """The program ended before its window was full.

    Args:
        name: Of its script.
        steps: How many steps it took.
        needed: About how many it had to take.
        warmup: How many of these are warm-up.
    """
    fits = steps - warmup
    remedy = f"give it more steps, or measure fewer (--steps {fits})" if fits > 0 else "give it more steps"
    return (
        f"{name} ended by itself after {steps} step{'s' if steps != 1 else ''}, and its window needs about {needed} "
        f"({warmup} of them warm-up): {remedy}, or let it end by itself (--whole)"
    )


def nothing_counted(name: str) -> str:
    return (
        f"{name}: how much it processes in a step is not known, since it takes its batches from no torch DataLoader: "
        "add --samples-per-step N (of all ranks) or N/rank, or --metric REGEX for the rate that it prints"
    )


def no_tokens_counted(name: str) -> str:
    return (
        f"{name}: its batches hold no tensor of integers with two dimensions, so that no tokens are counted: "
        "add --samples-per-step N (tokens of all ranks) or N/rank, or another --unit"
    )


def exited(name: str, status: int, last_line: str, steps: int) -> str:
    """The program ended with an exit status that says that it failed."""
    where = f" after {steps} steps" if steps else ""
    text = one_line(last_line, MAX_LAST_LINE)
    return f"{name} exited with status {status}{where}" + (f": {text}" if text else "")


def ended_at_once(name: str, status: int, steps: int) -> str:
    """The program called ``os._exit``."""
    return f"{name} called os._exit({status}) after {steps} steps, before its window was full"


def too_many_ranks(name: str, asked: int, given: int) -> str:
    return (
        f"{name} asks torch.distributed for {asked} ranks, and {given} run: start it with --ranks {asked}, or let it "
        "take the number from WORLD_SIZE"
    )


def no_agreement(name: str) -> str:
    return (
        f"{name} has no torch.distributed process group, by which the ranks of several nodes would agree on the "
        "window: give its length in steps (--steps N)"
    )
