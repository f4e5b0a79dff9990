"""The host's time of a step beside the GPU's: who waits for whom."""

from __future__ import annotations

from collections.abc import Sequence

from reports.analysis import formatting
from reports.analysis.cells import Cell
from reports.analysis.stats import Estimate
from reports.page.elements import Figure, Series, Table
from reports.page.palette import HOST_GPU_COLOURS, meaning_style, neutral_style
from reports.page.series import cell_title, interval_series

STEP, HOST, GPU = "step", "host, until it is launched", "GPU, its work"
STYLES = {
    STEP: neutral_style(),
    HOST: meaning_style(HOST_GPU_COLOURS, "host").variant(1),
    GPU: meaning_style(HOST_GPU_COLOURS, "gpu").variant(1),
}
NOTE = (
    "Host: from the beginning of a step until all its work is launched; a host that is far ahead waits for room in the "
    "GPU's queue, and then takes as long as the GPU. GPU: how long a step takes whose launches were all made before it "
    "began. Both overlap, so that they don't add up to the step: it takes about as long as the longer one."
)


def host_device_figure(key: str, cells: Sequence[Cell]) -> Figure | None:
    """Bars of a step, of its launches on the host and of its work on the GPU; ``None`` where neither is known."""
    shown = [cell for cell in cells if cell.host_step_s is not None or cell.device_busy_s is not None]
    if not shown:
        return None
    titles = tuple(cell_title(cell, cells) for cell in shown)
    rows = tuple((title, *_columns(cell)) for title, cell in zip(titles, shown, strict=True))
    header = ("backend", STEP, HOST, GPU, "GPU's share of the step")
    return Figure(
        f"{key}-host-device",
        "Host and GPU in a step",
        "",
        "time of a step",
        tuple(
            _series(name, [_estimates(cell)[name] for cell in shown])
            for name in STYLES
            if any(_estimates(cell)[name] for cell in shown)
        ),
        _caption(titles, shown),
        Table("Host and GPU in a step", header, rows, NOTE),
        categories=titles,
        bars=True,
        seconds=True,
    )


def _estimates(cell: Cell) -> dict[str, Estimate | None]:
    return {STEP: cell.step_s, HOST: cell.host_step_s, GPU: cell.device_busy_s}


def _series(name: str, estimates: Sequence[Estimate | None]) -> Series:
    points = [
        (float(place), value.value, value.low, value.high) for place, value in enumerate(estimates) if value is not None
    ]
    return interval_series(name, points, STYLES[name])


def _columns(cell: Cell) -> tuple[str, ...]:
    times = tuple(formatting.duration_estimate(value) for value in _estimates(cell).values())
    if cell.device_busy_s is None or cell.step_s is None:
        return (*times, f"unknown: {cell.device_busy_reason}" if cell.device_busy_reason else "–")
    return (*times, formatting.quantity(cell.device_busy_s.value / cell.step_s.value, "1"))


def _caption(titles: Sequence[str], cells: Sequence[Cell]) -> str:
    """Whose GPU waits most, and where its time is unknown."""
    known = [
        (cell.device_busy_s.value / cell.step_s.value, title, cell.device_busy_s, cell.step_s)
        for title, cell in zip(titles, cells, strict=True)
        if cell.device_busy_s is not None and cell.step_s is not None
    ]
    text = "Error bars are 95 % intervals over trials."
    if known:
        _, title, busy, step = min(known, key=lambda entry: entry[0])
        of_step = f"{formatting.duration(busy.value)} of a step of {formatting.duration(step.value)}"
        most = "" if len(known) == 1 else ", which waits most,"
        text = f"{title}: the GPU{most} works for {of_step}. {text}"
    titles_by_reason: dict[str, list[str]] = {}
    for title, cell in zip(titles, cells, strict=True):
        if cell.device_busy_s is None and cell.device_busy_reason:
            titles_by_reason.setdefault(cell.device_busy_reason, []).append(title)
    unknown = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in titles_by_reason.items())
    return f"{text} The GPU's time is unknown — {unknown}." if unknown else text
