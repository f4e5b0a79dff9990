"""plotly.js itself: the small bundle where it was fetched, else the full library of plotly's Python package."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench.host.installation import cache_folder

NPM_PACKAGE = "plotly.js-basic-dist-min"
BUNDLE_FILE = "package/plotly-basic.min.js"
PLOTLY_JS_VERSION = "4.1.1"
"""The plotly.js of plotly 7.1.0. The bundle has scatter and bar charts, at a quarter of the full size."""
BUNDLE_SHA256 = "99784e3abfb07b142a15e521a439e6d9addceadb3f79553fd24c72774f0649ba"
FETCH_COMMAND = "python -m harness.setup.plotly_bundle"


@dataclass(frozen=True)
class PlotlyJs:
    """The JavaScript library; ``name`` says which version and bundle."""

    name: str
    text: str


def bundle_file() -> Path:
    """Where the bundle is cached once it was fetched."""
    return cache_folder("npm") / f"{NPM_PACKAGE}-{PLOTLY_JS_VERSION}.js"


@cache
def plotly_library() -> PlotlyJs:
    """The library that pages of this process contain."""
    bundle = read_bundle(bundle_file())
    return whole_library() if bundle is None else PlotlyJs(f"plotly.js {PLOTLY_JS_VERSION}, basic bundle", bundle)


def whole_library() -> PlotlyJs:
    """plotly.js of the Python package: all kinds of charts, four times the size."""
    from plotly.offline import get_plotlyjs, get_plotlyjs_version

    return PlotlyJs(f"plotly.js {get_plotlyjs_version()}, whole", get_plotlyjs())


def read_bundle(path: Path) -> str | None:
    """The text of the cached bundle; ``None`` where it is missing, or its hash is not that of the published one."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    return content.decode() if hashlib.sha256(content).hexdigest() == BUNDLE_SHA256 else None
