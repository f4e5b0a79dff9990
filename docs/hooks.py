"""Pages of the documentation that are written from the code: commands, options, flags, and the files at the root."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from harness.cli.app import app
from harness.setup.inventory import list_plugins
from reports.analysis.flags import FLAG_MEANINGS
from reports.analysis.formatting import number
from reports.analysis.law_accuracy import HeldOut, accuracy, hold_out, look_ahead, parse_curves
from reports.formats.answer_rows import AnswerRow
from reports.formats.cell_rows import CellRow
from reports.formats.columns import columns_of
from reports.formats.step_rows import StepRow
from reports.formats.sweep_rows import SweepRow
from reports.formats.trial_rows import TrialRow

ROOT = Path(__file__).resolve().parents[1]
ROOT_PAGES = {
    "project/decisions.md": "DECISIONS.md",
    "project/contributing.md": "CONTRIBUTING.md",
    "project/security.md": "SECURITY.md",
    "project/changelog.md": "CHANGELOG.md",
}
"""Page to the file at the root of the repository that it shows."""
FRAMES = {"Sweeps": SweepRow, "Answers": AnswerRow, "Cells": CellRow, "Trials": TrialRow, "Steps": StepRow}
HELD_OUT_HEADER = (
    "curve",
    "measured",
    "known ranks",
    "predicted for",
    "predicted (95 %)",
    "measured value",
    "error",
    "naive error",
    "inside",
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to the site."""
    pages = {
        "reference/commands.md": commands_page(),
        "reference/options.md": options_page(),
        "reference/flags.md": flags_page(),
        "reference/columns.md": columns_page(),
        "concepts/prediction-accuracy.md": prediction_accuracy_page(),
        **{page: root_page(ROOT / name) for page, name in ROOT_PAGES.items()},
    }
    for page, content in pages.items():
        files.append(File.generated(config, page, content=content))
    return files


def on_page_content(html: str, **_: Any) -> str:
    """Show the roles of docstrings (``:class:`Case```) as code."""
    return re.sub(r":(?:attr|class|data|func|meth|mod):<code>~?", "<code>", html)


def commands_page() -> str:
    """Every command with its arguments, options and examples, from the command line's own help."""
    group: Any = typer.main.get_command(app)
    context = group.make_context("python -m harness", ["list"], resilient_parsing=True)
    sections = ["# Commands", group.help or ""]
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        sections += command_section(name, command, context)
        for part, function in getattr(command, "commands", {}).items():
            sections += command_section(f"{name} {part}", function, context)
    return "\n\n".join(sections) + "\n"


def command_section(name: str, command: Any, context: Any) -> Iterator[str]:
    """The Markdown blocks of one command."""
    yield f"## {name}"
    yield cleandoc(command.help or "")
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    names = [(parameter.metavar or parameter.name.upper(), parameter.required) for parameter in arguments]
    usage = " ".join([name, "[OPTIONS]", *(place if required else f"[{place}]" for place, required in names)])
    yield f"```text\npython -m harness {usage}\n```"
    records = [parameter.get_help_record(context) for parameter in command.params]
    yield table(
        ("argument or option", "meaning"), [(cell(f"`{record[0]}`"), cell(record[1])) for record in records if record]
    )
    if command.epilog:
        yield command.epilog


def options_page() -> str:
    """Options of backends, workloads and sites with their defaults."""
    plugins = list_plugins()
    sections = [
        "# Options of plugins",
        "The full name of an option is SCOPE.NAME.OPTION, such as `backend.ddp.bucket_cap_mb`. Set it with"
        " `--set backend.ddp.bucket_cap_mb=25` or in a [suite](suites.md). The scope may be left out while one plugin"
        " alone has such an option. `python -m harness list` prints the options of the installed version.",
    ]
    for kind in ("backends", "workloads", "sites"):
        sections.append(f"## {kind.capitalize()}")
        for plugin in plugins[kind]:
            sections += [f"### {kind[:-1]}.{plugin['name']}", cell(plugin["summary"])]
            if transports := plugin.get("transports"):
                sections.append(
                    "\n".join(f"- transports on `{device}`: {', '.join(names)}" for device, names in transports.items())
                )
            if plugin["options"]:
                rows = [
                    (f"`{option['name']}`", cell(option["description"]), cell(f"`{option_default(option)}`"))
                    for option in plugin["options"]
                ]
                sections.append(table(("option", "meaning", "default"), rows))
    return "\n\n".join(sections) + "\n"


def option_default(option: dict[str, Any]) -> str:
    """The default as text; the interpreter that builds the documentation is nobody else's default."""
    return "python" if option["default"] == sys.executable else str(option["default"])


def flags_page() -> str:
    """Flags with what was seen and the remedy."""
    rows = [(f"`{flag}`", cell(seen), cell(remedy)) for flag, (seen, remedy) in FLAG_MEANINGS.items()]
    return "\n\n".join(
        [
            "# Flags",
            "A flag stands beside a number whose conditions deserve attention. Flags never change the number.",
            table(("flag", "what was seen", "what to do"), rows),
        ]
    )


