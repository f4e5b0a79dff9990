"""Where the repository and the golden files are."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
assert (ROOT / "pyproject.toml").is_file(), "tests would walk another folder than the repository's"
