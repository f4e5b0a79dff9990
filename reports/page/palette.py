"""The registry of colours, dashes, markers and patterns: what a series means decides how it looks on the whole page.

A meaning has its colour alone: backends, the parts of a step, operations and readings of a GPU share none. What has one
colour (a backend at several rank counts, or in two precisions) differs in dash, marker or pattern, so that no figure
needs colour to be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from bench.core.case import Case
from reports.analysis.case_titles import UNNAMED_TRANSPORTS
from reports.analysis.cells import CellLabels

T = TypeVar("T")

BACKEND_COLOURS = ("#0b7fc7", "#d55e00", "#0a8f6a", "#b5588c", "#7d6fd1", "#8a7a1f", "#c2414b", "#8c5f50")
STEP_PART_COLOURS = {
    "forward": "#5490f0",
    "backward": "#4860cc",
    "optimizer": "#007884",
    "data": "#609c18",
    "unattributed": "#9c906c",
    "waiting": "#c08400",
    "exposed": "#9c48a8",
    "slower": "#cc7878",
}
"""Of the parts of a step, and of the losses of efficiency: waiting and exposed communication are both."""
HOST_GPU_COLOURS = {"host": "#6c6090", "gpu": "#548424"}
"""Of the host's and the GPU's share in a step."""
GPU_COLOURS = {
    "gpu_utilization": "#249cb4",
    "gpu_sm_activity": "#007800",
    "gpu_tensor_activity": "#cc6ccc",
    "gpu_dram_activity": "#a86000",
}
"""Of readings of one GPU."""
OPERATION_COLOURS = {
    "all_reduce": "#7890c0",
    "all_gather": "#d8609c",
    "reduce_scatter": "#609c84",
    "all_to_all": "#906c9c",
    "broadcast": "#606c3c",
    "send_recv": "#a884b4",
}
NIGHT_COLOURS = {"level": "#007854", "newest": "#905478", "pairs": "#a878e4"}
"""Of the page of a nightly check: the level of the nights, the newest night, and pairs against the base."""
NEUTRAL_COLOUR = "#7a828c"
"""Of what compares with a series and is none of these: ideal lines, roofs, statistics of all ranks."""
DASHES: tuple[tuple[int, ...], ...] = ((), (7, 3), (2, 2), (7, 3, 2, 3), (12, 4), (12, 3, 2, 3))
"""Lengths of dashes and gaps in pixels."""
MARKERS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "pentagon")
PATTERNS = ("", "/", "x", ".", "\\", "-", "|")
IDEAL_DASH = (2, 4)
LAW_DASHES = {
    "usl": (1, 3),
    "amdahl": (3, 4),
    "log": (1, 5),
    "predicted": (5, 3, 1, 3),
    "ring": (1, 4),
    "tree": (4, 4),
    "flat ring": (1, 4),
    "hierarchical": (4, 4),
    "lower bound": (1, 2, 1, 5),
}
"""Of lines that were computed: fitted laws, predictions, and models of an allreduce."""


@dataclass(frozen=True)
class SeriesStyle:
    """How a series looks; ``dash`` is empty for a solid line, ``pattern`` for a plain bar."""

    colour: str
    dash: tuple[int, ...]
    marker: str
    pattern: str

    def fitted(self, law: str) -> SeriesStyle:
        """The style of a line that was computed for this series by a law of :data:`LAW_DASHES`."""
        return replace(self, dash=LAW_DASHES.get(law, LAW_DASHES["predicted"]))

    def variant(self, number: int) -> SeriesStyle:
        """The same colour with another dash, marker and pattern: a further rank count or device of one backend."""
        return SeriesStyle(
            self.colour,
            _after(DASHES, self.dash, number),
            _after(MARKERS, self.marker, number),
            _after(PATTERNS, self.pattern, number),
        )


def stretched(dash: tuple[int, ...], number: int) -> tuple[int, ...]:
    """A dash whose last gap is longer: the same law of another series of the same colour."""
    return (*dash[:-1], dash[-1] + 2 * number) if dash else dash


def numbered_style(colour: str, number: int) -> SeriesStyle:
    """A colour with the dash, marker and pattern of a number."""
    return SeriesStyle(colour, _cycle(DASHES, number), _cycle(MARKERS, number), _cycle(PATTERNS, number))


def backend_style(number: int) -> SeriesStyle:
    """The style of the backend with this number; of more backends than colours, later ones differ in their dashes."""
    turn, hue = divmod(number, len(BACKEND_COLOURS))
    return numbered_style(BACKEND_COLOURS[hue], hue + turn)


def meaning_style(colours: Mapping[str, str], meaning: str) -> SeriesStyle:
    """The style of a meaning, by its place in its family: :data:`STEP_PART_COLOURS`, :data:`GPU_COLOURS`, …"""
    return numbered_style(colours[meaning], list(colours).index(meaning))


def neutral_style(number: int = 0) -> SeriesStyle:
    """The style of what compares with series."""
    return numbered_style(NEUTRAL_COLOUR, number)


class Styled(Protocol):
    """A cell of a sweep or of a night."""

    @property
    def case(self) -> Case:
        """What was measured."""

    @property
    def labels(self) -> CellLabels:
        """Its titles."""


def backend_styles(cells: Iterable[Styled]) -> dict[str, SeriesStyle]:
    """The style of each backend by its title, in the order of the cells (pure).

    Where every backend has at most two titles (two precisions, two sweeps), both have its colour, the first a solid
    line and the second a dashed one. The title of the backend alone has the style of its first.
    """
    cells = list(cells)
    by_sweep = len({cell.case.label for cell in cells}) > 1
    titles: dict[str, dict[str, None]] = {}
    for cell in cells:
        titles.setdefault(_compared(cell, by_sweep=by_sweep), {})[cell.labels.backend] = None
    for backend, of_backend in titles.items():
        if len(of_backend) > 1:
            of_backend.pop(backend, None)
    sizes = {len(of_backend) for of_backend in titles.values()}
    if sizes <= {1, 2} and 2 in sizes:
        styles = _paired_styles(titles)
    else:
        names = [name for of_backend in titles.values() for name in of_backend]
        styles = {name: backend_style(number) for number, name in enumerate(names)}
    firsts = {backend: styles[next(iter(of_backend))] for backend, of_backend in titles.items()}
    return {**firsts, **styles}


def _paired_styles(titles: Mapping[str, Iterable[str]]) -> dict[str, SeriesStyle]:
    """One colour for both titles of a backend, solid and dashed; markers and patterns differ between all."""
    styles: dict[str, SeriesStyle] = {}
    for number, of_backend in enumerate(titles.values()):
        for dash, name in zip(DASHES[:2], of_backend, strict=False):
            styles[name] = replace(
                backend_style(number),
                dash=dash,
                marker=_cycle(MARKERS, len(styles)),
                pattern=_cycle(PATTERNS, len(styles)),
            )
    return styles


def _compared(cell: Styled, *, by_sweep: bool) -> str:
    """What the titles that are compared have in common: the title without its sweep, or the backend alone."""
    case, title = cell.case, cell.labels.backend
    if by_sweep:
        return title.replace(f" · {case.label}", "") if case.label else title
    return case.backend if case.transport in UNNAMED_TRANSPORTS else f"{case.backend}/{case.transport}"


def _cycle(options: Sequence[T], number: int) -> T:
    return options[number % len(options)]


def _after(options: Sequence[T], own: T, number: int) -> T:
    return _cycle(options, (options.index(own) if own in options else 0) + number)