def columns_page() -> str:
    """The columns of data frames and exported rows."""
    sections = [
        "# Columns of tables",
        "Data frames of the [library](library.md) have these columns, in this order; new ones are appended. `export`"
        " writes those of trials to CSV and Parquet, where a time is text. A missing value (`NA`, an empty cell) is"
        " unknown or does not apply. Mappings are JSON text, lists are joined by semicolons. A unit of 1 is that of a"
        " share or a ratio; one that is a name of a column (`unit`) is what the row holds there.",
    ]
    for title, row_type in FRAMES.items():
        rows = [
            (f"`{column.name}`", f"`{column.frame_dtype}`", cell(column.unit or ""), cell(column.description))
            for column in columns_of(row_type)
        ]
        sections += [f"## {title}", table(("column", "type", "unit", "meaning"), rows)]
    return "\n\n".join(sections) + "\n"


def prediction_accuracy_page() -> str:
    """The published curves, each with its last rank count as predicted from the others."""
    curves = parse_curves((ROOT / "tests" / "data" / "published_curves.toml").read_text())
    results = hold_out(curves)
    total, by_source = accuracy(results), accuracy(hold_out(curves, by_group=True))
    summary = [
        ("scaling laws", percent(total.median_error), percent(total.ninth_decile)),
        (
            "efficiency of the largest known rank count",
            percent(total.median_error_last_efficiency),
            percent(total.ninth_decile_last_efficiency),
        ),
        (
            "efficiency of the smallest rank count",
            percent(total.median_error_linear),
            percent(total.ninth_decile_linear),
        ),
    ]
    sections = [
        "# Accuracy of predictions",
        f"{total.curves} published scaling curves of distributed training,"
        f" from {len({curve.group for curve in curves})} sources. The throughput at the last rank count of each is"
        " predicted by [scaling laws](predictions.md#scaling-laws) from the smaller rank counts. The step model needs"
        " measurements that nobody publishes, so it is not judged here.",
        table(("prediction by", "median absolute error", "nine tenths are within"), summary),
        f"The 95 % interval holds the measured value of {total.held} of {total.curves} curves"
        f" ({percent(total.held / total.curves)}), where its constant is that of all other curves, and of"
        f" {by_source.held} where it is that of all curves of other sources. {total.without_law} of the curves have no"
        " law. That constant is the only parameter that is fitted to these curves; each law has one to three"
        " parameters, fitted to the smaller rank counts of the curve itself.",
        "Most of these curves continue smoothly, and the efficiency of the largest known rank count is then as good a"
        " prediction; laws are better where efficiency declines. No law foresees a limit that only more ranks meet,"
        " such as the first step onto another node.",
        "From the first three and more rank counts of each curve to all of its larger ones:",
        table(
            ("doublings ahead", "predictions", "inside the interval", "median absolute error"),
            [
                (str(ahead.doublings), str(ahead.predictions), str(ahead.held), percent(ahead.median_error))
                for ahead in look_ahead(curves)
            ],
        ),
        "The last rank count of each curve:",
        table(HELD_OUT_HEADER, [held_out_row(result) for result in results]),
        "Naive: the efficiency of the largest known rank count. Values are totals over all ranks.",
    ]
    return "\n\n".join(sections) + "\n"


def held_out_row(result: HeldOut) -> tuple[str, ...]:
    """A curve in the table of :func:`prediction_accuracy_page`."""
    curve = result.curve
    unit = {"all": curve.unit, "rank": f"{curve.unit} × ranks", "time": f"1/({curve.unit})"}[curve.per]
    predicted = error = inside = "–"
    if result.predicted is not None and result.error is not None:
        predicted = f"{number(result.predicted)} ({number(result.low or 0)}–{number(result.high or 0)})"
        error, inside = percent(result.error, "+"), "yes" if result.held else "no"
    return (
        f"[{cell(curve.name)}]({curve.source})",
        cell(curve.measured),
        ", ".join(map(str, curve.ranks[:-1])),
        str(curve.ranks[-1]),
        predicted,
        f"{number(result.measured)} {unit}",
        error,
        percent(result.last_efficiency / result.measured - 1, "+"),
        inside,
    )


def percent(share: float, sign: str = "") -> str:
    """``2.4 %``"""
    return f"{100 * share:{sign}.1f} %"


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(text: str | None) -> str:
    """Text that fits a cell of a table: outside code, characters that Markdown interprets are escaped."""
    parts = " ".join((text or "").split()).split("`")
    parts[::2] = [re.sub(r"[\[|*<]", r"\\\g<0>", part) for part in parts[::2]]
    return "`".join(parts)


def root_page(path: Path) -> str:
    """A file of the repository's root, with its links as seen from `docs/project/`."""
    text = path.read_text()
    text = re.sub(r"\]\(docs/([^)]+)\)", r"](../\1)", text)
    pages = {name: page.removeprefix("project/") for page, name in ROOT_PAGES.items()}
    return re.sub(r"\]\(([A-Z]+\.md)((?:#[^)]*)?)\)", lambda link: f"]({pages[link[1]]}{link[2]})", text)
