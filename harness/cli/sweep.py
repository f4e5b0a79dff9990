"""The command ``sweep``: plan a suite, run it, and report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.core.text import printable
from harness.cli.completion import complete_sites, complete_suites
from harness.cli.option_groups import takes_groups
from harness.cli.output import (
    JsonOption,
    MarkdownOption,
    PluginOption,
    StoreOption,
    VerbosityOption,
    check_printed,
    command_line,
    log,
    output_path,
    print_json,
    report_lost_outputs,
    stderr_console,
    stdout_console,
)
from harness.cli.sweep_options import CaseOptions, MeasurementOptions, ProgramOptions
from harness.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_TRIALS_FAILED, UsageError
from harness.interrupts import signals_as_interrupts
from harness.planning.suite import DEFAULT_SUITE
from harness.sites.base.contract import DEFAULT_SITE
from harness.store import DEFAULT_STORE
from harness.streams import results

if TYPE_CHECKING:
    from harness.reporting.sweep_result import SweepResult
    from harness.store.labels import SweepLabels
    from harness.sweep.building import Builds
    from harness.sweep.pipeline import RunSettings
    from harness.sweep.plan import SuiteRequest

EXAMPLES = {
    "sweep": (
        "Examples:\n\n"
        "`python -m harness sweep` — the quick suite, all backends\n\n"
        "`python -m harness sweep --backends ddp,horovod --ranks 1,2 --set backend.horovod.cycle_time_ms=0.1,1`\n\n"
        "`python -m harness sweep --workloads mnist --set workload.mnist.model=cnn --set workload.mnist.eval=true`\n\n"
        "`python -m harness sweep --precision 2% --budget 10m` — repeat until the intervals are that narrow\n\n"
        "`python -m harness sweep --until decided --max-repeats 10` — repeat only what an open question needs\n\n"
        "`python -m harness sweep --inject slow:rank=1,ms=200` — a straggler, injected\n\n"
        "`python -m harness sweep --inject kill:rank=1,step=5` — in the window's 5th step; step=0: before it joins\n\n"
        "`python -m harness sweep --env OMP_WAIT_POLICY=active,passive` — a variable of the ranks, as an axis\n\n"
        "`python -m harness sweep emulated --net 100mbit,1gbit,unshaped` — the cost of a slower network\n\n"
        "`python -m harness sweep --site slurm --nodes 1,2,4 --ranks-per-node 2 --set site.slurm.partition=batch`\n\n"
        "`python -m harness sweep --plugin my_model.py --workloads my_model` — a workload of your own\n\n"
        "`python -m harness sweep --script 'train.py --batch {batch=32,64}' --ranks 1,2` — a program of your own, "
        "unchanged, as torchrun starts it\n\n"
        "`python -m harness sweep --title 'before the new loader' --note 'dataset v2, node 17'`\n\n"
        "`python -m harness sweep --markdown summary.md` — for the summary of a CI job\n\n"
        "`python -m harness sweep scaling --dry-run`\n\n`python -m harness sweep --resume`"
    )
}

SuiteArgument = Annotated[
    str, typer.Argument(help="A suite's name (see `list`) or a TOML file.", autocompletion=complete_suites)
]
SiteOption = Annotated[
    str | None,
    typer.Option("--site", metavar="NAME", help="Where the ranks run; default local.", autocompletion=complete_sites),
]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Finish the sweep that was interrupted last.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print cases and skips; run nothing.")]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="FILE.html", parser=output_path("--out"), help="The page; default: beside the store."
    ),
]
ReportOption = Annotated[
    Path | None,
    typer.Option("--report", hidden=True, parser=output_path("--report"), help="The former name of --out."),
]
SharedOption = Annotated[
    bool,
    typer.Option(
        "--shared",
        help="Do not wait for other sweeps of this machine: run beside them, and flag the trials of both.",
    ),
]
BuildOption = Annotated[
    bool,
    typer.Option(
        "--build",
        help="Compile what cells lack (Horovod) once the others are measured; else these cells are skipped.",
    ),
]
TitleOption = Annotated[
    str | None, typer.Option("--title", metavar="TEXT", help="Its title; default: what runs. See `sweeps rename`.")
]
NoteOption = Annotated[str | None, typer.Option("--note", metavar="TEXT", help="What you want to remember of it.")]


@takes_groups
def sweep(
    suite: SuiteArgument = DEFAULT_SUITE,
    *,
    cases: CaseOptions,
    measurement: MeasurementOptions,
    program: ProgramOptions,
    plugins: PluginOption = None,
    site: SiteOption = None,
    store: StoreOption = DEFAULT_STORE,
    resume: ResumeOption = False,
    dry_run: DryRunOption = False,
    shared: SharedOption = False,
    build: BuildOption = False,
    title: TitleOption = None,
    note: NoteOption = None,
    out: OutOption = None,
    markdown: MarkdownOption = None,
    report: ReportOption = None,
    as_json: JsonOption = False,
    verbosity: VerbosityOption = None,
) -> int:
    """Run a suite and write its report.

    Every case runs as fresh processes, several times, in shuffled rounds; each trial is stored when it ends.
    Sweeps of one machine take turns, a trial each.
    Before its timed window every training trial proves that it does the same work as a single process.
    """
    from harness.sweep.duration import predict_by_store
    from harness.sweep.plan import plan_sweep

    check_printed(markdown, as_json=as_json)
    page = _page(out, report)
    request = _request(suite, cases, measurement, program, plugins)
    if resume and not dry_run:
        given = (request.overrides, request.settings, request.plugins, request.script.given, suite != DEFAULT_SUITE)
        named = request if any(given) else None
        if title is not None or note is not None:
            raise UsageError("--resume goes on with a sweep as it is; change it with `sweeps rename` or `sweeps note`")
        settings = _settings(store, page, markdown, shared=shared, build=True)
        return _resume(settings, named, site, build=build, as_json=as_json)
    # Without them no database is loaded yet.
    labels = None if title is None and note is None else _labels(title, note)
    planned = plan_sweep(request, site or DEFAULT_SITE)
    if dry_run:
        duration = predict_by_store(planned.plan, store)
        if as_json:
            print_json(planned.as_json(duration))
        else:
            print(printable("\n".join(planned.lines(duration)), keep="\n\t"), file=results())
        return EXIT_OK
    from harness.sweep.beginning import begun_sweep

    with signals_as_interrupts():
        with begun_sweep(planned, shared=shared) as begun:
            # The frameworks of the ranks are being loaded meanwhile.
            from harness.sweep import pipeline

            settings = _settings(store, page, markdown, shared=shared, build=build)
            result = pipeline.run(begun, settings, command_line(), labels or _labels(title, note))
        return _print_result(result, as_json=as_json)


def request_of(options: Mapping[str, Any]) -> SuiteRequest:
    """What a command line asks for. ``options``: its values by the parameters' names."""

    def group(kind: type[Any]) -> Any:
        # To the parser an option that was not given is an empty list where it takes several.
        given = {option.name: options[option.name] for option in fields(kind) if options[option.name] not in ([], ())}
        return kind(**given)

    groups = group(CaseOptions), group(MeasurementOptions), group(ProgramOptions)
    return _request(options["suite"], *groups, options["plugins"])


