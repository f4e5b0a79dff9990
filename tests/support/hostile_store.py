"""A store in which every text field of every record holds what somebody hostile would write there."""

from __future__ import annotations

import types
import typing
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from bench.core.names import check_name
from bench.core.records import Trial
from harness.planning.plan import Plan, Skip
from harness.store.opening import open_store

ModelT = TypeVar("ModelT", bound=BaseModel)

BEFORE = "=1+1;@SUM(1)"
AFTER = (
    "\x1b[2J\x1b]8;;http://evil.example\x07\x9b31m\u202eb\u2066\u2028c\x7f"  # the terminal
    "[red]r[/] [link=http://evil.example]l[/link] :boom:"  # Rich
    "<img src=x onerror=alert(1)></script></style>--></title>\"'><b onclick=alert(1)>"  # HTML
    "]]>\ufffe\x00&#0; ``` | `c` [m](javascript:alert(1)) @somebody #1"  # XML, Markdown
    "../../etc/passwd $(touch /tmp/hostile) \r\nerror: forged\n=1+1"
)
DATES = {"started_at", "finished_at", "at", "since"}
MOMENT = "2026-11-27T05:00:00.000+00:00"
FILLED = {"started_at": MOMENT, "ended_s": 2.0, "rank": 0, "steps_per_entry": 2}
"""Fields that hold a certain value where every field is set."""
OUTCOMES = ("ok", "failed", "timeout", "invalid")
KEPT = {"RankRecord.kind", "RankRecord.unit", "Suite.telemetry"}
"""Fields on whose values the numbers depend, and one of a certain form: with others a record would show less."""


def spoil(text: str) -> str:
    """The same for the same text, so that records that name each other still do."""
    return f"{BEFORE}{text}{AFTER}"


def hostile(value: Any, hint: Any = str) -> Any:
    """A value with every free text in it spoilt: models by their fields, containers by their items."""
    if isinstance(value, BaseModel):
        hints = typing.get_type_hints(type(value), include_extras=True)
        changes = {
            name: hostile(getattr(value, name), hints[name])
            for name in type(value).model_fields
            if name not in DATES and f"{type(value).__name__}.{name}" not in KEPT and getattr(value, name) is not None
        }
        return value.model_copy(update=changes)
    if isinstance(value, str):
        return spoil(value) if _is_free(hint) else value
    if isinstance(value, tuple):
        optional = typing.get_origin(hint) in (typing.Union, types.UnionType)
        (item, *_) = [*_arguments(_arguments(hint)[0] if optional else hint), str]
        return tuple(hostile(part, item) for part in value)
    if isinstance(value, dict):
        return {spoil(key) if isinstance(key, str) else key: hostile(part, str) for key, part in value.items()}
    return value


def hostile_model(value: ModelT) -> ModelT:
    """The spoilt record, as a store would read it. Raises :class:`ValidationError` where one can't be made."""
    changed = hostile(value)
    return type(value).model_validate_json(changed.model_dump_json())


def filled(hint: Any) -> Any:
    """A value of a type with every field set, texts to ``text``."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return filled(arguments[0])
    if origin is typing.Literal:
        return arguments[0]
    if origin in (typing.Union, types.UnionType):
        return filled(next(part for part in arguments if part is not type(None)))
    if origin is tuple:
        return tuple(filled(part) for part in arguments if part is not Ellipsis)
    if origin is dict:
        return {filled(arguments[0]): filled(arguments[1])}
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        hints = typing.get_type_hints(hint, include_extras=True)
        return hint(**{name: FILLED.get(name, filled(hints[name])) for name in hint.model_fields})
    return {str: "text", int: 1, float: 1.0, bool: True}[hint]


def add_full_sweep(target: str, name: str) -> None:
    """Add the newest sweep of a store: of trials with every field set, one of each outcome, and cases that did not
    run."""
    with closing(open_store(target, create=True)) as store:
        before = store.sweep("latest")
        full = filled(Trial)
        known = {"world": 2, "kind": "training", "unit": "samples"}
        ranks = tuple(full.ranks[0].model_copy(update={**known, "rank": rank}) for rank in range(2))
        here = {"environment": before.environment.id, "started_at": before.started_at, "round": 0}
        case = full.case.model_copy(update={"ranks": 2, "fault": None})
        cases = {outcome: case.model_copy(update={"workload": outcome}) for outcome in OUTCOMES}
        skip = Skip(case=full.case.model_copy(update={"workload": "skipped"}), reason="text")
        never = Skip(case=full.case.model_copy(update={"workload": "never"}), reason="text")
        plan = Plan(cases=tuple(cases.values()), skips=(skip,), not_applicable=(never,), repeats=1)
        store.begin_sweep(before.model_copy(update={"id": name, "plan": plan, "started_at": MOMENT}))
        for outcome, case in cases.items():
            store.add_trial(name, full.model_copy(update={**here, "ranks": ranks, "case": case, "outcome": outcome}))
        store.finish_sweep(name, MOMENT)


def _is_free(hint: Any) -> bool:
    """Whether a field takes any text."""
    arguments = _arguments(hint)
    is_literal = typing.get_origin(hint) is typing.Literal
    if is_literal or any(getattr(part, "func", None) is check_name for part in arguments):
        return False
    return hint is str or not arguments or any(_is_free(part) for part in arguments if part is not type(None))


def _arguments(hint: Any) -> tuple[Any, ...]:
    return (*typing.get_args(hint), *getattr(hint, "__metadata__", ()))


def spoil_store(source: str, target: Path) -> None:
    """Write every record of a store, spoilt, to another one: as :mod:`harness.store` itself writes it."""
    with (
        closing(open_store(source, create=False, upgrade=True)) as store,
        closing(open_store(str(target), create=True)) as spoilt,
    ):
        for name in store.sweep_ids():
            info = hostile_model(store.sweep(name))
            spoilt.begin_sweep(info)
            for trial in store.trials(name):
                spoilt.add_trial(name, hostile_model(trial))
            spoilt.finish_sweep(name, info.finished_at)
            spoilt.ledger.save_verdicts(name, [hostile_model(verdict) for verdict in store.ledger.verdicts(name)])
            for pair in store.ledger.pairs(name):
                spoilt.ledger.add_pair(hostile_model(pair))
        for acceptance in store.ledger.acceptances():
            spoilt.ledger.accept(hostile_model(acceptance))
        for run in store.ledger.runs(store.ledger.ingested_nights()):
            spoilt.ledger.add_run(hostile_model(run))
