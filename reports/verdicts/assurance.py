"""How often the rule is wrong, as measured: the numbers ship with the rule and are void when the rule changes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from bench.value import FrozenModel
from reports.verdicts.calibration import Calibration, proportion
from reports.verdicts.rule import RULE, Rule
from reports.verdicts.values import Assurance

SHIPPED_FILE = Path(__file__).with_name("assurance.json")
"""Written by ``python -m harness check --calibrate --keep``."""


DETECTION_SHARE = 0.95
"""The share of slowdowns of a size that must be found for it to be quoted."""


class StoredAssurance(FrozenModel):
    """An assurance with the rule it is of."""

    rule: str
    assurance: Assurance


def rule_fingerprint(rule: Rule) -> str:
    """Changes with any number of the rule, and with the code that applies it."""
    code = "".join(Path(__file__).with_name(f"{name}.py").read_text() for name in ("robust", "screen", "confirm"))
    return hashlib.sha256(f"{rule.model_dump_json()}{code}".encode()).hexdigest()[:12]


def assurance_of(measured: Sequence[Calibration], command: str) -> Assurance:
    """Over all that was measured on made-up histories; a slowdown counts as found where it is in each of them."""
    alarms = proportion(sum(one.false_alarms.count for one in measured), sum(one.false_alarms.of for one in measured))
    least: dict[tuple[int, float], float] = {}
    for power in (power for one in measured for power in one.powers):
        which = (power.nights_more, power.slowdown_pct)
        least[which] = min(power.found.value, least.get(which, 1.0))
    found: dict[str, float] = {}
    for (more, size), value in sorted(least.items(), reverse=True):
        if value >= DETECTION_SHARE:
            found[str(more + 1)] = round(size, 3)
    return Assurance(
        checks=alarms.of,
        false_alarms=alarms.count,
        false_alarm_rate=alarms.value,
        false_alarm_high=alarms.high,
        source=f"{' and '.join(one.source for one in measured)}; `{command}`",
        found_pct=found,
    )


def shipped_assurance(rule: Rule = RULE) -> Assurance | None:
    """``None`` where the rule was changed and not measured since."""
    try:
        kept = StoredAssurance.model_validate_json(SHIPPED_FILE.read_text())
    except (OSError, ValidationError):
        return None
    return kept.assurance if kept.rule == rule_fingerprint(rule) else None