def _request(
    suite: str,
    cases: CaseOptions,
    measurement: MeasurementOptions,
    program: ProgramOptions,
    plugins: Sequence[str] | None,
) -> SuiteRequest:
    from harness.sweep.plan import SuiteRequest

    overrides = {**cases.overrides(), **measurement.overrides()}
    return SuiteRequest(suite, overrides, cases.settings or (), plugins or (), program.flags())


def _settings(store: str, page: Path | None, markdown: Path | None, *, shared: bool, build: bool) -> RunSettings:
    from harness.reporting.summary_outputs import SummaryPaths
    from harness.sweep.pipeline import RunSettings

    builds = _builds() if build else {}
    return RunSettings(store, stderr_console(), page, SummaryPaths(markdown=markdown), shared=shared, builds=builds)


def _resume(
    settings: RunSettings, request: SuiteRequest | None, site: str | None, *, build: bool, as_json: bool
) -> int:
    from harness.sweep import pipeline

    with signals_as_interrupts():
        return _print_result(pipeline.resume(settings, request, site, build=build), as_json=as_json)


def _builds() -> Builds:
    from harness.setup import horovod_wheel
    from harness.sweep.building import Build

    return {"horovod": Build(horovod_wheel.is_missing, horovod_wheel.build_for_sweep)}


def _page(out: Path | None, report: Path | None) -> Path | None:
    if out is not None and report is not None:
        raise UsageError("--report is the former name of --out; give one of them")
    return out or report


def _labels(title: str | None, note: str | None) -> SweepLabels:
    from harness.store.labels import SweepLabels, check_note, check_title, parse_label

    return SweepLabels(
        title=None if title is None else parse_label("--title", check_title, title),
        note=None if note is None else parse_label("--note", check_note, note),
    )


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
