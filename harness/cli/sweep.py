"""The command ``sweep``: plan a suite, run it, and report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.core.text import printable
from harness.cli.output import (
    JsonOption,
    PluginOption,
    StoreOption,
    VerbosityOption,
    command_line,
    log,
    output_path,
    print_json,
    report_lost_outputs,
    stderr_console,
    stdout_console,
)
from harness.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_TRIALS_FAILED
from harness.interrupts import signals_as_interrupts
from harness.planning.flags import parse_duration, parse_fault, parse_percent, split_names
from harness.planning.suite import DEFAULT_SUITE
from harness.planning.variables import parse_variables
from harness.sites.base.contract import DEFAULT_SITE
from harness.store import DEFAULT_STORE
from harness.streams import results

if TYPE_CHECKING:
    from harness.sweep.pipeline import SweepResult
    from harness.sweep.plan import SuiteRequest

EXAMPLES = {
    "sweep": (
        "Examples:\n\n"
        "`python -m harness sweep` — the quick suite, all backends\n\n"
        "`python -m harness sweep --backends ddp,horovod --ranks 1,2 --set backend.horovod.cycle_time_ms=0.1,1`\n\n"
        "`python -m harness sweep --workloads mnist --set workload.mnist.model=cnn --set workload.mnist.eval=true`\n\n"
        "`python -m harness sweep --precision 2% --budget 10m` — repeat until the intervals are that narrow\n\n"
        "`python -m harness sweep --inject slow:rank=1,ms=200` — a straggler, injected\n\n"
        "`python -m harness sweep --inject kill:rank=1,step=5` — in the window's 5th step; step=0: before it joins\n\n"
        "`python -m harness sweep --env OMP_WAIT_POLICY=active,passive` — a variable of the ranks, as an axis\n\n"
        "`python -m harness sweep emulated --net 100mbit,1gbit,unshaped` — the cost of a slower network\n\n"
        "`python -m harness sweep --site slurm --nodes 1,2,4 --ranks-per-node 2 --set site.slurm.partition=batch`\n\n"
        "`python -m harness sweep --plugin my_model.py --workloads my_model` — a workload of your own\n\n"
        "`python -m harness sweep --script 'train.py --batch {batch=32,64}' --ranks 1,2` — a program of your own, "
        "unchanged, as torchrun starts it\n\n"
        "`python -m harness sweep scaling --dry-run`\n\n`python -m harness sweep --resume`"
    )
}

SuiteArgument = Annotated[str, typer.Argument(help="A suite's name (see `list`) or a TOML file.")]
BackendsOption = Annotated[str | None, typer.Option("--backends", metavar="A,B", help="Backends to run.")]
WorkloadsOption = Annotated[str | None, typer.Option("--workloads", metavar="A,B", help="Workloads to run.")]
RanksOption = Annotated[
    str | None, typer.Option("--ranks", metavar="1,2,4", help="Rank counts; default 1, 2, 4, … up to the cores.")
]
NodesOption = Annotated[
    str | None, typer.Option("--nodes", metavar="1,2,4", help="Counts of full nodes instead of --ranks.")
]
RanksPerNodeOption = Annotated[
    str | None,
    typer.Option("--ranks-per-node", metavar="K,...", help="Ranks on a full node; default 1 beyond this machine."),
]
ScalingOption = Annotated[
    str | None, typer.Option("--scaling", metavar="strong,weak", help="Kinds of scaling to measure.")
]
RepeatsOption = Annotated[int | None, typer.Option("--repeats", help="Trials of each case, in shuffled rounds.")]
StepsOption = Annotated[
    int | None, typer.Option("--steps", help="Measured steps; default: as many as fill the window.")
]
WindowOption = Annotated[
    float | None, typer.Option("--window", metavar="SECONDS", help="Length of the measured window: 1, on GPUs 2.")
]
WarmupOption = Annotated[int | None, typer.Option("--warmup", help="Steps before the measured window.")]
BatchOption = Annotated[
    str | None,
    typer.Option(
        "--batch",
        metavar="64,128",
        help="Samples a step: of all ranks (strong) or of each rank (weak). Several sweep it.",
    ),
]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", help="Threads of each rank, the same at every rank count.")
]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Seed of data, weights and the order of trials.")]
TimeoutOption = Annotated[float | None, typer.Option("--timeout", metavar="SECONDS", help="Longest time of one trial.")]
ToleranceOption = Annotated[
    float | None,
    typer.Option("--tolerance", metavar="0.01", help="Largest relative deviation that counts as the same work."),
]
DeviceOption = Annotated[str | None, typer.Option("--device", metavar="auto|cpu|cuda", help="The device of the ranks.")]
PrecisionOption = Annotated[
    str | None,
    typer.Option("--precision", metavar="2%", help="Repeat rounds until each throughput is known this well."),
]
BudgetOption = Annotated[
    str | None, typer.Option("--budget", metavar="10m", help="The longest time that --precision may take; default 10m.")
]
TelemetryOption = Annotated[
    str | None,
    typer.Option("--telemetry", metavar="auto|always|off|replay:FILE", help="What is sampled during trials."),
]
SiteOption = Annotated[str | None, typer.Option("--site", metavar="NAME", help="Where the ranks run; default local.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Finish the sweep that was interrupted last.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print cases and skips; run nothing.")]
ReportOption = Annotated[
    Path | None,
    typer.Option(
        "--report", metavar="FILE.html", parser=output_path("--report"), help="The page; default: beside the store."
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SCOPE.NAME.OPTION=VALUE",
        help="An option of a workload, backend or site (see `list`). Several values, by commas or by repeating it, "
        'sweep it; a value with a comma is quoted: `"a,b"`. SCOPE may be left out where that is unambiguous.',
    ),
]
EnvOption = Annotated[
    list[str] | None,
    typer.Option(
        "--env",
        metavar="NAME=VALUE[,VALUE]",
        help="An environment variable of the ranks, set before they start. Several values, by commas or by repeating "
        'it, sweep it; a value with a comma is quoted: `"a,b"`; an empty one removes the variable.',
    ),
]
NetOption = Annotated[
    str | None,
    typer.Option("--net", metavar="1gbit,100mbit,unshaped", help="Emulated links between ranks, of these rates."),
]
PROGRAM_PANEL = "A program of your own"
ScriptOption = Annotated[
    list[str] | None,
    typer.Option(
        "--script",
        metavar="'FILE.py ARGUMENTS'",
        help="Sweep a program of your own, unchanged. Its arguments may hold {ranks}, and axes: {batch=32,64}.",
        rich_help_panel=PROGRAM_PANEL,
    ),
]
LauncherOption = Annotated[
    str | None,
    typer.Option(
        "--launcher",
        metavar="torchrun,horovod,mpi,plain",
        help="How its ranks are started; default torchrun.",
        rich_help_panel=PROGRAM_PANEL,
    ),
]
WholeOption = Annotated[
    bool,
    typer.Option("--whole", help="Let it end by itself; else it ends after its window.", rich_help_panel=PROGRAM_PANEL),
]
SamplesOption = Annotated[
    str | None,
    typer.Option(
        "--samples-per-step",
        metavar="64|64/rank",
        help="Samples of a step, of all ranks or of each; default: as its DataLoader yields.",
        rich_help_panel=PROGRAM_PANEL,
    ),
]
UnitOption = Annotated[
    str | None, typer.Option("--unit", metavar="tokens", help="What it counts.", rich_help_panel=PROGRAM_PANEL)
]
MetricOption = Annotated[
    str | None,
    typer.Option(
        "--metric",
        metavar="'speed: ([0-9.]+) img/s'",
        help="The rate that it prints, as a regular expression with one group.",
        rich_help_panel=PROGRAM_PANEL,
    ),
]
MetricScopeOption = Annotated[
    str | None,
    typer.Option(
        "--metric-scope",
        metavar="rank|total",
        help="Whether that is the rate of one rank, or of all (default).",
        rich_help_panel=PROGRAM_PANEL,
    ),
]
InjectOption = Annotated[
    str | None,
    typer.Option(
        "--inject",
        metavar="KIND:rank=R[,step=S][,ms=T]",
        help="Inject a fault into a rank: kill, stop, raise, slow, oom or exit.",
    ),
]


def sweep(
    suite: SuiteArgument = DEFAULT_SUITE,
    backends: BackendsOption = None,
    workloads: WorkloadsOption = None,
    ranks: RanksOption = None,
    nodes: NodesOption = None,
    ranks_per_node: RanksPerNodeOption = None,
    scaling: ScalingOption = None,
    repeats: RepeatsOption = None,
    steps: StepsOption = None,
    window: WindowOption = None,
    warmup: WarmupOption = None,
    batch: BatchOption = None,
    threads: ThreadsOption = None,
    seed: SeedOption = None,
    timeout: TimeoutOption = None,
    tolerance: ToleranceOption = None,
    device: DeviceOption = None,
    settings: SetOption = None,
    env: EnvOption = None,
    plugins: PluginOption = None,
    script: ScriptOption = None,
    launcher: LauncherOption = None,
    whole: WholeOption = False,
    samples_per_step: SamplesOption = None,
    unit: UnitOption = None,
    metric: MetricOption = None,
    metric_scope: MetricScopeOption = None,
    precision: PrecisionOption = None,
    budget: BudgetOption = None,
    net: NetOption = None,
    inject: InjectOption = None,
    telemetry: TelemetryOption = None,
    site: SiteOption = None,
    store: StoreOption = DEFAULT_STORE,
    resume: ResumeOption = False,
    dry_run: DryRunOption = False,
    report: ReportOption = None,
    as_json: JsonOption = False,
    verbosity: VerbosityOption = None,
) -> int:
    """Run a suite and write its report.

    Every case runs as fresh processes, several times, in shuffled rounds; each trial is stored when it ends.
    Before its timed window every training trial proves that it does the same work as a single process.
    """
    from harness.planning.script_flags import ScriptFlags
    from harness.sweep.plan import SuiteRequest, plan_sweep

    overrides = _suite_overrides(
        backends=split_names(backends),
        workloads=split_names(workloads),
        ranks=split_names(ranks),
        nodes=split_names(nodes),
        ranks_per_node=split_names(ranks_per_node),
        scaling=split_names(scaling),
        repeats=repeats,
        steps=steps,
        window_s=window,
        warmup=warmup,
        batch=split_names(batch),
        threads=threads,
        seed=seed,
        timeout_s=timeout,
        tolerance=tolerance,
        device=device,
        net=split_names(net),
        precision=None if precision is None else parse_percent(precision),
        budget_s=None if budget is None else parse_duration(budget),
        telemetry=telemetry,
        env=parse_variables(env) if env else None,
        fault=None if inject is None else parse_fault(inject),
    )
    flags = ScriptFlags(
        script or (),
        split_names(launcher),
        {
            "whole": whole or None,
            "samples_per_step": samples_per_step,
            "unit": unit,
            "metric": metric,
            "metric_scope": metric_scope,
        },
    )
    request = SuiteRequest(suite, overrides, settings or (), plugins or (), flags)
    if resume and not dry_run:
        named = request if overrides or settings or plugins or flags.given or suite != DEFAULT_SUITE else None
        return _resume(named, site, store, report, as_json=as_json)
    planned = plan_sweep(request, site or DEFAULT_SITE)
    if dry_run:
        if as_json:
            print_json(planned.as_json())
        else:
            print(printable("\n".join(planned.lines()), keep="\n\t"), file=results())
        return EXIT_OK
    from harness.sweep import pipeline

    with signals_as_interrupts():
        result = pipeline.run(planned, store, report, command_line(), stderr_console())
        return _print_result(result, as_json=as_json)


def _resume(request: SuiteRequest | None, site: str | None, store: str, report: Path | None, *, as_json: bool) -> int:
    from harness.sweep import pipeline

    with signals_as_interrupts():
        return _print_result(pipeline.resume(request, site, store, report, stderr_console()), as_json=as_json)


def _print_result(result: SweepResult, *, as_json: bool) -> int:
    """Print how a sweep ended; returns the exit status."""
    if as_json:
        print_json(result.as_json())
    else:
        result.print(stdout_console())
    return report_lost_outputs(result.problems, _exit_status(result))


def _exit_status(result: SweepResult) -> int:
    if result.interrupted:
        log.error("interrupted: the trials that had ended are stored and reported; --resume finishes the sweep")
        return EXIT_INTERRUPTED
    if not any(cell.rates for cell in result.cells):
        log.error("nothing was measured: %s", result.cells[0].reason)
        return EXIT_TRIALS_FAILED
    failed = any(cell.outcome in ("failed", "timeout", "invalid") for cell in result.cells)
    return EXIT_TRIALS_FAILED if failed else EXIT_OK


def _suite_overrides(**flags: Any) -> Mapping[str, Any]:
    """The flags that were given, by the suite's field."""
    return {name: value for name, value in flags.items() if value is not None}
