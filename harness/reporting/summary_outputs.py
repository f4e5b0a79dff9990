"""What is written of a sweep beside its page: its first screen as Markdown, drawings as SVG and PNG, a badge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError
from harness.output_files import OutputFile
from reports.analysis.answers import WorkloadAnswer
from reports.formats.summary import badge, figures, markdown, png, standalone_svg
from reports.page.elements import Page

STANDARD_OUTPUT = Path("-")
"""In place of a file: the text goes to standard output, and nothing else does."""


@dataclass(frozen=True)
class SummaryPaths:
    """The files and folders that the options name; ``None``: not wanted."""

    markdown: Path | None = None
    """A file, or :data:`STANDARD_OUTPUT`."""
    svg: Path | None = None
    """A folder."""
    png: Path | None = None
    """A folder."""
    badge: Path | None = None
    """An SVG file."""

    @property
    def printed(self) -> bool:
        """Whether the Markdown goes to standard output."""
        return self.markdown == STANDARD_OUTPUT

    @property
    def wanted(self) -> bool:
        return any(path is not None for path in (self.markdown, self.svg, self.png, self.badge))

    def known_outputs(self) -> list[OutputFile]:
        """Those whose names do not depend on the sweep, to be checked before it.

        Raises:
            UsageError: A package that draws is not installed.
        """
        if self.png is not None and (missing := png.missing_package()) is not None:
            raise UsageError(f"--png {self.png}: {missing}")
        named = (
            ("--markdown", None if self.printed else self.markdown, markdown.SIGNATURE),
            ("--badge", self.badge, badge.SIGNATURE),
        )
        return [OutputFile(option, path, signature) for option, path, signature in named if path is not None]


NO_SUMMARIES = SummaryPaths()
Content = tuple[OutputFile, str | bytes]


def contents(paths: SummaryPaths, page: Page, answers: Sequence[WorkloadAnswer]) -> list[Content]:
    """The files with what they will hold.

    Args:
        paths: What is wanted.
        page: Of the sweep.
        answers: Of the sweep, for its badge.

    Raises:
        UsageError: A package that draws is not installed.
    """
    texts = {
        "--markdown": lambda: markdown.markdown(page),
        "--badge": lambda: badge.badge_svg(badge.scaling_badge(answers)),
    }
    return [
        *((output, texts[output.option]()) for output in paths.known_outputs()),
        *_drawings(paths, page),
    ]


def _drawings(paths: SummaryPaths, page: Page) -> Iterator[Content]:
    if paths.svg is not None:
        for name, svg in figures.drawings(page).items():
            file = paths.svg / f"{name}.svg"
            yield OutputFile("--svg", file, standalone_svg.SIGNATURE, creates_folder=True), svg
    if paths.png is not None:
        for name, svg in figures.drawings(page, dark=False).items():
            yield OutputFile("--png", paths.png / f"{name}.png", png.SIGNATURE, creates_folder=True), png.png(svg)
