"""The commands ``list`` and ``doctor``: what can be chosen, and what is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.cli.output import JsonOption, PluginOption, VerbosityOption, print_json, stdout_console
from harness.errors import EXIT_OK, EXIT_TRIALS_FAILED
from reports.formats.documents import versioned

if TYPE_CHECKING:
    from harness.setup.doctor import Diagnostic

EXAMPLES = {
    "list": "Examples: `python -m harness list`, `python -m harness list --json`",
    "doctor": "Examples: `python -m harness doctor`, `python -m harness doctor --plugin my_backend.py`",
}


def list_all(plugins: PluginOption = None, as_json: JsonOption = False, verbosity: VerbosityOption = None) -> int:
    """List backends, workloads, suites and sites with their options.

    Options are shown by their full names, as `--set` takes them.
    """
    from harness.setup import inventory
    from harness.sweep.plugins import use_plugin_files

    use_plugin_files(plugins or ())
    found = inventory.list_plugins()
    if as_json:
        print_json(versioned("list", found))
    else:
        inventory.print_plugins(found, stdout_console())
    return EXIT_OK


def doctor(plugins: PluginOption = None, as_json: JsonOption = False, verbosity: VerbosityOption = None) -> int:
    """Report what is installed and what is missing, or check a plugin.

    What is missing has a remedy. With --plugin, the plugins of these files are checked instead: that they keep their
    contracts, and that backends and workloads do the same work on one and on two real ranks.
    """
    from harness.setup import doctor

    findings = _check_plugins(plugins) if plugins else doctor.run_diagnostics()
    if as_json:
        print_json(versioned("doctor", {"findings": [finding.model_dump() for finding in findings]}))
    else:
        doctor.print_diagnostics(findings, stdout_console())
    return EXIT_TRIALS_FAILED if any(finding.status == "failed" for finding in findings) else EXIT_OK


def _check_plugins(files: list[str]) -> list[Diagnostic]:
    from harness.setup.plugin_checks import check_plugin
    from harness.sweep.plugins import plugin_kinds, use_plugin_files

    use_plugin_files(files)
    return [finding for kind in plugin_kinds() for name in kind.files for finding in check_plugin(kind, name)]
