"""What there is to choose from: backends, workloads, suites, sites."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from bench.plugins.backend import Options
from bench.plugins.registry import load_plugins
from harness.planning.suite import read_suite, suite_names
from harness.sites.base.registry import find_site, site_names


def list_plugins() -> dict[str, Any]:
    """All plugins as plain data; a broken one with its error."""
    backends, workloads, broken = load_plugins()
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
        "broken": [{"kind": found.kind, "name": found.name, "error": found.error} for found in broken],
    }


def _options(options: type[Options]) -> list[dict[str, Any]]:
    return [
        {"name": name, "default": getattr(options(), name), "description": field.description or ""}
        for name, field in options.model_fields.items()
    ]


def print_plugins(found: dict[str, Any], console: Console) -> None:
    for kind in ("backends", "workloads"):
        console.print(kind, style="bold")
        for plugin in found[kind]:
            console.print(f"  {plugin['name']:12} {plugin['summary']}", markup=False, highlight=False, soft_wrap=True)
            for device, names in plugin.get("transports", {}).items():
                console.print(f"      transport on {device}: {', '.join(names)}", markup=False, highlight=False)
            _show_options(plugin, console)
    for kind in ("suites", "sites"):
        console.print(kind, style="bold")
        for plugin in found[kind]:
            missing = f" ({plugin['lacking']})" if plugin.get("lacking") else ""
            line = f"  {plugin['name']:12} {plugin['summary']}{missing}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)
            _show_options(plugin, console)
    for plugin in found["broken"]:
        console.print(f"broken {plugin['kind']} {plugin['name']}: {plugin['error']}", markup=False, style="yellow")


def _show_options(plugin: dict[str, Any], console: Console) -> None:
    for option in plugin.get("options", ()):
        line = f"      {plugin['name']}.{option['name']} = {option['default']}: {option['description']}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
