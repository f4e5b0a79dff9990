"""Golden files: one rendered document a site, for its readers. Tests of single facts parse what is rendered instead."""

from __future__ import annotations

import difflib

from tests.support.paths import GOLDEN


class GoldenFiles:
    """The folder of golden files. ``update``: write them instead of comparing with them."""

    def __init__(self, *, update: bool) -> None:
        self.update = update

    def check(self, name: str, text: str) -> None:
        """Fail with a unified diff where the file ``name`` has other text."""
        path = GOLDEN / name
        if self.update:
            path.write_text(text)
        golden = path.read_text() if path.exists() else ""
        names = (f"golden/{name}", "rendered now")
        diff = difflib.unified_diff(golden.splitlines(), text.splitlines(), *names, lineterm="")
        assert golden == text, "\n".join([*diff, "if this is meant: pytest --update-golden"])
