"""One self-contained HTML file: everything it needs is in it, and no request leaves it."""

from __future__ import annotations

import base64
import gzip
import json
from functools import cache

from reports.page.charts import draw
from reports.page.values import Page


def render(page: Page) -> str:
    """The page as text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    templates = Environment(
        loader=PackageLoader("reports.page", "templates"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    figures = {figure.key: draw(figure) for section in page.sections for figure in section.figures}
    return templates.get_template("report.html").render(
        page=page,
        # "<" escaped, so that no text in the data can end the script element.
        figures=json.dumps(figures, allow_nan=False).replace("<", "\\u003c"),
        library=_plotly_library(),
    )


@cache
def _plotly_library() -> str:
    """plotly.js, gzipped and base64-coded: the page unpacks it when it opens (a third of the plain size)."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), compresslevel=9, mtime=0)).decode()
