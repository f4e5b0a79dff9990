"""Places in the tables of ``check --history``: benchmarks at different places are different series.

Labels are those of :func:`harness.importers.csv_labels.join_benchmark`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import suggest_name
from harness.importers.csv_labels import BadLabelError, split_benchmark
from harness.importers.csv_rows import CsvSchema, csv_error, read_header
from reports.regression.evidence import describe_differences
from reports.regression.places import Place, PlacedNight, Round, newest_round, place_labels, place_of


@dataclass(frozen=True)
class TablePlaces:
    """The places of benchmarks, and of the newest round of nights."""

    round: Round
    labels: Mapping[Place, str]
    """What tells a place from the others."""

    def name(self, label: str) -> str:
        """The name of a series: ``parse @ python 3.10``; the benchmark's where there is one place."""
        benchmark, fields = split_benchmark(label)
        place = self.labels.get(place_of(fields))
        return f"{benchmark} @ {place}" if place else benchmark

    def predecessor(self, label: str, past: Iterable[str]) -> str | None:
        """The series at the place that the label's place replaced, where the history has it."""
        benchmark, fields = split_benchmark(label)
        replaced = self.round.replaced.get(place_of(fields))
        return next((old for old in past if replaced is not None and _key(old) == (benchmark, replaced)), None)

    def why_incomparable(self, label: str, predecessor: str) -> str:
        """``python 3.12.2, not 3.12.1``"""
        return describe_differences(split_benchmark(label)[1], split_benchmark(predecessor)[1])


def table_places(present: Iterable[str], nights: Mapping[str, Iterable[str]], order: Mapping[str, int]) -> TablePlaces:
    """The places of a table.

    Args:
        present: Labels of the newest night.
        nights: By label, the earlier nights.
        order: Position of each earlier night, 0 for the oldest.
    """
    by_night: dict[str, set[Place]] = {}
    for label, of_label in nights.items():
        for night in of_label:
            by_night.setdefault(night, set()).add(_key(label)[1])
    placed = [
        PlacedNight(night, frozenset(by_night[night]), float(order[night]))
        for night in sorted(by_night, key=order.__getitem__)
    ]
    newest = PlacedNight("", frozenset(_key(label)[1] for label in present), float(len(order)))
    found = newest_round([*placed, newest])
    replaced = set(found.replaced.values())
    shown = [*newest.places, *(_key(label)[1] for label in nights)]
    return TablePlaces(found, place_labels(sorted({place for place in shown if place not in replaced})))


def check_same_columns(history: Path, current: Path, schema: CsvSchema, columns: Sequence[str]) -> None:
    """Raise :class:`UsageError` where one file says where its rows were measured and the other does not."""
    there, here = ({*columns} & {*read_header(path, schema)} for path in (history, current))
    for path, other, lacking in ((current, history, there - here), (history, current, here - there)):
        if lacking:
            name = next(column for column in columns if column in lacking)
            raise csv_error(path, 1, f"no column '{name}', which {other} has; add it, or remove it there")


def match_pair_label(label: str, known: Sequence[str], newest_night: str) -> str:
    """The label in the newest night that a table of pairs means. Raises :class:`BadLabelError`."""
    if label in known:
        return label
    benchmark, fields = split_benchmark(label)
    alike = [one for one in known if split_benchmark(one)[0] == benchmark]
    if len(alike) == 1 and not fields:
        return alike[0]
    if alike:
        columns = ", ".join(dict.fromkeys(name for one in alike for name in split_benchmark(one)[1]))
        message = f"night {newest_night} has '{benchmark}' at other places; say which by the columns {columns}"
        raise BadLabelError({"benchmark": label}, message)
    hint = suggest_name(benchmark, [split_benchmark(one)[0] for one in known])
    raise BadLabelError({"benchmark": label}, f"night {newest_night} has no benchmark '{benchmark}'{hint}")


def _key(label: str) -> tuple[str, Place]:
    benchmark, fields = split_benchmark(label)
    return benchmark, place_of(fields)
