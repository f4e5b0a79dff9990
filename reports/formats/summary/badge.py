"""A badge for a README: the result of a check, or how far a sweep scales, as an SVG of two boxes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from bench.core.text import one_line
from reports.analysis import formatting
from reports.analysis.answers import WorkloadAnswer
from reports.regression.summary import title as verdict_title
from reports.regression.values import Judgement

SIGNATURE = re.compile(rb"\A<svg [^>]*data-by=\"scaling-harness\"")
"""The beginning of every file."""
COLOURS = {"good": "#2b7a3d", "fair": "#8a6100", "bad": "#b3261e", "unknown": "#5c6570"}
"""White text on them has a contrast of 4.5:1 or more."""
LABEL_COLOUR = "#3d444d"
VERDICT_LEVELS = {"passed": "good", "regressed": "bad", "cannot tell": "fair", "failed": "bad"}
MAX_LABEL_LENGTH = 40
HEIGHT, PADDING, CHARACTER_PX = 20, 8, 6.2
"""In pixels; characters of 11 px in a font like Verdana's."""


@dataclass(frozen=True)
class Badge:
    """What a badge says: a label, a message, and how good that is."""

    label: str
    message: str
    level: str
    """A name of :data:`COLOURS`."""


def verdict_badge(judgement: Judgement) -> Badge:
    """``performance | passed``"""
    word = verdict_title(judgement)
    return Badge("performance", word, VERDICT_LEVELS[word])


def scaling_badge(answers: Sequence[WorkloadAnswer]) -> Badge:
    """``scaling | to 8 ranks · 94 %``: of several workloads the one that scales least far.

    Good where the efficiency at all measured rank counts is above the bar, fair where it falls below it after the
    first, bad where it does so at once.
    """
    known = [answer for answer in answers if answer.efficient_to.ranks is not None]
    if not known:
        return Badge("scaling", "not measured", "unknown")
    worst = min(known, key=lambda answer: answer.efficient_to.ranks or 0)
    reached = worst.efficient_to
    shown = [reached.ranks_text]
    if reached.value is not None and (reached.ranks or 0) > 1:
        shown.append(formatting.share(reached.value.value))
    label = f"scaling of {one_line(worst.workload, MAX_LABEL_LENGTH)}" if len(answers) > 1 else "scaling"
    fewest, most = min(worst.rank_counts, default=1), max(worst.rank_counts, default=1)
    ranks = reached.ranks or 0
    level = "good" if ranks >= most or reached.at_least else "fair" if ranks > fewest else "bad"
    return Badge(label, f"to {' · '.join(shown)}", level)


def badge_svg(badge: Badge) -> str:
    """The badge as a file. The text is stretched to its box, so that it fits in every font."""
    label_px, message_px = (_box_px(part) for part in (badge.label, badge.message))
    width = label_px + message_px
    title = f"{badge.label}: {badge.message}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" data-by="scaling-harness" width="{width:.0f}" height="{HEIGHT}" '
        f'role="img" aria-label="{escape(title)}"><title>{escape(title)}</title>'
        f'<clipPath id="r"><rect width="{width:.0f}" height="{HEIGHT}" rx="3"/></clipPath><g clip-path="url(#r)">'
        f'<rect width="{label_px:.0f}" height="{HEIGHT}" fill="{LABEL_COLOUR}"/>'
        f'<rect x="{label_px:.0f}" width="{message_px:.0f}" height="{HEIGHT}" fill="{COLOURS[badge.level]}"/></g>'
        '<g fill="#fff" text-anchor="middle" font-family="Verdana, DejaVu Sans, sans-serif" font-size="11">'
        f"{_centred(badge.label, label_px / 2, label_px)}"
        f"{_centred(badge.message, label_px + message_px / 2, message_px)}"
        "</g></svg>\n"
    )


def _box_px(shown: str) -> float:
    return len(shown) * CHARACTER_PX + 2 * PADDING


def _centred(shown: str, x: float, box_px: float) -> str:
    return f'<text x="{x:.1f}" y="14" textLength="{box_px - 2 * PADDING:.0f}">{escape(shown)}</text>'
