#!/usr/bin/env bash
# Typer's commands are no commands of the installed click any more: Typer carries a copy of its own.
#
# typer.main.get_command() was the documented way to hand an application to tools for click (mkdocs-click, sphinx-click,
# click's own CliRunner). It now returns objects of typer._click: isinstance(command, click.Command) is false, parameters
# lack click's methods (make_metavar), and a refused option raises typer._click's UsageError, which `except
# click.UsageError` does not catch. get_help_record() and format_message() exist on both sides.
#
# Versions: typer 0.29.2, click 8.5.1
# Seen:
#     a click.Command: False
#     make_metavar: False, get_help_record: ('--count <int>', '')
#     refused by: typer._click.exceptions.NoSuchOption, a click.UsageError: False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check typer==0.29.2 click==8.5.1
cat >"$folder/finding.py" <<'PYTHON'
import click
import typer
from typer.main import get_command

app = typer.Typer(add_completion=False)


@app.command()
def main(count: int = typer.Option(None)) -> None:
    """Do nothing."""


command = get_command(app)
(option,) = command.params
print("a click.Command:", isinstance(command, click.Command))
context = command.make_context("main", [])
print(f"make_metavar: {hasattr(option, 'make_metavar')}, get_help_record: {option.get_help_record(context)}")
try:
    command.make_context("main", ["--cuont", "1"])
except Exception as refused:
    kind = type(refused)
    print(f"refused by: {kind.__module__}.{kind.__name__}, a click.UsageError: {isinstance(refused, click.UsageError)}")
PYTHON
"$folder/env/bin/python" "$folder/finding.py" | tee "$folder/out"
diff - "$folder/out" <<'EXPECTED'
a click.Command: False
make_metavar: False, get_help_record: ('--count <int>', '')
refused by: typer._click.exceptions.NoSuchOption, a click.UsageError: False
EXPECTED
echo "still so"
