"""Records of a store that can't be used: each is named with its field and value, and the others are read.

A store may have been written by an earlier version, another program or a plugin. A trial that can't be read stands as
an invalid one with the reason, so that pages, tables and exports say so; another record is left out.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from bench.core.bounds import Duration, Timestamp, describe_invalid
from bench.core.case import Case
from bench.core.frozen_model import FrozenModel
from bench.core.records import Condition, Trial
from bench.core.text import one_line

log = logging.getLogger("scaling_harness")

ModelT = TypeVar("ModelT", bound=FrozenModel)
STARTED_AT, WALL_S = TypeAdapter(Timestamp), TypeAdapter(Duration)
MAX_KEY_LENGTH = 120


@cache
def log_left_out(label: str, record: str, problem: str) -> None:
    """Log once that a record of a store is left out.

    Args:
        label: The store's name, for messages.
        record: Which record it is.
        problem: Why, as a sentence.
    """
    log.warning("store %s: %s is left out: %s", label, record, problem)


def read_record(label: str, kind: type[ModelT], name: str, body: Any) -> ModelT | None:
    """A record; ``None`` of one that can't be read, which is left out.

    Args:
        label: The store's name, for messages.
        kind: What the record is.
        name: What it is called in messages.
        body: Its JSON.
    """
    try:
        return kind.model_validate_json(record_json(body))
    except ValidationError as problem:
        log_left_out(label, name, describe_invalid(problem))
        return None


def record_json(body: Any) -> str:
    """The JSON of a record as it is stored; what is no JSON for what is no text, such as a BLOB of SQLite's (pure)."""
    return body if isinstance(body, str) else f"({type(body).__name__})"


class SweepOfTrial(NamedTuple):
    """What the sweep says of its trials."""

    cases: Mapping[str, Case]
    """Those of its plan by their keys."""
    environment: str
    started_at: str


def invalid_trial(body: Any, key: str, round_number: int, problem: str, sweep: SweepOfTrial | None) -> Trial | None:
    """The invalid trial that stands for a record that can't be read; ``None`` where its case is not known either.

    Args:
        body: The record.
        key: The key of its case, by which it is stored.
        round_number: Its round, by which it is stored.
        problem: Why it can't be read.
        sweep: Its sweep; ``None``: that can't be read.
    """
    fields = _fields(body)
    case = _validated(TypeAdapter(Case), fields.get("case"))
    if case is None or case.key != key:
        case = sweep.cases.get(key) if sweep else None
    started_at = _validated(STARTED_AT, fields.get("started_at")) or (sweep.started_at if sweep else None)
    environment = sweep.environment if sweep else fields.get("environment")
    if case is None or started_at is None or not isinstance(environment, str):
        return None
    reason = f"its record can't be read: {problem}"
    return Trial(
        case=case,
        round=round_number,
        outcome="invalid",
        reason=reason,
        environment=environment,
        started_at=started_at,
        wall_s=_validated(WALL_S, fields.get("wall_s")),
        conditions=(Condition(name="unreadable", seen=reason, serious=True),),
    )


def trial_title(key: str, round_number: int) -> str:
    """``trial synthetic/…/ranks=2, round 1``: the first round is 1."""
    return f"trial {one_line(key, MAX_KEY_LENGTH)}, round {round_number + 1}"


def _fields(body: Any) -> dict[str, Any]:
    try:
        fields = from_json(body)
    except (ValueError, TypeError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _validated(adapter: TypeAdapter[Any], value: Any) -> Any:
    """The value in its type; ``None`` where it is not of that type."""
    try:
        return adapter.validate_python(value)
    except ValidationError:
        return None
