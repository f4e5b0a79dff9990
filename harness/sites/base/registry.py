"""Finds sites: in their folder, in files that the user names, and in installed packages."""

from __future__ import annotations

from bench.plugins.registry import PluginKind, UnknownPlugin
from harness.errors import UsageError, suggest_name
from harness.sites.base.contract import Site

SITES: PluginKind[Site] = PluginKind("site", Site, "harness.sites", ("name", "summary"))


def site_names() -> list[str]:
    """The names of all sites."""
    return SITES.names()


def find_site(name: str) -> Site:
    """The site of that name.

    Raises:
        UsageError: There is none.
    """
    try:
        return SITES.load(name)
    except UnknownPlugin as problem:
        raise UsageError(f"unknown site '{name}'{suggest_name(name, problem.known)}") from None
