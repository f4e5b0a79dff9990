"""``python -m harness list`` and ``doctor``: what there is."""

from __future__ import annotations

from rich.console import Console

from harness.cli.output import JsonOption, print_json
from harness.errors import EXIT_OK

LIST_ALL_EXAMPLES = "Example: `python -m harness list --json`"


def list_all(as_json: JsonOption = False) -> int:
    """List backends, workloads with their options, suites and sites."""
    from harness.setup import inventory

    found = inventory.list_plugins()
    if as_json:
        print_json(found)
    else:
        inventory.print_plugins(found, Console())
    return EXIT_OK


DOCTOR_EXAMPLES = "Example: `python -m harness doctor --json`"


def doctor(as_json: JsonOption = False) -> int:
    """Say what is installed and what is missing, each with a remedy."""
    from harness.setup.doctor import run_diagnostics

    findings = run_diagnostics()
    if as_json:
        print_json({"findings": [finding.model_dump() for finding in findings]})
        return EXIT_OK
    console = Console()
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        style = "green" if finding.status == "ok" else "yellow"
        remedy = f" → {finding.remedy}" if finding.remedy else ""
        console.print(f"[{style}]{finding.status:8}[/] {finding.name:{width}}", end="  ", highlight=False)
        console.print(f"{finding.found}{remedy}", markup=False, highlight=False, soft_wrap=True)
    return EXIT_OK
