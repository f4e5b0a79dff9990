"""The command line: reads like a table of contents."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from harness.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_TRIALS_FAILED, EXIT_USAGE, HarnessError, UsageError
from harness.signals import terminated_as_interrupted
from harness.store import DEFAULT_STORE
from harness.suite import DEFAULT_SUITE, parse_duration, parse_fault, parse_percent
from reports.exports import format_names

if TYPE_CHECKING:
    from harness.comparing import Compared
    from harness.indexing import Indexed
    from harness.ingesting import Ingested
    from harness.merging import Merged
    from harness.sweeping import Done

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Run the same training work under several backends and rank counts, prove that it was the same, and report.",
)
people = Console(stderr=True)
BROKE = "plugin broken"
PIPED_WIDTH = 110

Store = Annotated[str, typer.Option("--store", metavar="URL", help="Results store: a SQLite file or a database URL.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output and nothing else.")]


@app.command(
    epilog="Examples:\n\n"
    "`python -m harness sweep` — the quick suite, all backends\n\n"
    "`python -m harness sweep --backends ddp,horovod --ranks 1,2 --set horovod.cycle_time_ms=0.1,1`\n\n"
    "`python -m harness sweep --workloads mnist --set mnist.model=cnn --set mnist.eval=true`\n\n"
    "`python -m harness sweep --precision 2% --budget 10m` — repeat until the intervals are that narrow\n\n"
    "`python -m harness sweep --inject slow:rank=1,ms=200` — a straggler, on purpose\n\n"
    "`python -m harness sweep --inject kill:rank=1,step=5` — in the window's 5th step; step=0: before it joins\n\n"
    "`python -m harness sweep emulated --net 100mbit,1gbit,unshaped` — what a slower network would cost\n\n"
    "`python -m harness sweep scaling --dry-run`\n\n`python -m harness sweep --resume`"
)
def sweep(
    suite: Annotated[str, typer.Argument(help="A suite's name (see `list`) or a TOML file.")] = DEFAULT_SUITE,
    backends: Annotated[str | None, typer.Option(metavar="A,B", help="Backends to run.")] = None,
    workloads: Annotated[str | None, typer.Option(metavar="A,B", help="Workloads to run.")] = None,
    ranks: Annotated[
        str | None, typer.Option(metavar="1,2,4", help="Rank counts; default 1, 2, 4, … up to the cores.")
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
        typer.Option("--set", metavar="KEY=VALUE", help="An option of a workload or backend; several values sweep it."),
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
    site: Annotated[str, typer.Option(metavar="NAME", help="Where the ranks run.")] = "local",
    store: Store = DEFAULT_STORE,
    resume: Annotated[bool, typer.Option("--resume", help="Finish the sweep that was interrupted last.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print cases and skips; run nothing.")] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Where the page goes; default: beside the store.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Run a suite and write its report.

    Every case runs as fresh processes, several times, in shuffled rounds; each trial is stored when it ends.
    Before its timed window every training trial proves that it does the work a single process would do.
    """
    from harness import sweeping

    changes = {
        "backends": _names(backends), "workloads": _names(workloads), "ranks": _names(ranks),
        "scaling": _names(scaling), "repeats": repeats, "steps": steps, "window_s": window, "warmup": warmup,
        "batch": batch, "threads": threads, "seed": seed, "timeout_s": timeout, "device": device, "net": _names(net),
        "precision": None if precision is None else parse_percent(precision),
        "budget_s": None if budget is None else parse_duration(budget), "telemetry": telemetry,
        "fault": None if inject is None else parse_fault(inject),
    }  # fmt: skip
    said = {name: value for name, value in changes.items() if value is not None}
    chosen = sweeping.choose_suite(suite, said, settings)
    where = sweeping.find_site(site)
    if resume and not dry_run:
        asked = bool(said or settings or suite != DEFAULT_SUITE)
        with terminated_as_interrupted():
            return _show(sweeping.resume(chosen if asked else None, where, store, report, people), as_json=as_json)
    plan = sweeping.plan(chosen, where, sweeping.place_in(suite, said, settings))
    _warn_of_broken_plugins()
    if dry_run:
        _print_json(plan.model_dump(mode="json")) if as_json else sweeping.print_plan(plan, Console())
        return EXIT_OK
    with terminated_as_interrupted():
        return _show(sweeping.run(chosen, plan, where, store, report, _command(), people), as_json=as_json)


