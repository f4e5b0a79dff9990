"""A drawing as an SVG file that stands alone: its colours follow the light or dark scheme of the reader."""

from __future__ import annotations

import re
from html import escape

from bench.core.text import printable

SIGNATURE = re.compile(rb"\A<svg [^>]*data-by=\"scaling-harness\"")
"""The beginning of every file."""
FONT = "system-ui, 'DejaVu Sans', 'Liberation Sans', sans-serif"
CHARACTER_PX = 6.6
"""Pixels that a character of 12 px takes, about."""
LIGHT = {
    "page": "#ffffff",
    "ink": "#1d2430",
    "soft": "#55606e",
    "good": "#cfeccf",
    "fair": "#fbe6a8",
    "poor": "#f8cfc6",
    "none": "#e4e7eb",
}
DARK = {
    "page": "#14171c",
    "ink": "#e8ecf1",
    "soft": "#a6b0bd",
    "good": "#1f4a2c",
    "fair": "#56450f",
    "poor": "#5f2a20",
    "none": "#2c333d",
}
"""The colours of a page in its light and its dark scheme."""
COMMON_RULES = (
    "text{font:12px " + FONT + "}.title{font-size:15px;font-weight:600}.bold{font-weight:600}"
    ".grid{stroke:#808080;stroke-opacity:.22}.ground{stroke:#7a828c}.window{fill:#808080;fill-opacity:.15}"
    ".hatch{fill:none;stroke:#fff;stroke-opacity:.75}.box{stroke-width:1.5}"
)


def document(title: str, width: float, height: float, content: str, *, dark: bool = True) -> str:
    """The file.

    Args:
        title: What is drawn, for readers who can't see it.
        width: In pixels.
        height: In pixels.
        content: Elements; text in them is escaped.
        dark: Whether it follows a dark scheme too. Programs that draw SVG may know no media queries.
    """
    schemes = _rules(LIGHT)
    if dark:
        schemes += f"@media (prefers-color-scheme:dark){{{_rules(DARK)}}}"
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    return printable(
        f'<svg xmlns="http://www.w3.org/2000/svg" data-by="scaling-harness" {size} fill="none" role="img">'
        f"<title>{escape(title)}</title><style>{COMMON_RULES}{schemes}</style>"
        f'<rect class="page" width="100%" height="100%"/>{content}</svg>\n',
        keep="\n",
    )


def _rules(colours: dict[str, str]) -> str:
    fills = "".join(f".{name}{{fill:{colour}}}" for name, colour in colours.items())
    return (
        f"{fills}.ticks{{fill:{colours['soft']}}}.box{{stroke:{colours['page']}}}"
        f".static .hollow{{fill:{colours['page']}}}"
    )


def text(x: float, y: float, shown: str, classes: str = "ink", anchor: str = "start") -> str:
    """A line of text; ``anchor``: ``start``, ``middle`` or ``end``."""
    aligned = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text class="{classes}" x="{x:.1f}" y="{y:.1f}"{aligned}>{escape(shown)}</text>'


def text_width(shown: str, size_px: float = 12) -> float:
    """About how many pixels a text takes."""
    return len(shown) * CHARACTER_PX * size_px / 12
