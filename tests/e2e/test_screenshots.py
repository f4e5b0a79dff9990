"""Five pages at three widths, in both schemes and printed: nothing sticks out, and CI keeps their pictures.

``SCALING_SCREENSHOTS`` names the folder that keeps them.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.support.screenshots import PAGES, SCHEMES, WIDTHS, take, write_pages


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    kept = os.environ.get("SCALING_SCREENSHOTS")
    return Path(kept) if kept else tmp_path_factory.mktemp("screenshots")


def test_no_page_sticks_out_and_each_has_its_pictures(browser, folder):
    folder.mkdir(parents=True, exist_ok=True)
    views = list(take(browser, write_pages(folder), folder))
    assert [view for view in views if view.content_width > view.width] == []
    assert len(views) == len(PAGES) * len(WIDTHS) * len(SCHEMES)
    for view in views:
        picture = (folder / f"{view.name}-{view.width}-{view.scheme}.png").read_bytes()
        assert int.from_bytes(picture[16:20], "big") == view.width
    printed = {name: (folder / f"{name}.pdf").read_bytes() for name in PAGES}
    assert {name for name, pdf in printed.items() if not re.search(rb"/Type\s*/Page\b", pdf)} == set()
