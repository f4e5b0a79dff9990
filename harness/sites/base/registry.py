"""Finds sites by name, each in a folder of its own."""

from __future__ import annotations

import importlib

from bench.plugins.registry import plugin_modules
from harness.errors import UsageError, suggest_name
from harness.sites.base.contract import Site


def site_names() -> list[str]:
    """The names of all sites."""
    return list(plugin_modules("harness.sites", "site"))


def find_site(name: str) -> Site:
    """The site in ``harness/sites/<name>/site.py``.

    Raises:
        UsageError: If there is none of this name.
    """
    modules = plugin_modules("harness.sites", "site")
    if name not in modules:
        raise UsageError(f"unknown site '{name}'{suggest_name(name, list(modules))}")
    site: Site = importlib.import_module(modules[name]).SITE
    return site
