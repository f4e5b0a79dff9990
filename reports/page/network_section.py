"""Networks as an axis: efficiency and step time over what the links carried, foretold beside measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from reports.analysis import formatting
from reports.analysis.placement_effects import CellOverLink
from reports.page.elements import Figure, Section, Series, Table

RATE_TITLE = "what a link carries (B/s)"
NOTE = (
    "Foretold: measured compute + the exchange by α and β of that network. Floor: each of n nodes sends 2(n−1)/n of "
    "the gradients at the least, so that no step is shorter. Rates are of payload each way, as they were measured "
    "before the trials."
)


def sections(found: Sequence[CellOverLink], styles: Mapping[str, int]) -> Iterator[Section]:
    """One, where the same ranks were measured over several networks."""
    if found:
        figures = tuple(
            figure for number, group in enumerate(_groups(found)) for figure in _figures(f"net-{number}", group, styles)
        )
        yield Section("Over networks of different speed", figures=figures, tables=(network_table(found),))


def network_table(found: Sequence[CellOverLink]) -> Table:
    rows = tuple(
        (
            one.labels.workload,
            one.labels.backend,
            one.labels.rank_count,
            one.case.scaling,
            one.net_title,
            f"{formatting.number(one.link_bytes_s)}B/s",
            formatting.percent(one.efficiency),
            _percent(one.modelled_efficiency),
            formatting.duration_estimate(one.step_s),
            _predicted_step(one),
            "–" if one.floor_s is None else formatting.duration(one.floor_s),
            _step_over_floor(one),
        )
        for one in found
    )
    header = (
        "workload",
        "backend",
        "ranks",
        "scaling",
        "network",
        "it carried",
        "efficiency (95 %)",
        "foretold",
        "median step",
        "foretold step",
        "the wire's floor",
        "step ÷ floor",
    )
    return Table("Over networks of different speed", header, rows, NOTE)


def compact_network_table(found: Sequence[CellOverLink]) -> Table:
    """The same with what fits a terminal or stands beside a figure."""
    rows = tuple(
        (
            f"{one.labels.workload} · {one.labels.backend_and_ranks}",
            one.net_title,
            formatting.percent(one.efficiency),
            _percent(one.modelled_efficiency),
            formatting.duration_estimate(one.step_s),
            "–" if one.modelled_step_s is None else formatting.duration(one.modelled_step_s),
            "–" if one.floor_s is None else formatting.duration(one.floor_s),
        )
        for one in found
    )
    header = ("of", "network", "efficiency (95 %)", "foretold", "step", "foretold step", "the wire's floor")
    return Table("Over networks of different speed", header, rows)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"


def _predicted_step(one: CellOverLink) -> str:
    if one.modelled_step_s is None:
        return f"– ({one.modelled_reason})"
    return formatting.duration(one.modelled_step_s)


def _step_over_floor(one: CellOverLink) -> str:
    if one.floor_s is None or one.step_s is None:
        return "–"
    return f"{formatting.number(one.step_s.value / one.floor_s)}×"


def _groups(found: Sequence[CellOverLink]) -> list[list[CellOverLink]]:
    groups: dict[tuple[str, str], list[CellOverLink]] = {}
    for one in found:
        groups.setdefault((one.labels.workload, one.case.scaling), []).append(one)
    return list(groups.values())


def _figures(key: str, found: Sequence[CellOverLink], styles: Mapping[str, int]) -> Iterator[Figure]:
    """Of each backend at the most ranks that were measured over several networks."""
    lines = [line for line in _lines(found) if len(line) > 1]
    title = f"{found[0].labels.workload} · {found[0].labels.scaling}"
    efficiency = tuple(one for line in lines for one in _efficiency(line, styles))
    if efficiency:
        summaries = "; ".join(_efficiency_summary(line) for line in lines if line[0].efficiency and line[-1].efficiency)
        yield Figure(
            f"{key}-efficiency",
            f"Efficiency over bandwidth: {title}",
            RATE_TITLE,
            "efficiency",
            efficiency,
            f"{summaries}. Dotted: foretold by α and β.",
            compact_network_table(found),
            "one",
            percent=True,
            log_x=True,
        )
    steps = (*(one for line in lines for one in _steps(line, styles)), *_floors(lines, styles))
    if steps:
        yield Figure(
            f"{key}-step",
            f"Step over bandwidth: {title}",
            RATE_TITLE,
            "step (ms)",
            steps,
            f"{_slowest_link_summary(lines)} Dotted: foretold, and the wire's floor.",
            compact_network_table(found),
            log_x=True,
            log_y=True,
        )


def _lines(found: Sequence[CellOverLink]) -> list[list[CellOverLink]]:
    """By backend, its cells at its most ranks, the slowest link first."""
    by_name: dict[str, list[CellOverLink]] = {}
    for one in found:
        by_name.setdefault(one.labels.backend, []).append(one)
    return [
        [one for one in own if one.case.ranks == max(other.case.ranks for other in own)] for own in by_name.values()
    ]


def _efficiency_summary(line: Sequence[CellOverLink]) -> str:
    slow, fast = line[0], line[-1]
    return (
        f"{slow.labels.backend_and_ranks}: {formatting.percent(slow.efficiency)} "
        f"over {slow.net_title}, "
        f"{formatting.percent(fast.efficiency)} over {fast.net_title}"
    )


def _slowest_link_summary(lines: Sequence[Sequence[CellOverLink]]) -> str:
    slow = next(line[0] for line in lines)
    floor = "" if slow.floor_s is None else f"; the wire alone takes {formatting.duration(slow.floor_s)}"
    return f"{slow.labels.backend_and_ranks} over {slow.net_title}: {formatting.duration_estimate(slow.step_s)}{floor}."


def _efficiency(line: Sequence[CellOverLink], styles: Mapping[str, int]) -> Iterator[Series]:
    name, style = line[0].labels.backend_and_ranks, styles[line[0].labels.backend]
    measured = [(_link_rate(one), one.efficiency) for one in line if one.efficiency is not None]
    if measured:
        yield _measured_series(name, [(x, y.value, y.low, y.high) for x, y in measured], style)
    foretold = [(_link_rate(one), one.modelled_efficiency) for one in line if one.modelled_efficiency is not None]
    if len(foretold) > 1:
        yield _predicted_series(f"{name}: foretold", foretold, style)


def _steps(line: Sequence[CellOverLink], styles: Mapping[str, int]) -> Iterator[Series]:
    name, style = line[0].labels.backend_and_ranks, styles[line[0].labels.backend]
    measured = [(_link_rate(one), one.step_s) for one in line if one.step_s is not None]
    if measured:
        yield _measured_series(name, [(x, 1e3 * y.value, _ms(y.low), _ms(y.high)) for x, y in measured], style)
    foretold = [(_link_rate(one), 1e3 * one.modelled_step_s) for one in line if one.modelled_step_s is not None]
    if len(foretold) > 1:
        yield _predicted_series(f"{name}: foretold", foretold, style)


def _floors(lines: Sequence[Sequence[CellOverLink]], styles: Mapping[str, int]) -> Iterator[Series]:
    """Backends that send as much have one in common."""
    seen: set[tuple[tuple[float, float], ...]] = set()
    for line in lines:
        points = tuple((_link_rate(one), 1e3 * one.floor_s) for one in line if one.floor_s is not None)
        if len(points) > 1 and points not in seen:
            name = "the wire's floor" if not seen else f"{line[0].labels.backend_and_ranks}: the wire's floor"
            yield _predicted_series(name, points, styles[line[0].labels.backend])
            seen.add(points)


def _link_rate(one: CellOverLink) -> float:
    """As exactly as an axis tells it: three digits."""
    return float(f"{one.link_bytes_s:.3g}")


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1e3 * seconds


def _measured_series(
    name: str, points: Sequence[tuple[float, float, float | None, float | None]], style: int
) -> Series:
    x, y, low, high = zip(*points, strict=True)
    return Series(name, x, y, low, high, style, (False,) * len(x))


def _predicted_series(name: str, points: Sequence[tuple[float, float]], style: int) -> Series:
    x, y = zip(*points, strict=True)
    unknown = (None,) * len(x)
    return Series(name, x, y, unknown, unknown, style, (False,) * len(x), look="fitted")
