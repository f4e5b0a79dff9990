"""The commands ``list`` and ``doctor``: what can be chosen, and what is installed."""

from __future__ import annotations

from harness.cli.output import JsonOption, PluginOption, VerbosityOption, print_json, stdout_console
from harness.errors import EXIT_OK
from reports.formats.documents import versioned

EXAMPLES = {
    "list": "Examples: `python -m harness list`, `python -m harness list --json`",
    "doctor": "Examples: `python -m harness doctor`, `python -m harness doctor --json`",
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


def doctor(as_json: JsonOption = False, verbosity: VerbosityOption = None) -> int:
    """Report what is installed and what is missing, with remedies."""
    from harness.setup import doctor

    findings = doctor.run_diagnostics()
    if as_json:
        print_json(versioned("doctor", {"findings": [finding.model_dump() for finding in findings]}))
    else:
        doctor.print_diagnostics(findings, stdout_console())
    return EXIT_OK
