"""plotly.js for a page: the small bundle where it is kept, else the whole of it from plotly's Python package."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench.host.installation import cache_folder

NPM_PACKAGE = "plotly.js-basic-dist-min"
BUNDLE_FILE = "package/plotly-basic.min.js"
PLOTLY_JS_VERSION = "4.1.1"
"""The plotly.js that plotly 7.1.0 carries. The bundle has scatter and bars, in a quarter of the whole's size."""
BUNDLE_SHA256 = "99784e3abfb07b142a15e521a439e6d9addceadb3f79553fd24c72774f0649ba"
FETCH_COMMAND = "python -m harness.setup.plotly_bundle"


@dataclass(frozen=True)
class PlotlyJs:
    """``name`` says which it is."""

    name: str
    text: str


def bundle_file() -> Path:
    """Where the bundle is kept, once it was fetched."""
    return cache_folder("npm") / f"{NPM_PACKAGE}-{PLOTLY_JS_VERSION}.js"


@cache
def plotly_library() -> PlotlyJs:
    """The library that pages made here carry."""
    bundle = read_bundle(bundle_file())
    return whole_library() if bundle is None else PlotlyJs(f"plotly.js {PLOTLY_JS_VERSION}, basic bundle", bundle)


def whole_library() -> PlotlyJs:
    """plotly.js of the Python package: all kinds of figure, four times the size."""
    from plotly.offline import get_plotlyjs, get_plotlyjs_version

    return PlotlyJs(f"plotly.js {get_plotlyjs_version()}, whole", get_plotlyjs())


def read_bundle(path: Path) -> str | None:
    """The text of the kept bundle; ``None`` where there is none, or it is not what was published."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    return content.decode() if hashlib.sha256(content).hexdigest() == BUNDLE_SHA256 else None
