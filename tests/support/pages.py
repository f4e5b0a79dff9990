"""Pages for tests: one with everything that a figure and a table can be, one of as many points as is asked for."""

from __future__ import annotations

import random

from reports.analysis.findings import analyse_cells
from reports.analysis.predictions import DEFAULT_PREDICT_OPTIONS
from reports.page.elements import Download, Figure, Hyperlink, Page, Section, Series, Table
from reports.page.palette import backend_style
from reports.page.sweep_page import make_page

RANKS = (1, 2, 4, 8, 16)
BACKENDS = ("ddp/gloo", "horovod/mpi", "dask/tasks", "single/none")
BACKGROUNDS = ("#ffffff", "#14171c")
"""Of a page in its light and its dark scheme."""
CSV = "key,ranks\n" + "ddp </script><b>é,1\n" * 40


def page_of(cells, options=DEFAULT_PREDICT_OPTIONS) -> Page:
    """The page of a sweep's cells alone."""
    return make_page("t", analyse_cells(cells, options), [], [])


def figures_of(page: Page) -> list[Figure]:
    return [figure for section in page.sections for figure in section.figures]


def series(name, x, y, style=0, low=None, high=None, hollow=None, mark="points"):
    unknown = (None,) * len(x)
    return Series(
        name,
        tuple(map(float, x)),
        tuple(map(float, y)),
        tuple(low or unknown),
        tuple(high or unknown),
        backend_style(style).fitted("usl") if mark == "fitted" else backend_style(style),
        tuple(hollow or (False,) * len(x)),
        mark,
    )


def figure(key="f", curves=(), title="Title", x_title="ranks", y_title="y", rows=3, **more):
    table = Table(f"Numbers of {key}", ("backend", "value (95 %)"), tuple(("ddp", f"{n} (0–9)") for n in range(rows)))
    return Figure(key, title, x_title, y_title, tuple(curves), f"{title} is as expected.", table, **more)


def throughput() -> Figure:
    """Four backends with intervals, the last two points hollow, and two fitted lines, one with a band."""
    curves = []
    for style, name in enumerate(BACKENDS):
        y = [1000 * ranks / (1 + 0.05 * (style + 1) * (ranks - 1)) for ranks in RANKS]
        hollow = (False, False, False, True, True)
        curves.append(series(name, RANKS, y, style, [0.9 * v for v in y], [1.1 * v for v in y], hollow))
    x = [1 + 15 * n / 40 for n in range(41)]
    y = [1000 * ranks / (1 + 0.05 * (ranks - 1)) for ranks in x]
    curves.append(series("ddp/gloo: Amdahl", x, y, 0, [0.95 * v for v in y], [1.05 * v for v in y], mark="fitted"))
    curves.append(series("horovod/mpi: USL", x, [0.7 * v for v in y], 1, mark="fitted"))
    return figure("throughput", curves, "Throughput", y_title="throughput (samples/s)")


def bandwidth() -> Figure:
    sizes = [2**power for power in range(10, 27)]
    curves = [
        series(f"ddp/gloo, {ranks} ranks", sizes, [1e9 * s / (s + 1e5 * ranks) for s in sizes]) for ranks in (2, 4, 8)
    ]
    return figure(
        "bandwidth", curves, "Bus bandwidth", "message (bytes)", "bus bandwidth (B/s)", log_x=True, log_y=True
    )


def telemetry() -> Figure:
    noise = random.Random(1)
    time_s = [number / 10 for number in range(1000)]
    curves = [
        series(f"rank {rank}", time_s, [noise.uniform(0.1, 0.9) for _ in time_s], rank, mark="line")
        for rank in range(2)
    ]
    return figure(
        "telemetry", curves, "Utilisation", "time (s)", "busy", 1000, percent=True, window=(20.0, 80.0), wide=True
    )


def trials() -> Figure:
    noise = random.Random(2)
    places = [place for place in range(3) for _ in range(4)]
    here = series("here", places, [noise.gauss(900, 40) for _ in places], 0, mark="markers")
    baseline = series("baseline", range(3), (950, 1000, 900), 1, (900,) * 3, (1050,) * 3, mark="markers")
    names = ("mnist · ddp/gloo · strong", "synthetic <b> · ddp/gloo", "array_mean · dask/tasks")
    return figure("trials", (here, baseline), "Trials", "case", "throughput (samples/s)", categories=names)


def parts() -> Figure:
    layers = [series(name, range(3), (2, 3, number + 1), number) for number, name in enumerate(("own", "wait", "comm"))]
    return figure(
        "parts",
        layers,
        "Where the time goes",
        "backend",
        "step (ms)",
        stacked=True,
        wide=True,
        categories=("ddp, 1", "ddp, 2", "ddp, 4"),
    )


def speedup() -> Figure:
    curves = [series(name, RANKS, [ranks**0.8 for ranks in RANKS], style) for style, name in enumerate(BACKENDS)]
    return figure("speedup", curves, "Speed-up", y_title="speed-up", ideal="linear")


def everything(rows: int = 1000) -> Page:
    cells = tuple(
        (Hyperlink("synthetic", f"cells/{n}.html"), str(n), ("ok", "failed")[n % 50 == 7]) for n in range(rows)
    )
    return Page(
        "Report: <everything>",
        ("synthetic: at 16 ranks ddp/gloo is fastest.", "A sentence without a subject."),
        ("dask/tasks skipped: no scheduler",),
        (
            Section(
                "Training", "global batch 64", (throughput(), speedup(), bandwidth(), telemetry(), trials(), parts())
            ),
            Section("All cells", tables=(Table("All cells", ("workload", "ranks", "outcome"), cells, "A note."),)),
            Section("Training", "every rank", (figure("deep", [series("a", RANKS, RANKS)]),), folded=True),
        ),
        (Download("results.csv", "one row a trial", "text/csv", CSV),),
    )


def sized(figures: int, points: int = 1000, mark: str = "line") -> Page:
    """Noise, which packs worst; other marks than lines have intervals."""
    noise = random.Random(3)
    drawn = []
    for number in range(figures):
        x = [at / 10 for at in range(points)]
        y = [noise.lognormvariate(3, 0.4) for _ in x]
        low, high = ([v * noise.uniform(*ends) for v in y] for ends in ((0.8, 0.95), (1.05, 1.2)))
        curve = series("ddp/gloo", x, y, number, *((low, high) if mark != "line" else (None, None)), mark=mark)
        rows = tuple((f"{a:.1f} s", f"{b:.3g} ms", "–") for a, b in zip(x, y, strict=True))
        drawn.append(
            Figure(
                f"f{number}",
                f"Figure {number}",
                "time (s)",
                "step (ms)",
                (curve,),
                "Steps over time.",
                Table(f"Steps {number}", ("time", "step", "flags"), rows),
            )
        )
    return Page("t", ("a: b",), (), (Section("Steps", figures=tuple(drawn)),))
