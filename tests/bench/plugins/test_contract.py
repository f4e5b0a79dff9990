"""Every plugin keeps the contract of its kind. A new file is tested as it stands."""

from __future__ import annotations

import pytest

from harness.setup.plugin_checks import backend_checks, probe_checks, site_checks, workload_checks
from harness.sweep.plugins import plugin_kinds

CHECKS = {"backend": backend_checks, "workload": workload_checks, "site": site_checks, "probe": probe_checks}
PLUGINS = [pytest.param(kind, name, id=f"{kind.name}-{name}") for kind in plugin_kinds() for name in kind.names()]


@pytest.mark.parametrize(("kind", "name"), PLUGINS)
def test_a_plugin_is_named_after_its_file_and_keeps_its_contract(kind, name):
    plugin = kind.load(name)
    assert getattr(plugin, "name", name) == name
    assert plugin.summary
    checks = CHECKS.get(kind.name, lambda plugin: [])(plugin)
    assert {title: problem for title, check in checks if (problem := check()) is not None} == {}


def test_every_kind_has_plugins():
    assert [kind.name for kind in plugin_kinds() if not kind.names()] == []
