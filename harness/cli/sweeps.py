"""The commands ``sweeps …``: list, show, compare, name and delete the sweeps of a store."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from harness.cli.completion import complete_sweeps
from harness.cli.output import (
    SWEEP_NAMES,
    JsonOption,
    StoreOption,
    VerbosityOption,
    check_printed,
    output_or_stdout,
    print_output,
    report_lost_outputs,
    stderr_console,
)
from harness.errors import UsageError
from harness.store import DEFAULT_STORE

if TYPE_CHECKING:
    from harness.archive.deletion import Deletion

EXAMPLES = {
    "sweeps": (
        "Examples: `python -m harness sweeps list`, `python -m harness sweeps compare latest~1 latest`\n\n"
        "Every command takes as SWEEP: an id, `latest`, `latest~1` (the one before it), a tag, or the start of an id "
        "that no other has."
    ),
    "sweeps list": (
        "Examples:\n\n`python -m harness sweeps list` — the newest 20\n\n"
        "`python -m harness sweeps list --since 7d --tag release --limit 0 --json`"
    ),
    "sweeps show": "Examples: `python -m harness sweeps show`, `python -m harness sweeps show latest~1 --json`",
    "sweeps compare": (
        "Examples:\n\n`python -m harness sweeps compare release latest`\n\n"
        "`python -m harness sweeps compare latest~1 latest --markdown changes.md`\n\n"
        "It describes. `python -m harness check --sweep latest --baseline release` gives a verdict."
    ),
    "sweeps tag": "Example: `python -m harness sweeps tag latest release v1.2` — from now on `release` names it",
    "sweeps untag": "Example: `python -m harness sweeps untag release release`",
    "sweeps note": (
        "Examples: `python -m harness sweeps note latest 'node 17 was busy'`, "
        "`python -m harness sweeps note latest ''` — without a note"
    ),
    "sweeps rename": (
        "Examples: `python -m harness sweeps rename latest 'before the new loader'`, "
        "`python -m harness sweeps rename latest ''` — called by what ran"
    ),
    "sweeps delete": (
        "Examples:\n\n`python -m harness sweeps delete 20261121-101500-ab12` — says what goes, and asks\n\n"
        "`python -m harness sweeps delete latest --yes`\n\n"
        "A sweep that is tagged, or the baseline of an accepted change, must be named by its id or its tag."
    ),
    "sweeps prune": (
        "Examples:\n\n`python -m harness sweeps prune --keep 50` — what would go; nothing is deleted\n\n"
        "`python -m harness sweeps prune --keep 50 --older-than 90d --yes`\n\n"
        "Tagged sweeps, baselines of accepted changes and running sweeps stay."
    ),
}

SweepArgument = Annotated[str, typer.Argument(metavar="SWEEP", autocompletion=complete_sweeps, help=f"{SWEEP_NAMES}.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Delete without asking.")]
UnfinishedOption = Annotated[
    bool, typer.Option("--unfinished", help="Also what has not ended on another machine, where it may still run.")
]


def list_sweeps(
    store: StoreOption = DEFAULT_STORE,
    tag: Annotated[str | None, typer.Option(metavar="TAG", help="Only sweeps with this tag.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="DATE|90d", help="Only sweeps that began then or later, or so long ago.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, metavar="N", help="At most so many, the newest; 0: all.")] = 20,
    as_json: JsonOption = False,
    verbosity: VerbosityOption = None,
) -> int:
    """List the sweeps of a store, the newest first.

    Each with its title, its tags, how many of its cells have a number, and what its rows and files take on the disk.
    """
    from harness.archive import listing

    return print_output(listing.list_sweeps(store, tag, _moment(since), limit), as_json=as_json)


def show(
    sweep: SweepArgument = "latest",
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    verbosity: VerbosityOption = None,
) -> int:
    """Show the facts and the answers of a sweep."""
    from harness.archive import details

    return print_output(details.show_sweep(sweep, store), as_json=as_json)


def compare(
    first: Annotated[
        str, typer.Argument(metavar="A", autocompletion=complete_sweeps, help="The sweep to compare with.")
    ],
    other: Annotated[
        str, typer.Argument(metavar="B", autocompletion=complete_sweeps, help="The sweep that may have changed.")
    ],
    store: StoreOption = DEFAULT_STORE,
    markdown: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.md|-",
            parser=output_or_stdout("--markdown"),
            help="The table as Markdown, for a pull request; `-`: on standard output, and nothing else.",
        ),
    ] = None,
    as_json: JsonOption = False,
    verbosity: VerbosityOption = None,
) -> int:
    """Compare the throughput of each cell of two sweeps.

    Ratios B ÷ A with 95 % intervals over the trials; statistically tied where the interval holds 1.
    """
    from harness.publish import comparison

    check_printed(markdown, as_json=as_json)
    result = comparison.compare_stored(first, other, store, markdown)
    return report_lost_outputs(result.problems, print_output(result, as_json=as_json))


def tag(
    sweep: SweepArgument,
    tags: Annotated[list[str], typer.Argument(metavar="TAG ...", help="Tags to add: they name the sweep from now on.")],
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    verbosity: VerbosityOption = None,
) -> int:
    """Add tags to a sweep; `sweeps prune` keeps it."""
    from harness.archive import editing

    return print_output(editing.add_tags(sweep, tags, store), as_json=as_json)


def untag(
    sweep: SweepArgument,
    tags: Annotated[list[str], typer.Argument(metavar="TAG ...", help="Tags to remove.")],
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    verbosity: VerbosityOption = None,
) -> int:
    """Remove tags from a sweep."""
    from harness.archive import editing

    return print_output(editing.remove_tags(sweep, tags, store), as_json=as_json)


def note(
    sweep: SweepArgument,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The note; an empty one removes it.")],
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    verbosity: VerbosityOption = None,
) -> int:
    """Replace the note of a sweep."""
    from harness.archive import editing

    return print_output(editing.set_note(sweep, text, store), as_json=as_json)


def rename(
    sweep: SweepArgument,
    title: Annotated[str, typer.Argument(metavar="TITLE", help="The title; an empty one: what ran.")],
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    verbosity: VerbosityOption = None,
) -> int:
    """Replace the title of a sweep; its id stays."""
    from harness.archive import editing

    return print_output(editing.set_title(sweep, title, store), as_json=as_json)


def delete(
    sweeps: Annotated[
        list[str], typer.Argument(metavar="SWEEP ...", autocompletion=complete_sweeps, help=f"{SWEEP_NAMES}.")
    ],
    store: StoreOption = DEFAULT_STORE,
    yes: YesOption = False,
    unfinished: UnfinishedOption = False,
    as_json: JsonOption = False,
    verbosity: VerbosityOption = None,
) -> int:
    """Delete sweeps with their logs and pages beside the store.

    It says what goes, and asks. A sweep that runs is refused.
    """
    from harness.archive import deletion

    confirm = _confirmed if yes else _asked
    return _print_deletion(deletion.delete_sweeps(sweeps, store, confirm, unfinished=unfinished), as_json=as_json)


def prune(
    store: StoreOption = DEFAULT_STORE,
    keep: Annotated[int | None, typer.Option(min=1, metavar="N", help="The newest N sweeps stay.")] = None,
    older_than: Annotated[
        str | None, typer.Option(metavar="90d", help="Sweeps go that began longer ago; with --keep where both say so.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it, only say what would go.")] = False,
    unfinished: UnfinishedOption = False,
    as_json: JsonOption = False,
    verbosity: VerbosityOption = None,
) -> int:
    """Delete old sweeps, or say which would go.

    Tagged ones and baselines stay, as do those that run.
    """
    from harness.archive import deletion
    from harness.planning.flags import parse_age

    if keep is None and older_than is None:
        raise UsageError("prune: say what goes, with --keep N, --older-than 90d, or both")
    age = None if older_than is None else timedelta(seconds=parse_age("--older-than", older_than))
    pruned = deletion.prune_sweeps(store, keep, age, dry_run=not yes, unfinished=unfinished)
    status = _print_deletion(pruned, as_json=as_json)
    if pruned.sweeps and not yes and not as_json:
        stderr_console().print("nothing was deleted; add --yes to delete them")
    return status


SUBCOMMANDS: Mapping[str, Callable[..., int]] = {
    "list": list_sweeps,
    "show": show,
    "compare": compare,
    "tag": tag,
    "untag": untag,
    "note": note,
    "rename": rename,
    "delete": delete,
    "prune": prune,
}


def _print_deletion(deletion: Deletion, *, as_json: bool) -> int:
    return report_lost_outputs(deletion.problems, print_output(deletion, as_json=as_json))


def _confirmed(deletion: Deletion) -> bool:
    return True


def _asked(deletion: Deletion, source: TextIO | None = None) -> bool:
    """Whether a person at a terminal wants it. Raises :class:`UsageError` where there is no terminal."""
    from reports.formats.console import TextConsole, print_line

    source = source or sys.stdin
    if not source.isatty():
        raise UsageError("delete: nobody is there to be asked; add --yes")
    console = TextConsole(stderr=True)
    for line in deletion.lines():
        print_line(console, line)
    print("Delete? [y/N] ", end="", file=sys.stderr, flush=True)
    return source.readline().strip().lower() in ("y", "yes")


def _moment(since: str | None) -> datetime | None:
    from harness.planning.flags import parse_age
    from harness.store.dates import parse_moment

    if since is None:
        return None
    moment = parse_moment(since)
    return moment or datetime.now(UTC) - timedelta(seconds=parse_age("--since", since))
