"""Every option that names a file to write: nothing is destroyed, and nothing measured is lost for want of a file."""

from __future__ import annotations

import json
import os
import random
import resource
import shlex
import stat
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from harness.cli.app import main
from harness.store.opening import open_store
from tests.support.exports import curve, store_sweep
from tests.support.paths import ROOT
from tests.support.stores import write_sweep

CHECK = "check --history H.csv --current C.csv"
KEEP = "check --calibrate --checks 100 --keep"
COMMANDS = {
    f"{CHECK} --junit": "junit.xml",
    f"{CHECK} --markdown": "verdict.md",
    f"{CHECK} --html": "verdict.html",
    KEEP: "assurance.json",
    "report --out": "report.html",
    "report s1 s2 --out": "both.html",
    "export --out": "trials.csv",
    "export --format extrap --out": "steps.jsonl",
    "export --format pytest-benchmark --out": "now.json",
    "export --format parquet --out": "trials.parquet",
}
"""The option at the end of each is given a file."""
EVERY_COMMAND = pytest.mark.parametrize("command", COMMANDS)
PAGE_BYTES = 2**18
"""Less than a page has."""


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("filled")
    for name in ("s1", "s2"):
        store_sweep(folder / "r.sqlite", curve(), name=name)
    noise = random.Random(1)
    for file, nights in (("H.csv", range(10, 20)), ("C.csv", [20])):
        runs = [(night, run) for night in nights for run in range(3)]
        rows = [f"2026-01-{night},b,{run},0,{0.1 + 0.001 * noise.random()}" for night, run in runs]
        (folder / file).write_text("\n".join(["night,benchmark,run,sample,seconds", *rows, ""]))
    return folder


@pytest.fixture
def folder(filled, tmp_path, monkeypatch):
    for file in filled.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(command: str, *arguments: str) -> int:
    return main([*shlex.split(command), *arguments, "--store", "r.sqlite"])


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@EVERY_COMMAND
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (os.mkfifo, "is a pipe"),
        (lambda target: target.symlink_to(os.ttyname(os.openpty()[1])), "is a device"),
        (lambda target: target.write_text("mine"), "holds something that this command has not written"),
        (lambda target: target.symlink_to("r.sqlite"), "is the results store"),
        (lambda target: target.hardlink_to("r.sqlite"), "is the results store"),
        (lambda target: target.symlink_to("no/x"), "its folder does not exist"),
        (lambda target: target.symlink_to("/proc/self/fd/1"), "is an open file of this process"),
    ],
    ids=["pipe", "device", "foreign", "link to store", "store", "folder", "stdout"],
)
def test_what_lies_there_stays_and_is_one_line(folder, capfd, command, make, message):
    make(Path("x"))
    before = contents(folder), os.lstat("x").st_ino, os.lstat("x").st_mode
    assert run(command, "x") == 2
    captured = capfd.readouterr()
    option = command.split()[-1]
    assert captured.out == ""
    assert captured.err.startswith(f"error: {option} x: {message}")
    assert captured.err.count("\n") == 1
    assert (contents(folder), os.lstat("x").st_ino, os.lstat("x").st_mode) == before


@EVERY_COMMAND
@pytest.mark.parametrize("name", ["x/", "", "-", "folder/.."])
def test_what_names_no_file_is_refused(folder, capfd, command, name):
    before = contents(folder)
    assert run(command, name) == 2
    assert capfd.readouterr().err.startswith(f"error: {command.split()[-1]} '{name}': ")
    assert contents(folder) == before


@pytest.mark.parametrize("command", [command for command in COMMANDS if command != KEEP])
def test_its_own_earlier_file_is_replaced_and_that_of_any_other_kind_is_not(folder, capfd, command):
    target = folder / COMMANDS[command]
    umask = os.umask(0o027)
    try:
        assert run(command, str(target)) == 0
    finally:
        os.umask(umask)
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    first = target.stat()
    assert run(command, str(target)) == 0
    assert target.stat().st_ino != first.st_ino
    assert target.stat().st_mode == first.st_mode
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []
    if target.suffix != ".html":
        assert run("report --out", str(target)) == 2
    else:
        assert run("export --out", str(target)) == 2
    assert target.stat().st_size > 0
    assert "holds something that this command has not written" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "file"),
    [
        (f"{CHECK} --html H.csv", "H.csv"),
        (f"{CHECK} --junit ./C.csv", "C.csv"),
        ("fit trials.csv", "trials.csv"),
        ("report --out suite.toml", "suite.toml"),
        ("export --out mine.py --plugin mine.py", "mine.py"),
        ("sweep suite.toml --report suite.toml", "suite.toml"),
    ],
)
def test_no_input_is_an_output(folder, arguments, file):
    (folder / "suite.toml").write_text("backends = ['single']\n")
    (folder / "mine.py").write_text("import sys\n")
    (folder / "trials.csv").write_text("ranks,throughput\n1,1\n2,2\n4,4\n")
    before = contents(folder)
    main(shlex.split(arguments))
    assert contents(folder)[file] == before[file]


