"""The commands ``check`` and ``nightly``: verdicts over nights, pairs and files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.host.paths import from_home
from harness.cli.completion import complete_suites, complete_sweeps
from harness.cli.configured import configured_names
from harness.cli.output import (
    JsonOption,
    PluginOption,
    StoreOption,
    VerbosityOption,
    command_line,
    output_path,
    print_json,
    print_output,
    report_lost_outputs,
    stderr_console,
    stdout_console,
)
from harness.errors import UsageError
from harness.interrupts import signals_as_interrupts
from harness.store import DEFAULT_STORE

if TYPE_CHECKING:
    from harness.check.checks import CheckResult
    from harness.check.compared_code import SideSetup
    from harness.check.confirmation import ConfirmOptions
    from harness.output_files import OutputFile

OF_SWEEPS = frozenset({"confirm", "base_rev", "baseline", "pairs_only", "suite", "sweep"})
"""Options of ``check`` that say nothing about files."""
EXAMPLES = {
    "check": (
        "Examples:\n\n`python -m harness check` — the newest sweep against the nights before\n\n"
        "`python -m harness check --confirm` — run suspects again, in pairs with the last good commit\n\n"
        "`python -m harness check --pairs-only --suite pull_request --base-rev origin/main` — without a history\n\n"
        "`python -m harness check --junit junit.xml --markdown summary.md --html verdict.html`\n\n"
        "`python -m harness check --history H.csv --current C.csv --pairs P.csv --json` — numbers from elsewhere\n\n"
        '`python -m harness check --accept synthetic/ddp --because "larger batches, on purpose"`\n\n'
        "`python -m harness check --calibrate` — the rule's false-alarm rate and what it finds\n\n"
        "Exit: 0 pass or improved, 1 regressed, 2 bad input, 3 cannot tell, 4 failed trials."
    ),
    "nightly": (
        "Examples:\n\n`python -m harness nightly`\n\n"
        "`python -m harness nightly scaling --no-micro --out /srv/pages` — another suite, without micro-benchmarks\n\n"
        "`python -m harness nightly --base-rev v1.2` — suspects are compared with that commit\n\n"
        "`python -m harness nightly nightly.toml --install 'pip install .'` — a program in a repository of your own\n\n"
        "Exit: 0 pass or improved, 1 regressed, 2 bad input, 3 cannot tell, 4 a trial or a step gave no number, "
        "130 interrupted."
    ),
}

SuiteOption = Annotated[
    str | None,
    typer.Option(
        "--suite", metavar="NAME", help="Check the newest sweep of this suite.", autocompletion=complete_suites
    ),
]
SweepOption = Annotated[
    str | None,
    typer.Option(
        "--sweep", metavar="SWEEP", help="Check this sweep instead of the newest.", autocompletion=complete_sweeps
    ),
]
BaselineOption = Annotated[
    str | None,
    typer.Option(
        "--baseline",
        metavar="SWEEP",
        help="Compare with this sweep alone, not with the nights before.",
        autocompletion=complete_sweeps,
    ),
]
ConfirmOption = Annotated[
    bool, typer.Option("--confirm", help="Run suspects again: interleaved pairs of this code and the base's.")
]
BaseRevOption = Annotated[
    str | None, typer.Option("--base-rev", metavar="REV", help="The base commit; default: the last good night's.")
]
InstallOption = Annotated[
    str | None,
    typer.Option(
        "--install",
        metavar="COMMAND",
        help="Install each side of a repository of your own by this command, in an environment of its own.",
    ),
]
DataOption = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="PATH",
        help="A file or folder of your repository that git does not track: the base gets a link to it.",
    ),
]
PairsOnlyOption = Annotated[
    bool, typer.Option("--pairs-only", help="Run pairs of every case of --suite, without a sweep or a history.")
]
HistoryOption = Annotated[
    Path | None,
    typer.Option(
        "--history", metavar="H.csv", parser=from_home, help="Columns night, benchmark, run, sample, seconds."
    ),
]
CurrentOption = Annotated[
    Path | None,
    typer.Option("--current", metavar="C.csv", parser=from_home, help="The night to check; the same columns."),
]
PairsOption = Annotated[
    Path | None,
    typer.Option("--pairs", metavar="P.csv", parser=from_home, help="Columns benchmark, pair, head_s, base_s."),
]
AcceptOption = Annotated[
    str | None,
    typer.Option("--accept", metavar="CURVE", help="Accept a change on purpose: its level becomes the new base."),
]
BecauseOption = Annotated[str | None, typer.Option("--because", metavar="TEXT", help="The reason for --accept.")]
CalibrateOption = Annotated[
    bool, typer.Option("--calibrate", help="Measure the rule on this store's history and on synthetic ones.")
]
ChecksOption = Annotated[
    int,
    typer.Option("--checks", min=100, max=10_000_000, help="The number of unchanged series that --calibrate checks."),
]
KeepOption = Annotated[
    Path | None,
    typer.Option(
        "--keep",
        metavar="FILE.json",
        parser=output_path("--keep"),
        help="Write the rates of --calibrate that verdicts quote.",
    ),
]
JunitOption = Annotated[
    Path | None,
    typer.Option("--junit", metavar="FILE.xml", parser=output_path("--junit"), help="Write JUnit XML, for CI."),
]
MarkdownOption = Annotated[
    Path | None,
    typer.Option(
        "--markdown",
        metavar="FILE.md",
        parser=output_path("--markdown"),
        help="Write Markdown, for a job summary or a comment.",
    ),
]
BadgeOption = Annotated[
    Path | None,
    typer.Option(
        "--badge",
        metavar="FILE.svg",
        parser=output_path("--badge"),
        help="Write a badge of the verdict, for a README.",
    ),
]
HtmlOption = Annotated[
    Path | None,
    typer.Option(
        "--html",
        metavar="FILE.html",
        parser=output_path("--html"),
        help="Write a page with a figure for each finding.",
    ),
]


def check(
    context: typer.Context,
    store: StoreOption = DEFAULT_STORE,
    suite: SuiteOption = None,
    sweep: SweepOption = None,
    baseline: BaselineOption = None,
    confirm: ConfirmOption = False,
    base_rev: BaseRevOption = None,
    install: InstallOption = None,
    data: DataOption = None,
    pairs_only: PairsOnlyOption = False,
    history: HistoryOption = None,
    current: CurrentOption = None,
    pairs: PairsOption = None,
    accept: AcceptOption = None,
    because: BecauseOption = None,
    calibrate: CalibrateOption = False,
    checks: ChecksOption = 30_000,
    keep: KeepOption = None,
    junit: JunitOption = None,
    markdown: MarkdownOption = None,
    badge: BadgeOption = None,
    html: HtmlOption = None,
    plugins: PluginOption = None,
    as_json: JsonOption = False,
    verbosity: VerbosityOption = None,
) -> int:
    """Compare the newest sweep with the nights before and report regressions.

    Nights are screened; suspects are confirmed by interleaved pairs, or left open. A verdict quotes the false-alarm
    rate that was measured for the rule.
    """
    from harness.check.compared_code import SideSetup
    from harness.check.confirmation import ConfirmOptions
    from harness.check.verdict_files import verdict_outputs
    from harness.sweep.plugins import use_plugin_files

    use_plugin_files(plugins or ())
    if accept is not None or because is not None:
        return _accept(store, accept, because, suite, as_json=as_json)
    if calibrate:
        return _calibrate(store, suite, checks, keep, as_json=as_json)
    outputs = verdict_outputs({"junit": junit, "markdown": markdown, "badge": badge, "html": html}, store)
    if history is not None or current is not None or pairs is not None:
        if any(context.params[name] for name in OF_SWEEPS - configured_names(context)):
            raise UsageError("--history checks files: pairs come by --pairs, and options of a sweep do not apply")
        result = _check_files(history, current, pairs)
    elif pairs_only:
        result = _check_pairs(suite, base_rev, SideSetup(install, tuple(data or ())), store)
    else:
        if not confirm and "base_rev" in configured_names(context):
            base_rev = None
        confirmation = ConfirmOptions(confirm, base_rev, SideSetup(install, tuple(data or ())))
        result = _check_sweep(store, suite, sweep, baseline, confirmation)
    return _report_verdict(result, outputs, as_json=as_json)


def _accept(store: str, curve: str | None, because: str | None, suite: str | None, *, as_json: bool) -> int:
    from harness.check.acceptance import accept

    if curve is None:
        raise UsageError('--because belongs to --accept: check --accept CURVE --because "…"')
    return print_output(accept(store, curve, because, suite), as_json=as_json)


def _calibrate(store: str, suite: str | None, checks: int, keep: Path | None, *, as_json: bool) -> int:
    from harness.check.calibration import calibrate_store

    report = calibrate_store(store, suite, checks, keep, stderr_console())
    return report_lost_outputs(report.problems, print_output(report, as_json=as_json))


def _check_files(history: Path | None, current: Path | None, pairs: Path | None) -> CheckResult:
    from harness.check.checks import check_files

    if history is None or current is None:
        raise UsageError("--history and --current belong together: give both, each a CSV file")
    return check_files(history, current, pairs, command_line())


def _check_pairs(suite: str | None, base_rev: str | None, setup: SideSetup, store: str) -> CheckResult:
    from harness.check.checks import check_pairs

    if suite is None or base_rev is None:
        raise UsageError("--pairs-only: name the cases and the base with --suite NAME --base-rev REV")
    return check_pairs(suite, base_rev, setup, store, command_line(), stderr_console())


def _check_sweep(
    store: str, suite: str | None, sweep: str | None, baseline: str | None, confirmation: ConfirmOptions
) -> CheckResult:
    from harness.check.checks import check_sweep
    from harness.check.history import SweepSelection

    if confirmation.base_rev is not None and not confirmation.requested:
        raise UsageError("--base-rev is the base that --confirm runs pairs against; add --confirm")
    return check_sweep(store, SweepSelection(suite, sweep, baseline), confirmation, command_line(), stderr_console())


def _report_verdict(result: CheckResult, outputs: Mapping[str, OutputFile], *, as_json: bool) -> int:
    """Write the files that were asked for and print the verdict; returns the exit code."""
    from harness.check.verdict_files import write_verdict
    from reports.formats.console import print_line
    from reports.formats.verdict import json_document, terminal
    from reports.regression import summary

    judgement = result.judgement
    problems = write_verdict(result, outputs)
    if as_json:
        print_json(json_document.verdict_document(judgement))
    else:
        console = stdout_console()
        for line in terminal.header_lines(judgement):
            print_line(console, line)
        if (table := terminal.table(judgement, console.width)) is not None:
            console.print(table)
        for line in terminal.footer_lines(judgement):
            print_line(console, line)
    return report_lost_outputs(problems, summary.exit_code(judgement))


def nightly(
    suite: Annotated[
        str, typer.Argument(help="A suite's name (see `list`) or a TOML file.", autocompletion=complete_suites)
    ] = "nightly",
    store: StoreOption = DEFAULT_STORE,
    out: Annotated[
        Path, typer.Option(metavar="DIR", parser=from_home, help="The folder of pages and verdicts.")
    ] = Path(".runs/nightly"),
    base_rev: Annotated[
        str | None, typer.Option(metavar="REV", help="The base of suspects; default: the last good commit.")
    ] = None,
    install: InstallOption = None,
    data: DataOption = None,
    micro: Annotated[
        bool | None,
        typer.Option("--micro/--no-micro", help="Run this project's micro-benchmarks too; default: with its suites."),
    ] = None,
    confirm: Annotated[bool, typer.Option("--confirm/--no-confirm", help="Run suspects again, in pairs.")] = True,
    verbosity: VerbosityOption = None,
) -> int:
    """Run a suite and the micro-benchmarks, check both and write the pages.

    The exit code is the verdict. A step that fails is reported, and the others run all the same.
    """
    from harness.check.compared_code import SideSetup
    from harness.check.nightly import NightlyOptions, run_nightly

    night = NightlyOptions(suite, store, out, base_rev, micro, confirm, SideSetup(install, tuple(data or ())))
    with signals_as_interrupts():
        return run_nightly(night, stderr_console())
