"""The inventory of backends, workloads, suites and sites with their options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.plugins.backend import Options
from bench.plugins.registry import PROBES, load_plugins
from harness.importers import IMPORTERS
from harness.planning.suite import read_suite, suite_names
from harness.sites.base.contract import find_site, site_names
from reports.formats.console import print_line
from reports.formats.exports import FORMATS

if TYPE_CHECKING:
    from rich.console import Console


def list_plugins() -> dict[str, Any]:
    """All plugins as plain data; a broken one with its error."""
    backends, workloads, broken = load_plugins()
    others = {}
    for kind in (PROBES, FORMATS, IMPORTERS):
        plugins, problems = kind.load_all()
        others[kind] = [{"name": name, "summary": plugin.summary} for name, plugin in plugins.items()]
        broken += problems
    return {
        "backends": [
            {
                "name": name,
                "summary": backend.summary,
                "transports": {device: list(names) for device, names in backend.transports.items()},
                "options": _options(backend.options),
            }
            for name, backend in backends.items()
        ],
        "workloads": [
            {"name": name, "summary": workload.summary, "kind": workload.kind, "options": _options(workload.options)}
            for name, workload in workloads.items()
        ],
        "suites": [{"name": name, "summary": read_suite(name).summary} for name in suite_names()],
        "sites": [
            {
                "name": name,
                "summary": site.summary,
                "options": _options(site.options),
                "lacking": site.missing_dependency(),
            }
            for name, site in ((name, find_site(name)) for name in site_names())
        ],
        **{f"{kind.name}s": summaries for kind, summaries in others.items()},
        "broken": [{"kind": found.kind, "name": found.name, "error": found.error} for found in broken],
    }


def _options(options: type[Options]) -> list[dict[str, Any]]:
    return [
        {"name": name, "default": getattr(options(), name), "description": field.description or ""}
        for name, field in options.model_fields.items()
    ]


def print_plugins(inventory: dict[str, Any], console: Console) -> None:
    """Print the inventory for people, options by their full names (``backend.ddp.bucket_cap_mb``)."""

    for kind in ("backends", "workloads", "suites", "sites", "probes", "formats", "importers"):
        print_line(console, kind, "bold")
        for plugin in inventory[kind]:
            scope = f"{kind.removesuffix('s')}.{plugin['name']}"
            missing = f" ({plugin['lacking']})" if plugin.get("lacking") else ""
            print_line(console, f"  {plugin['name']:12} {plugin['summary']}{missing}")
            for device, names in plugin.get("transports", {}).items():
                print_line(console, f"      {scope}.transport on {device}: {', '.join(names)}")
            for option in plugin.get("options", ()):
                print_line(console, f"      {scope}.{option['name']} = {option['default']}: {option['description']}")
    for plugin in inventory["broken"]:
        print_line(console, f"broken {plugin['kind']} {plugin['name']}: {plugin['error']}", "yellow")
