"""``sweeps tag``, ``untag``, ``note`` and ``rename``: what a person says of a sweep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from harness.errors import UsageError, suggest_name
from harness.store.labels import MAX_TAGS, SweepLabels, check_note, check_tag, check_title, parse_label
from harness.store.opening import open_store
from reports.formats.console import print_line
from reports.formats.documents import versioned


@dataclass(frozen=True)
class LabelledSweep:
    """A sweep, and what is said of it now."""

    sweep: str
    title: str
    labels: SweepLabels

    def as_json(self) -> dict[str, Any]:
        fields = {
            "sweep": self.sweep,
            "title": self.title,
            "note": self.labels.note,
            "tags": list(self.labels.tags),
        }
        return versioned("labels", fields)

    def print(self, console: Console) -> None:
        tags = f" · tagged {', '.join(self.labels.tags)}" if self.labels.tags else ""
        note = f" · {self.labels.note}" if self.labels.note else ""
        print_line(console, f"{self.sweep}: {self.title}{tags}{note}")


def add_tags(name: str, tags: Sequence[str], store_url: str) -> LabelledSweep:
    """Add tags to a sweep. A tag names its sweep, so that one which is the id of a sweep is refused.

    Raises:
        StoreError: The store can't be written, or the name means none of its sweeps, or several.
        UsageError: A tag is none, or there are too many.
    """
    added = [parse_label("tag", check_tag, tag) for tag in tags]

    def add(before: SweepLabels) -> SweepLabels:
        distinct = tuple(dict.fromkeys((*before.tags, *added)))
        if len(distinct) > MAX_TAGS:
            raise UsageError(f"a sweep has at most {MAX_TAGS} tags; remove some with `sweeps untag`")
        return before.model_copy(update={"tags": distinct})

    return _change(name, store_url, add, added)


def remove_tags(name: str, tags: Sequence[str], store_url: str) -> LabelledSweep:
    """Remove tags from a sweep. Raises as :func:`add_tags`, and where it has not one of them."""

    def remove(before: SweepLabels) -> SweepLabels:
        for tag in tags:
            if tag not in before.tags:
                raise UsageError(f"sweep '{name}' has no tag '{tag}'{suggest_name(tag, before.tags)}")
        return before.model_copy(update={"tags": tuple(tag for tag in before.tags if tag not in tags)})

    return _change(name, store_url, remove)


def set_note(name: str, note: str, store_url: str) -> LabelledSweep:
    """Replace the note of a sweep; an empty one removes it. Raises as :func:`add_tags`."""
    checked = parse_label("note", check_note, note) if note else None
    return _change(name, store_url, lambda before: before.model_copy(update={"note": checked}))


def set_title(name: str, title: str, store_url: str) -> LabelledSweep:
    """Replace the title of a sweep; with an empty one it is called by what ran. Raises as :func:`add_tags`."""
    checked = parse_label("title", check_title, title) if title else None
    return _change(name, store_url, lambda before: before.model_copy(update={"title": checked}))


def _change(
    name: str, store_url: str, change: Callable[[SweepLabels], SweepLabels], tags: Sequence[str] = ()
) -> LabelledSweep:
    with closing(open_store(store_url, create=False, upgrade=True)) as store:
        ids = store.sweep_ids()
        for tag in tags:
            if tag in ids:
                raise UsageError(f"tag '{tag}' is the id of a sweep, which it would never name; choose another")
        sweep = store.sweep_id(name)
        labels = store.change_labels(sweep, change)
        return LabelledSweep(sweep, store.sweep(sweep).shown_title, labels)
