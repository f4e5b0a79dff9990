"""``python -m harness sweep``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from harness.cli.output import JsonOption, StoreOption, command_line, print_json, stderr_console, stdout_console
from harness.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_TRIALS_FAILED, sigterm_as_interrupt
from harness.planning.suite import DEFAULT_SUITE, parse_duration, parse_fault, parse_percent
from harness.sites.base.contract import DEFAULT_SITE
from harness.store.store import DEFAULT_STORE

if TYPE_CHECKING:
    from harness.sweep.pipeline import SweepResult

BROKEN_PLUGIN = "plugin broken"


SWEEP_EXAMPLES = (
    "Examples:\n\n"
    "`python -m harness sweep` — the quick suite, all backends\n\n"
    "`python -m harness sweep --backends ddp,horovod --ranks 1,2 --set horovod.cycle_time_ms=0.1,1`\n\n"
    "`python -m harness sweep --workloads mnist --set mnist.model=cnn --set mnist.eval=true`\n\n"
    "`python -m harness sweep --precision 2% --budget 10m` — repeat until the intervals are that narrow\n\n"
    "`python -m harness sweep --inject slow:rank=1,ms=200` — a straggler, on purpose\n\n"
    "`python -m harness sweep --inject kill:rank=1,step=5` — in the window's 5th step; step=0: before it joins\n\n"
    "`python -m harness sweep emulated --net 100mbit,1gbit,unshaped` — what a slower network would cost\n\n"
    "`python -m harness sweep --site slurm --nodes 1,2,4 --ranks-per-node 2 --set slurm.partition=batch`\n\n"
    "`python -m harness sweep scaling --dry-run`\n\n`python -m harness sweep --resume`"
)


def sweep(
    suite: Annotated[str, typer.Argument(help="A suite's name (see `list`) or a TOML file.")] = DEFAULT_SUITE,
    backends: Annotated[str | None, typer.Option(metavar="A,B", help="Backends to run.")] = None,
    workloads: Annotated[str | None, typer.Option(metavar="A,B", help="Workloads to run.")] = None,
    ranks: Annotated[
        str | None, typer.Option(metavar="1,2,4", help="Rank counts; default 1, 2, 4, … up to the cores.")
    ] = None,
    nodes: Annotated[
        str | None, typer.Option(metavar="1,2,4", help="Full nodes instead of --ranks: ranks = nodes × ranks a node.")
    ] = None,
    ranks_per_node: Annotated[
        str | None, typer.Option(metavar="K,...", help="How many ranks a node holds; default 1 beyond this machine.")
    ] = None,
    scaling: Annotated[str | None, typer.Option(metavar="strong,weak", help="Which scaling to measure.")] = None,
    repeats: Annotated[int | None, typer.Option(help="Trials of each case, in shuffled rounds.")] = None,
    steps: Annotated[int | None, typer.Option(help="Measured steps; default: as many as fill the window.")] = None,
    window: Annotated[float | None, typer.Option(metavar="SECONDS", help="Length of the measured window.")] = None,
    warmup: Annotated[int | None, typer.Option(help="Steps before the measured window.")] = None,
    batch: Annotated[
        int | None, typer.Option(help="Samples a step: of all ranks (strong) or of each rank (weak).")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of each rank, the same at every rank count.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of data, weights and the order of trials.")] = None,
    timeout: Annotated[float | None, typer.Option(metavar="SECONDS", help="Longest time of one trial.")] = None,
    device: Annotated[str | None, typer.Option(metavar="auto|cpu|cuda", help="Where the ranks compute.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="An option of a workload, backend or site; several values sweep it."
        ),
    ] = None,
    precision: Annotated[
        str | None, typer.Option(metavar="2%", help="Repeat rounds until each throughput is known this well.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="10m", help="How long --precision may go on; default 10m.")
    ] = None,
    net: Annotated[
        str | None,
        typer.Option(metavar="1gbit,100mbit,unshaped", help="Ranks in namespaces, joined by links of these rates."),
    ] = None,
    inject: Annotated[
        str | None,
        typer.Option(
            metavar="KIND:rank=R[,step=S][,ms=T]",
            help="Let a rank fail on purpose: kill, stop, raise, slow, oom or exit.",
        ),
    ] = None,
    telemetry: Annotated[
        str | None, typer.Option(metavar="auto|always|off|replay:FILE", help="What is sampled while ranks work.")
    ] = None,
    site: Annotated[str | None, typer.Option(metavar="NAME", help="Where the ranks run; default local.")] = None,
    store: StoreOption = DEFAULT_STORE,
    resume: Annotated[bool, typer.Option("--resume", help="Finish the sweep that was interrupted last.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print cases and skips; run nothing.")] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Where the page goes; default: beside the store.")
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Run a suite and write its report.

    Every case runs as fresh processes, several times, in shuffled rounds; each trial is stored when it ends.
    Before its timed window every training trial proves that it does the work a single process would do.
    """
    from harness.sweep import pipeline

    changes = {
        "backends": _split_names(backends),
        "workloads": _split_names(workloads),
        "ranks": _split_names(ranks),
        "nodes": _split_names(nodes),
        "ranks_per_node": _split_names(ranks_per_node),
        "scaling": _split_names(scaling),
        "repeats": repeats,
        "steps": steps,
        "window_s": window,
        "warmup": warmup,
        "batch": batch,
        "threads": threads,
        "seed": seed,
        "timeout_s": timeout,
        "device": device,
        "net": _split_names(net),
        "precision": None if precision is None else parse_percent(precision),
        "budget_s": None if budget is None else parse_duration(budget),
        "telemetry": telemetry,
        "fault": None if inject is None else parse_fault(inject),
    }
    overrides = {name: value for name, value in changes.items() if value is not None}
    chosen_suite = pipeline.load_suite(suite, overrides, settings)
    if resume and not dry_run:
        has_overrides = bool(overrides or settings or suite != DEFAULT_SUITE)
        with sigterm_as_interrupt():
            return _print_result(
                pipeline.resume(chosen_suite if has_overrides else None, site, store, report, stderr_console),
                as_json=as_json,
            )
    target_site = pipeline.choose_site(site or DEFAULT_SITE, chosen_suite)
    plan = pipeline.plan(chosen_suite, target_site, pipeline.key_locator(suite, overrides, settings))
    _warn_of_broken_plugins()
    if dry_run:
        files = {"files": pipeline.rendered_files(plan, target_site)}
        print_json(plan.model_dump(mode="json") | files) if as_json else pipeline.print_plan(
            plan, target_site, Console()
        )
        return EXIT_OK
    with sigterm_as_interrupt():
        return _print_result(
            pipeline.run(chosen_suite, plan, target_site, store, report, command_line(), stderr_console),
            as_json=as_json,
        )


def _print_result(result: SweepResult, *, as_json: bool) -> int:
    """Print how a sweep ended; returns the exit status."""
    if as_json:
        print_json(result.as_json())
    else:
        result.print(stdout_console())
    if result.interrupted:
        stderr_console.print("interrupted: what had ended is stored and reported; --resume finishes it", style="yellow")
        return EXIT_INTERRUPTED
    failed = any(cell.outcome in ("failed", "timeout", "invalid") for cell in result.cells)
    return EXIT_TRIALS_FAILED if failed else EXIT_OK


def _split_names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())


def _warn_of_broken_plugins() -> None:
    from bench.plugins.registry import load_plugins

    for broken in load_plugins()[2]:
        stderr_console.print(
            f"{BROKEN_PLUGIN}: {broken.kind} {broken.name}: {broken.error}", style="yellow", markup=False
        )
