"""Pictures of pages, for people to look at.

``python -m tests.support.screenshots FOLDER``: five pages that are made without running a rank, each at three widths,
light and dark, and printed. ``python -m tests.support.screenshots PAGE.html PICTURE.png``: the first screen of a page.
"""

from __future__ import annotations

import base64
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reports.analysis.comparison import Night, compare, labelled, night_cell
from reports.analysis.findings import analyse_cells
from reports.page.check_page import make_check_page
from reports.page.elements import Page
from reports.page.html import render
from reports.page.index_page import make_index
from reports.page.sweep_page import make_page
from tests.support import judgements
from tests.support.chromium import Browser, chromium
from tests.support.node_sweeps import placed
from tests.support.sweep_cells import PROVENANCE, sweep_cells, sweep_page

WIDTHS = (1400, 900, 390)
SCHEMES = ("light", "dark")
FIRST_SCREEN_HEIGHT = 900
MAX_HEIGHT = 3000
"""Of a picture, in pixels: what is below it looks like what is above."""


def emulated_page() -> Page:
    """Two ranks on each of up to four nodes."""
    title = "synthetic and allreduce over emulated nodes"
    return make_page(title, analyse_cells(placed(nodes=(1, 2, 4, 8))), [], PROVENANCE)


def comparison_page() -> Page:
    """The same sweep twice, the second time 8 % slower."""
    first, other = sweep_cells(), sweep_cells(1.08)
    cells = [*labelled(first, "A"), *labelled(other, "B")]
    provenance = [(name, value, value) for name, value in PROVENANCE]
    title = "A = monday, B = tuesday"
    return make_page(title, analyse_cells(cells), [], provenance, [compare("A", first, "B", other)])


def index_page() -> Page:
    """Three nights, of which the last is 8 % slower."""
    nights = [
        Night(
            sweep=f"night-{number}",
            href=f"night-{number}.html",
            started_at=f"2026-11-2{number}T01:00:00+00:00",
            finished=True,
            suite="nightly",
            commit=f"{number}1a2b3c",
            machine="node7",
            place={"host": "node7"},
            cells=tuple(map(night_cell, sweep_cells(slowdown))),
        )
        for number, slowdown in enumerate((1.0, 1.001, 1.08), 4)
    ]
    return make_index(nights)


PAGES: Mapping[str, Callable[[], Page]] = {
    "quick": sweep_page,
    "emulated": emulated_page,
    "comparison": comparison_page,
    "verdict": lambda: make_check_page(judgements.everything(), judgements.history()),
    "index": index_page,
}


@dataclass(frozen=True)
class View:
    """How one page looked: its name, its width and scheme, its height and the width of what it holds, in pixels."""

    name: str
    width: int
    scheme: str
    height: int
    content_width: int


def write_pages(folder: Path) -> dict[str, Path]:
    """The pages as files, by name."""
    files = {name: folder / f"{name}.html" for name in PAGES}
    for name, file in files.items():
        file.write_text(render(PAGES[name]()), encoding="utf-8")
    return files


def take(browser: Browser, files: Mapping[str, Path], folder: Path, widths: Sequence[int] = WIDTHS) -> Iterator[View]:
    """Take the pictures of pages, as a reader finds them: ``quick-390-dark.png``, ``quick.pdf``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, file in files.items():
        browser.open(file)
        for width in widths:
            browser.width(width)
            for scheme in SCHEMES:
                browser.media(scheme)
                height, content_width = browser.run(
                    "const page = document.documentElement; return [page.scrollHeight, page.scrollWidth]"
                )
                picture = _picture(browser, width, min(height, MAX_HEIGHT))
                (folder / f"{name}-{width}-{scheme}.png").write_bytes(picture)
                yield View(name, width, scheme, height, content_width)
        browser.width(widths[0])
        browser.media(kind="print")
        (folder / f"{name}.pdf").write_bytes(base64.b64decode(browser.send("Page.printToPDF", {})["data"]))


def _picture(browser: Browser, width: int, height: int) -> bytes:
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    options = {"format": "png", "captureBeyondViewport": True, "clip": clip, "optimizeForSpeed": True}
    return base64.b64decode(browser.send("Page.captureScreenshot", options)["data"])


def first_screen(browser: Browser, page: Path) -> bytes:
    """The picture of what a reader of a page sees first, as docs/report.png."""
    browser.width(WIDTHS[0])
    browser.media()
    browser.open(page.resolve())
    return _picture(browser, WIDTHS[0], FIRST_SCREEN_HEIGHT)


def main(arguments: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory() as profile, chromium(Path(profile)) as browser:
        if len(arguments) == 2:
            Path(arguments[1]).write_bytes(first_screen(browser, Path(arguments[0])))
            return
        folder = Path(arguments[0])
        folder.mkdir(parents=True, exist_ok=True)
        for view in take(browser, write_pages(folder), folder):
            print(f"{view.name} {view.width} {view.scheme}: {view.height} px")


if __name__ == "__main__":
    main(sys.argv[1:])
