"""What a shell offers while a command is typed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import closing

import pytest

from harness.cli.app import COMMANDS, main
from harness.cli.completion import COMPLETE_VARIABLE, PROGRAM
from harness.store.opening import open_store
from tests.support.paths import ROOT
from tests.support.stores import begin


@pytest.fixture
def complete(tmp_path, monkeypatch, capfd):
    """What bash is offered for a command line up to the cursor, which is behind its last character."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [PROGRAM])
    monkeypatch.setenv(COMPLETE_VARIABLE, "complete_bash")

    def offered(line: str) -> list[str]:
        monkeypatch.setenv("COMP_WORDS", f"{PROGRAM} {line}")
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" "))))
        assert main() == 0
        return capfd.readouterr().out.split()

    return offered


def test_commands_options_and_the_names_of_what_can_be_chosen_are_offered(complete, tmp_path):
    (tmp_path / "scaling.toml").write_text("[suites.quicker]\n")
    assert set(complete("")) == set(COMMANDS)
    assert set(complete("sweep --ran")) == {"--ranks", "--ranks-per-node"}
    assert set(complete("sweep qu")) == {"quick", "quicker"}
    assert set(complete("sweep --backends dd")) == {"ddp"}
    assert {"single,fsdp", "single,ddp"} <= set(complete("sweep --backends single,"))
    assert "single,single" not in complete("sweep --backends single,")
    assert set(complete("sweep --workloads mnist,syn")) == {"mnist,synthetic"}
    assert set(complete("sweep --site sl")) == {"slurm"}


def test_sweeps_of_the_store_are_offered_and_no_store_is_made(complete, tmp_path):
    with closing(open_store(str(tmp_path / "r.sqlite"), create=True)) as store:
        begin(store, "20260101-000000-aaaa")
        begin(store, "20260102-000000-bbbb", "2026-01-02T00:00:00+00:00")
    assert complete("report --store r.sqlite 2026") == ["20260102-000000-bbbb", "20260101-000000-aaaa"]
    assert complete("report --store absent.sqlite ") == []
    assert complete("report ") == []
    (tmp_path / "scaling.toml").write_text("store = 'r.sqlite'\n")
    assert complete("report la") == ["latest"]
    (tmp_path / "scaling.toml").write_text("store = \n")
    assert complete("report la") == [], "a mistake elsewhere is reported by the command, not while it is typed"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.sqlite", "scaling.toml"]


def test_the_completion_is_installed_for_the_console_script(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", "/bin/bash")
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("bash", "/bin/bash"))
    assert main(["--install-completion"]) == 0
    script = tmp_path / ".bash_completions" / f"{PROGRAM}.sh"
    assert str(script) in capfd.readouterr().out
    assert f"complete -o default -F _scaling_harness_completion {PROGRAM}" in script.read_text()
    assert str(script) in (tmp_path / ".bashrc").read_text()
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("tcsh", "/bin/tcsh"))
    assert main(["--show-completion"]) == 2
    assert capfd.readouterr().err == "error: completion is for bash, zsh and fish, and this shell is 'tcsh'\n"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_with_what_is_installed(tmp_path):
    program = tmp_path / PROGRAM
    program.write_text(
        f"#!{sys.executable}\nimport sys\nfrom harness.__main__ import main\nstatus = main()\n"
        "for name in {'torch', 'numpy', 'pandas', 'sqlalchemy'} & set(sys.modules):\n    print('loaded', name)\n"
        "sys.exit(status)\n"
    )
    program.chmod(0o755)
    typed = f"COMP_WORDS=({PROGRAM} sweep --backends ddp,ho); COMP_CWORD=3; _scaling_harness_completion {PROGRAM}"
    script = f'eval "$({PROGRAM} --show-completion)"; {typed}; echo "${{COMPREPLY[@]}}"'
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "SHELL": "/bin/bash"}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=env, cwd=tmp_path, check=False)
    assert done.stdout.split() == ["ddp,horovod", "ddp,horovodrun"], done.stderr
