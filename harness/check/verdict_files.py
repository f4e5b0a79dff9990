"""The files of a verdict: JUnit XML, Markdown and a page."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from harness.check.checks import CheckResult
from harness.errors import OutputError
from harness.output_files import OutputFile, check_outputs, write_output
from harness.store.location import store_path
from reports.formats.summary import badge
from reports.formats.verdict import junit, markdown
from reports.page import html
from reports.page.check_page import make_check_page


class VerdictFormat(NamedTuple):
    """How a verdict is written, and by what such a file is recognised."""

    render: Callable[[CheckResult], str]
    signature: re.Pattern[bytes]


FORMATS = {
    "junit": VerdictFormat(lambda result: junit.junit(result.judgement), junit.SIGNATURE),
    "markdown": VerdictFormat(lambda result: markdown.markdown(result.judgement), markdown.SIGNATURE),
    "badge": VerdictFormat(lambda result: badge.badge_svg(badge.verdict_badge(result.judgement)), badge.SIGNATURE),
    "html": VerdictFormat(lambda result: html.render(make_check_page(result.judgement, result.series)), html.SIGNATURE),
}
"""By the name of the option."""


def verdict_outputs(paths: Mapping[str, Path | None], store: str) -> dict[str, OutputFile]:
    """The files that were asked for, by format. Raises :class:`OutputError` where one can't be written."""
    outputs = {
        name: OutputFile(f"--{name}", path, FORMATS[name].signature) for name, path in paths.items() if path is not None
    }
    check_outputs(list(outputs.values()), store_path(store))
    return outputs


def write_verdict(result: CheckResult, outputs: Mapping[str, OutputFile]) -> list[str]:
    """Write the files; returns why some could not be written."""
    problems = []
    for name, output in outputs.items():
        try:
            write_output(output, FORMATS[name].render(result))
        except OutputError as problem:
            problems.append(str(problem))
    return problems
