"""Finds sites by looking into their folder."""

from __future__ import annotations

import importlib

from bench.plugins.registry import plugin_modules
from harness.errors import UsageError, suggest_name
from harness.sites.base.contract import Site


def site_names() -> list[str]:
    return list(plugin_modules("harness.sites", "site"))


def find_site(name: str) -> Site:
    """The site in ``harness/sites/<name>/site.py``. Raises :class:`UsageError`."""
    modules = plugin_modules("harness.sites", "site")
    if name not in modules:
        raise UsageError(f"unknown site '{name}'{suggest_name(name, list(modules))}")
    site: Site = importlib.import_module(modules[name]).SITE
    return site