def test_a_table_that_somebody_has_extended_is_not_ours_any_more(folder, capfd):
    assert run("export --out", "x.csv") == 0
    table = folder / "x.csv"
    header, *rows = table.read_text().splitlines()
    table.write_text("\n".join([f"{header},mine", *(f"{row},1" for row in rows)]))
    assert run("export --out", "x.csv") == 2
    assert table.read_text().startswith(f"{header},mine\n")
    older = ",".join(header.split(",")[:-3])
    table.write_text(f"{older}\n")
    assert run("export --out", "x.csv") == 0, "columns are appended by later versions"


@pytest.mark.parametrize(
    "meta",
    [
        """name="viewport" content="width=device-width">\n<meta http-equiv="Content-Security-Policy" """
        """content="default-src 'none'; script-src 'unsafe-inline' blob:; style-src 'unsafe-inline'">""",
        """http-equiv="Content-Security-Policy" content="default-src 'none'; script-src &#39;sha256-GB3i">""",
    ],
    ids=["first", "latest"],
)
def test_the_pages_of_earlier_versions_are_ours(folder, meta):
    head = '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    page = folder / "report.html"
    page.write_text(f"{head}<meta {meta}\n")
    assert run("report --out", "report.html") == 0
    page.write_text(f"{head}<title>mine</title>\n")
    assert run("report --out", "report.html") == 2


@pytest.mark.parametrize(
    "make",
    [os.mkfifo, lambda target: target.write_text("mine")],
    ids=["pipe", "foreign"],
)
@pytest.mark.parametrize("name", ["index.html", "s1.html"])
def test_an_index_writes_over_nothing_of_others(folder, capfd, name, make):
    (folder / "nights").mkdir()
    make(Path("nights", name))
    os.utime(f"nights/{name}", (0, 0))
    before = os.lstat(f"nights/{name}")
    assert stat.S_ISFIFO(before.st_mode) or before.st_size
    assert run("report --index", "nights") == 2
    captured = capfd.readouterr().err
    assert f"nights/{name}: " in captured
    assert captured.count("\n") == 1
    assert [path.name for path in (folder / "nights").iterdir()] == [name]
    after = os.lstat(f"nights/{name}")
    assert (after.st_ino, after.st_mode, after.st_mtime) == (before.st_ino, before.st_mode, before.st_mtime)


def test_two_options_are_two_files(folder, capfd):
    assert run(f"{CHECK} --html x --junit x --markdown y") == 2
    assert "--html x: is what --junit writes too" in capfd.readouterr().err
    assert not (folder / "x").exists()


def test_a_store_is_no_report_even_before_it_exists(folder, capfd):
    assert main(["sweep", "--backends", "single", "--store", "n.sqlite", "--out", "./n.sqlite"]) == 2
    said = capfd.readouterr().err.splitlines()
    assert said[-1] == "error: --out n.sqlite: is the results store; name another file"
    assert not (folder / "n.sqlite").exists()


def test_a_store_is_not_merged_into_itself_under_another_name(folder, capfd):
    (folder / "twin.sqlite").hardlink_to(folder / "r.sqlite")
    assert run("merge", "twin.sqlite") == 2
    assert "twin.sqlite is the store itself" in capfd.readouterr().err


def run_in_little_space(folder, command: str):
    """On a disk that takes everything but a page."""
    limits = (PAGE_BYTES, PAGE_BYTES)
    return subprocess.run(
        [sys.executable, "-m", "harness", *shlex.split(command)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=partial(resource.setrlimit, resource.RLIMIT_FSIZE, limits),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_a_verdict_is_printed_where_its_page_can_t_be_written(folder):
    done = run_in_little_space(folder, f"{CHECK} --html x.html --markdown x.md --json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["exit"] == 0
    assert done.stderr == "error: --html x.html: cannot be written (File too large); name another place\n"
    assert "Nightly check" in (folder / "x.md").read_text()
    assert not (folder / "x.html").exists()


@pytest.mark.slow
def test_a_sweep_whose_page_can_t_be_written_is_printed_and_says_where_its_trials_are(folder):
    write_sweep("unfinished.sqlite", "s1", 1)
    done = run_in_little_space(folder, "sweep --resume --store unfinished.sqlite --report x.html --json")
    assert done.returncode == 2
    document = json.loads(done.stdout)
    assert "--out x.html: cannot be written (File too large)" in document["report_problem"]
    assert [cell["outcome"] for cell in document["cells"]] == ["ok"]
    again = "`python -m harness report s1 --store unfinished.sqlite --out FILE.html`"
    assert done.stderr.splitlines()[-1].endswith(f"the trials are stored: {again}")
    assert not (folder / "x.html").exists()
    assert len(open_store("unfinished.sqlite", create=False).trials("s1")) == 1
    assert open_store("unfinished.sqlite", create=False).sweep("s1").finished_at is not None