@app.command(
    epilog="Examples:\n\n`python -m harness report`\n\n"
    "`python -m harness report 20261121-101500-ab12 --out night.html`\n\n"
    "`python -m harness report 20261120-101500-cd34 latest` — side by side, and what changed\n\n"
    "`python -m harness report --predict 8,64 --link 100Gbit,5us` — what to expect where nothing was run\n\n"
    "`python -m harness report --index nights/` — a report of each finished sweep, and the trend over them"
)
def report(
    sweeps: Annotated[list[str] | None, typer.Argument(metavar="SWEEP", help="Ids; default: the latest.")] = None,
    store: Store = DEFAULT_STORE,
    out: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Default: beside the store.")] = None,
    index: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The trend over the sweeps named, or all, with their reports.")
    ] = None,
    predict: Annotated[
        str | None,
        typer.Option(metavar="8,64,1024", help="Rank counts to foretell; else 2, 4 and 8 times the largest."),
    ] = None,
    link: Annotated[
        str | None, typer.Option(metavar="100Gbit,5us", help="Foretell up to 4,096 ranks over such a link.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Write the page of a stored sweep again, of several side by side, or an index over many."""
    from harness.outlook import Outlook, parse_counts, parse_link

    if index is not None:
        if out is not None:
            raise UsageError("--out names one page and --index a folder of them; leave one of them out")
        if predict or link:
            raise UsageError("--predict and --link are asked of a page of sweeps, not of an --index; leave them out")
        from harness import indexing

        return _told(indexing.write_index(sweeps or [], store, index), as_json=as_json)
    outlook = Outlook(parse_counts(predict), parse_link(link))
    if sweeps and len(sweeps) > 1:
        from harness import comparing

        return _told(comparing.compare_sweeps(sweeps, store, out, outlook), as_json=as_json)
    from harness import sweeping

    return _told(sweeping.report_again(sweeps[0] if sweeps else "latest", store, out, outlook), as_json=as_json)


@app.command(
    epilog="Examples:\n\n`python -m harness fit scaling.csv`\n\n"
    "`python -m harness fit scaling.csv --model usl --predict 64,1024 --json`\n\n"
    "The file: columns `ranks` (or `n`) and `throughput`, repeats as further rows; a column `curve` tells curves apart."
)
def fit(
    file: Annotated[Path, typer.Argument(help="A CSV file.", metavar="FILE.csv")],
    model: Annotated[str, typer.Option(metavar="usl|amdahl|linear|best", help="What to fit.")] = "best",
    method: Annotated[str, typer.Option(metavar="log|nls", help="Residuals of ln X (default), or of X.")] = "log",
    predict: Annotated[str | None, typer.Option(metavar="8,64,1024", help="Rank counts that were not run.")] = None,
    scaling: Annotated[
        str | None, typer.Option(metavar="strong|weak", help="weak: serial shares by Gustafson; else as the file says.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Fit speed-up laws to measured throughputs: USL, Amdahl or linear, with intervals and traps named."""
    from harness import fitting
    from harness.outlook import parse_counts

    found = fitting.fit_file(file, model, method, parse_counts(predict), scaling)
    if as_json:
        _print_json(fitting.as_json(found))
    else:
        fitting.show(found, _paper())
    return EXIT_OK


@app.command(
    epilog="Examples:\n\n`python -m harness export > trials.csv` — the latest sweep, a row a trial\n\n"
    "`python -m harness export 20261121-101500-ab12 latest --out trials.parquet`\n\n"
    "`python -m harness export --out now.json && pytest-benchmark compare now.json`\n\n"
    "`python -m harness export --out steps.jsonl && extrap --json steps.jsonl` — Extra-P\n\n"
    "`python -m harness export --out trials.csv && python -m harness fit trials.csv`"
)
def export(
    sweeps: Annotated[list[str] | None, typer.Argument(metavar="SWEEP ...", help="Ids; default: the latest.")] = None,
    store: Store = DEFAULT_STORE,
    format_name: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help=f"One of {', '.join(format_names())}. Default: as the file's suffix says, else csv.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Default: text goes to standard output.")] = None,
) -> int:
    """Hand stored trials to other tools: CSV, Parquet, pytest-benchmark's JSON or Extra-P's JSON Lines."""
    from harness import exporting

    exporting.export(sweeps or [], store, format_name, out, people)
    return EXIT_OK


@app.command(
    epilog="Examples:\n\n`pytest benchmarks --benchmark-json one.json && python -m harness ingest one.json`\n\n"
    "`python -m harness ingest runs/*.json --night 2026-11-21`"
)
def ingest(
    files: Annotated[list[Path], typer.Argument(metavar="FILE ...", help="pytest-benchmark's JSON, a file a run.")],
    store: Store = DEFAULT_STORE,
    night: Annotated[
        str | None, typer.Option(metavar="LABEL", help="The night they are runs of; default: each file's day (UTC).")
    ] = None,
    as_json: Json = False,
) -> int:
    """Take pytest-benchmark's numbers into the store: they become series beside the sweeps'."""
    from harness import ingesting

    return _told(ingesting.ingest(files, store, night), as_json=as_json)


@app.command(
    epilog="Examples:\n\n`python -m harness merge artifact/results.sqlite`\n\n"
    "`python -m harness merge .runs/results.sqlite --store postgresql+psycopg://team@db/results`"
)
def merge(
    other: Annotated[str, typer.Argument(metavar="OTHER", help="The store to take from: a file or a database URL.")],
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> int:
    """Bring what another store holds into this one.

    A second time doubles nothing; a sweep that has grown since is completed.
    """
    from harness import merging

    return _told(merging.merge(other, store), as_json=as_json)


@app.command("list", epilog="Example: `python -m harness list --json`")
def list_all(as_json: Json = False) -> int:
    """List backends, workloads with their options, suites and sites."""
    from harness import listing

    found = listing.everything()
    if as_json:
        _print_json(found)
    else:
        listing.show(found, Console())
    return EXIT_OK


@app.command(epilog="Example: `python -m harness doctor --json`")
def doctor(as_json: Json = False) -> int:
    """Say what is installed and what is missing, each with a remedy."""
    from harness.doctor import examine

    findings = examine()
    if as_json:
        _print_json({"findings": [finding.model_dump() for finding in findings]})
        return EXIT_OK
    console = Console()
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        style = "green" if finding.status == "ok" else "yellow"
        remedy = f" → {finding.remedy}" if finding.remedy else ""
        console.print(f"[{style}]{finding.status:8}[/] {finding.name:{width}}", end="  ", highlight=False)
        console.print(f"{finding.found}{remedy}", markup=False, highlight=False, soft_wrap=True)
    return EXIT_OK


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    try:
        status: Any = app(args=None if arguments is None else list(arguments), standalone_mode=False)
    except HarnessError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return problem.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as problem:
        # Typer's own complaints (an unknown flag, a number that isn't one) in one line like ours.
        if not hasattr(problem, "format_message"):
            raise
        print(f"error: {' '.join(problem.format_message().split())} (see --help)", file=sys.stderr)
        return EXIT_USAGE
    return int(status or 0)


def _show(done: Done, *, as_json: bool) -> int:
    """Print how a sweep ended; returns the exit status."""
    if as_json:
        _print_json(done.as_json())
    else:
        done.print(_paper())
    if done.interrupted:
        people.print("interrupted: what had ended is stored and reported; --resume finishes it", style="yellow")
        return EXIT_INTERRUPTED
    failed = any(cell.outcome in ("failed", "timeout", "invalid") for cell in done.cells)
    return EXIT_TRIALS_FAILED if failed else EXIT_OK


def _told(done: Compared | Done | Indexed | Ingested | Merged, *, as_json: bool) -> int:
    """Print what was written or brought in; returns the exit status."""
    if as_json:
        _print_json(done.as_json())
    else:
        done.print(_paper())
    return EXIT_OK


def _paper() -> Console:
    """Standard output for people; wide enough for every column where it is not a terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=PIPED_WIDTH)


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())


def _print_json(document: Any) -> None:
    print(json.dumps(document, indent=2, allow_nan=False))


def _command() -> str:
    from harness.opening import masked

    return shlex.join(["python", "-m", "harness", *map(masked, sys.argv[1:])])


def _warn_of_broken_plugins() -> None:
    from bench.registry import survey

    for broken in survey()[2]:
        people.print(f"{BROKE}: {broken.kind} {broken.name}: {broken.error}", style="yellow", markup=False)
