"""``python -m harness check``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.output import (
    JsonOption,
    StoreOption,
    check_writable,
    command_line,
    print_json,
    print_output,
    stderr_console,
    stdout_console,
)
from harness.errors import UsageError
from harness.store.store import DEFAULT_STORE

if TYPE_CHECKING:
    from harness.check.checks import CheckResult

CHECK_EXAMPLES = (
    "Examples:\n\n`python -m harness check` — the newest sweep against the nights before\n\n"
    "`python -m harness check --confirm` — run suspects again, in pairs with the last good commit\n\n"
    "`python -m harness check --pairs-only --suite pull_request --base-rev origin/main` — no history needed\n\n"
    "`python -m harness check --junit junit.xml --markdown summary.md --html verdict.html`\n\n"
    "`python -m harness check --history H.csv --current C.csv --pairs P.csv --json` — anyone's numbers\n\n"
    '`python -m harness check --accept synthetic/ddp --because "larger batches, on purpose"`\n\n'
    "`python -m harness check --calibrate` — how often the rule is wrong, and what it finds\n\n"
    "Exit: 0 pass or improved, 1 regressed, 2 bad input, 3 cannot tell, 4 failed trials."
)


def check(
    store: StoreOption = DEFAULT_STORE,
    suite: Annotated[str | None, typer.Option(metavar="NAME", help="Judge this suite's newest sweep.")] = None,
    sweep: Annotated[str | None, typer.Option(metavar="SWEEP", help="Judge this sweep, not the newest.")] = None,
    baseline: Annotated[
        str | None, typer.Option(metavar="SWEEP", help="The one sweep to compare with, instead of the nights before.")
    ] = None,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Run suspects again: interleaved pairs of this code and the base's.")
    ] = False,
    base_rev: Annotated[
        str | None, typer.Option(metavar="REV", help="The base commit; default: the last good night's.")
    ] = None,
    pairs_only: Annotated[
        bool, typer.Option("--pairs-only", help="Pairs of every case of --suite; no sweep and no history.")
    ] = False,
    history: Annotated[
        Path | None, typer.Option(metavar="H.csv", help="Columns night, benchmark, run, sample, seconds.")
    ] = None,
    current: Annotated[Path | None, typer.Option(metavar="C.csv", help="The night to judge; the same columns.")] = None,
    pairs: Annotated[
        Path | None, typer.Option(metavar="P.csv", help="Columns benchmark, pair, head_s, base_s.")
    ] = None,
    accept: Annotated[
        str | None, typer.Option(metavar="CURVE", help="This change was meant: its level is the new base.")
    ] = None,
    because: Annotated[str | None, typer.Option(metavar="TEXT", help="Why, for --accept.")] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Measure the rule on this store's history and on made-up ones.")
    ] = False,
    checks: Annotated[int, typer.Option(min=100, help="Unchanged series that --calibrate judges.")] = 30_000,
    keep: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Where --calibrate writes what verdicts quote.")
    ] = None,
    junit: Annotated[Path | None, typer.Option(metavar="FILE.xml", help="JUnit, for CI.")] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE.md", help="For a job's summary or a comment.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE.html", help="One page with a figure a finding.")] = None,
    as_json: JsonOption = False,
) -> int:
    """Judge the newest sweep against the nights before it.

    Nights are screened; what is suspect is confirmed by interleaved pairs, or left open. A verdict quotes the
    false-alarm rate that the rule was measured to have.
    """
    from harness.check.checks import check_files, check_pairs, check_sweep
    from harness.check.confirmation import ConfirmOptions
    from harness.check.sweep_history import SweepSelection

    if accept is not None or because is not None:
        return _accept(store, accept, because, suite, as_json=as_json)
    if calibrate:
        from harness.check.calibration import calibrate_store

        target_file = check_writable("--keep", keep)
        return print_output(calibrate_store(store, suite, checks, target_file, stderr_console), as_json=as_json)
    files = {
        name: check_writable(f"--{name}", target)
        for name, target in (("junit", junit), ("markdown", markdown), ("html", html))
    }
    if history is not None or current is not None or pairs is not None:
        if history is None or current is None:
            raise UsageError("--history and --current belong together: give both, each a CSV file")
        if confirm or base_rev or baseline or pairs_only or suite or sweep:
            raise UsageError("--history judges files: pairs come by --pairs, and no other option of a sweep applies")
        return _report_verdict(check_files(history, current, pairs, command_line()), files, as_json=as_json)
    if pairs_only:
        if suite is None or base_rev is None:
            raise UsageError("--pairs-only: name the cases and the base with --suite NAME --base-rev REV")
        return _report_verdict(
            check_pairs(suite, base_rev, store, command_line(), stderr_console), files, as_json=as_json
        )
    if base_rev is not None and not confirm:
        raise UsageError("--base-rev is what --confirm runs pairs against; say --confirm too")
    which, confirmation = SweepSelection(suite, sweep, baseline), ConfirmOptions(confirm, base_rev)
    checked = check_sweep(store, which, confirmation, command_line(), stderr_console)
    return _report_verdict(checked, files, as_json=as_json)


def _accept(store: str, curve: str | None, because: str | None, suite: str | None, *, as_json: bool) -> int:
    from harness.check.acceptance import accept

    if curve is None:
        raise UsageError('--because belongs to --accept: check --accept CURVE --because "…"')
    return print_output(accept(store, curve, because, suite), as_json=as_json)


def _report_verdict(checked: CheckResult, files: dict[str, Path | None], *, as_json: bool) -> int:
    """Write what was asked for and say the verdict; returns the exit code."""
    from harness.sweep.report import write_atomically
    from reports.formats.verdict import json_document, terminal
    from reports.formats.verdict.junit import junit
    from reports.formats.verdict.markdown import markdown
    from reports.page.check_page import make_check_page
    from reports.page.html import render
    from reports.regression import summary

    judgement = checked.judgement
    texts = {
        "junit": lambda: junit(judgement),
        "markdown": lambda: markdown(judgement),
        "html": lambda: render(make_check_page(judgement, checked.series)),
    }
    for name, target in files.items():
        if target is not None:
            write_atomically(target, texts[name]())
    if as_json:
        print_json(json_document.verdict_document(judgement))
    else:
        console = stdout_console()
        for line in terminal.header_lines(judgement):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        if (table := terminal.table(judgement, console.width)) is not None:
            console.print(table)
        for line in terminal.footer_lines(judgement):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    return summary.exit_code(judgement)
