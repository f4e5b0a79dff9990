"""The rule of ``check``: its parameters, and the error rates that were measured for exactly these.

``python -m harness check --calibrate --keep reports/regression/assurance.json`` measures the rates and writes the file
that is shipped. They are void as soon as a parameter or the code that applies the rule changes.
"""

from __future__ import annotations

import ast
import hashlib
import re
from functools import cache
from pathlib import Path

from pydantic import ValidationError

from bench.core.frozen_model import FrozenModel
from reports.regression.values import Assurance


class Rule(FrozenModel):
    """Parameters of the screen (newest nights against earlier ones) and of the paired test (head against base).

    All changes are logarithms of times.
    """

    windows: tuple[int, ...] = (1, 2, 3, 5)
    """Numbers of newest nights that are compared with the nights before them."""
    reference_nights: int = 14
    """Most nights in a reference."""
    scale_nights: int = 30
    """Most nights from which night-to-night noise is estimated."""
    least_nights: int = 4
    """Comparable nights that the screen needs."""
    suspicion_z: float = 1.1
    """Lowest z that is suspect; raised where a suite's past was suspect more often than :attr:`suspects`."""
    suspects: float = 0.25
    """Highest share of a suite's unchanged series that is suspect in a night; it sets the cost in extra trials."""
    improvement_z: float = 4.5
    """The z of an improvement, which is reported without pairs."""
    looks: tuple[int, ...] = (2, 3, 4, 5, 6, 8, 10, 13, 17, 22, 30, 40)
    """Numbers of pairs after which a decision is possible."""
    boundary_z: float = 3.3
    """The z needed at the last look; at look n it is this × (last ÷ n) ** ¼."""
    doubt: float = 0.085
    """Odds of a relevant slowdown, by the screen and the pairs, below which a suspicion is dropped."""
    prior_pairs: float = 4.0
    """Weight, in pairs, of the scale that is expected from the history."""

    def boundary(self, pairs: int) -> float:
        """The z that a mean difference needs at the look after so many pairs."""
        return self.boundary_z * float((self.looks[-1] / pairs) ** 0.25)


RULE = Rule()

RULE_MODULES = ("robust", "screen", "paired_test")
"""The modules that apply the rule."""
SHIPPED_FILE = Path(__file__).with_name("assurance.json")


class StoredAssurance(FrozenModel):
    """An assurance, with the fingerprint of the rule it was measured for."""

    rule: str
    assurance: Assurance


ASSURANCE_SIGNATURE = re.compile(rb'\A\{\s*"rule": "[0-9a-f]{12}",\s*"assurance": \{')
"""The beginning of a file with a :class:`StoredAssurance`."""


def rule_fingerprint(rule: Rule, folder: Path = Path(__file__).parent) -> str:
    """Twelve hexadecimal digits that change with the rule's parameters and with the code that applies it.

    Docstrings, comments, layout and the modules that names are imported from do not count. ``folder``: where the
    :data:`RULE_MODULES` are.
    """
    code = [_canonical(ast.parse((folder / f"{name}.py").read_text())) for name in RULE_MODULES]
    return hashlib.sha256(f"{rule.model_dump_json()}{code}".encode()).hexdigest()[:12]


def shipped_assurance(rule: Rule = RULE) -> Assurance | None:
    """The measured error rates of a rule; ``None`` where they were measured for another one."""
    try:
        stored = StoredAssurance.model_validate_json(SHIPPED_FILE.read_text())
    except (OSError, ValidationError):
        return None
    return stored.assurance if stored.rule == _fingerprint_of_this_process(rule) else None


@cache
def _fingerprint_of_this_process(rule: Rule) -> str:
    """The code that a process runs does not change."""
    return rule_fingerprint(rule)


def _canonical(node: object) -> str:
    """A syntax tree as text, the same under every version of Python: ``ast.dump`` is not."""
    if isinstance(node, list):
        return f"[{', '.join(_canonical(child) for child in node if not _is_docstring(child))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    if isinstance(node, ast.ImportFrom):
        return f"ImportFrom({_canonical(node.names)})"
    # Later versions add fields, which are empty in code that earlier ones can read.
    fields = [f"{name}={_canonical(value)}" for name, value in ast.iter_fields(node) if value not in (None, [])]
    return f"{type(node).__name__}({', '.join(fields)})"


def _is_docstring(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
