"""How often the rule is wrong, as measured: the numbers ship with the rule and are void when the rule changes."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import ValidationError

from bench.value import Value
from reports.verdicts.rule import RULE, Rule
from reports.verdicts.values import Assurance

SHIPPED = Path(__file__).with_name("assurance.json")
"""Written by ``python -m harness check --calibrate --keep``."""


class Kept(Value):
    """An assurance with the rule it is of."""

    rule: str
    assurance: Assurance


def fingerprint(rule: Rule) -> str:
    """Changes with any number of the rule."""
    return hashlib.sha256(rule.model_dump_json().encode()).hexdigest()[:12]


def shipped(rule: Rule = RULE) -> Assurance | None:
    """``None`` where the rule was changed and not measured since."""
    try:
        kept = Kept.model_validate_json(SHIPPED.read_text())
    except (OSError, ValidationError):
        return None
    return kept.assurance if kept.rule == fingerprint(rule) else None
