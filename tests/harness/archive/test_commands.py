"""``sweeps list``, ``show``, ``compare`` and the commands that change labels, on one store of three sweeps."""

from __future__ import annotations

import json
import re
import shlex
import shutil

import pytest

from harness.cli.app import load_command, main
from harness.cli.sweeps import EXAMPLES, SUBCOMMANDS
from reports.formats.console import TextConsole
from tests.support.builders import make_case, make_trial
from tests.support.exports import curve, store_sweep

OLD, MIDDLE, NEW = "20260101-101500-ab12", "20260201-101500-cd34", "20261120-101500-ef56"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The same work three times: the second with a cell that failed, the third slower at four ranks."""
    folder = tmp_path_factory.mktemp("store")
    failed = make_trial(make_case(ranks=8), outcome="failed", ranks=(), reason="rank 1 died")
    slower = [
        make_trial(one.case, one.round, one.ranks[0].step_s[0] * (2.5 if one.case.ranks == 4 else 1)) for one in curve()
    ]
    for name, trials in ((OLD, curve()), (MIDDLE, [*curve(), failed]), (NEW, slower)):
        day = f"{name[:4]}-{name[4:6]}-{name[6:8]}"
        store_sweep(folder / "r.sqlite", trials, name=name, started_at=f"{day}T10:15:00+00:00")
    return folder / "r.sqlite"


@pytest.fixture
def run(made, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    shutil.copy(made, "r.sqlite")

    def run(*arguments):
        status = main(["sweeps", *arguments, "--store", "r.sqlite"])
        return status, *capfd.readouterr()

    return run


def listed(run, *arguments) -> list[str]:
    return [one["sweep"] for one in json.loads(run("list", *arguments, "--json")[1])["sweeps"]]


def test_the_newest_come_first_with_what_they_are_and_take(run):
    document = json.loads(run("list", "--json")[1])
    newest, middle, _ = document["sweeps"]
    assert (newest["sweep"], newest["title"], newest["state"]) == (NEW, "synthetic: ddp at 1–4 ranks", "finished")
    assert (middle["ok"], middle["failed"]) == (3, 1)
    assert middle["rows"]["trials"] == 7
    assert middle["disk_bytes"] == middle["rows"]["bytes"] > 1_000
    assert document["store_bytes"] > sum(one["disk_bytes"] for one in document["sweeps"])
    assert document["more"] == 0


def test_filters_and_a_limit(run):
    run("tag", MIDDLE, "release")
    assert listed(run, "--tag", "release") == [MIDDLE]
    assert listed(run, "--since", "2026-02-01") == [NEW, MIDDLE]
    assert listed(run, "--since", "36500d") == [NEW, MIDDLE, OLD]
    assert listed(run, "--limit", "1") == [NEW]
    assert listed(run, "--limit", "0") == [NEW, MIDDLE, OLD]
    assert "2 older sweeps not shown; --limit 0 shows all" in run("list", "--limit", "1")[1]
    for arguments, message in {
        ("--tag", "nope"): "--tag nope: no sweep has it",
        ("--since", "soon"): "--since soon: expected an age",
        ("--since", "999999d"): "expected an age of at most a hundred years",
        ("--limit", "-1"): "greater than or equal to 0",
    }.items():
        status, out, err = run("list", *arguments)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert message in err


@pytest.mark.parametrize("width", [80, 140])
def test_nothing_is_cut_from_a_list_on_a_terminal_of_any_width(run, width, capfd):
    from harness.archive.listing import list_sweeps

    run("rename", OLD, "before the new loader, on the machine that had the other network card")
    run("tag", OLD, "release-candidate-with-a-long-name", "v1")
    list_sweeps("r.sqlite", None, None, 20).print(TextConsole(width=width, force_terminal=True))
    lines = capfd.readouterr().out.splitlines()
    assert max(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in lines) <= width
    letters = "".join(re.sub(r"\x1b\[[0-9;]*m|\s", "", line) for line in lines)
    assert "…" not in letters
    for word in (OLD, MIDDLE, "machine", "network", "v1"):
        assert word in letters


def test_a_sweep_is_shown_with_its_answers(run):
    run("note", "latest~1", "node 17 was busy")
    status, out, _ = run("show", "latest~1")
    assert status == 0
    assert out.startswith("synthetic: ddp at 1–8 ranks\n3 of 4 cells with a number\n")
    assert "note: node 17 was busy\n" in out
    document = json.loads(run("show", "202602", "--json")[1])
    assert (document["sweep"], document["note"]) == (MIDDLE, "node 17 was busy")
    (answer,) = document["answers"]
    assert answer["fastest"] == ["ddp/gloo"]


def test_two_sweeps_are_compared_cell_by_cell(run, tmp_path):
    status, out, _ = run("compare", OLD, "latest", "--markdown", "changes.md", "--json")
    assert status == 0
    document = json.loads(out)
    assert document["sweeps"] == {"A": OLD, "B": NEW}
    assert document["report"] is None
    changes = document["comparisons"][0]["changes"]
    assert [change["direction"] for change in changes] == ["unclear", "unclear", "slower"]
    assert [change["check"] for change in changes] == ["pass", "pass", "suspect"]
    assert changes[2]["ratio"]["value"] == pytest.approx(1 / 2.5)
    text = (tmp_path / "changes.md").read_text()
    assert text.startswith("<!-- scaling-harness comparison -->\n## B against A\n")
    assert text.count("statistically tied") >= 2
    assert re.search(r"\| synthetic · ddp/gloo · 4 ranks · strong \| .*slower.* \| slower \| suspect \|", text)
    assert run("compare", OLD, "latest", "--markdown", "-")[1] == text
    shown = run("compare", OLD, "latest")[1]
    assert "statistically tied" in shown
    assert "2.50× slower" in shown
    assert list(tmp_path.glob("*/*.html")) == []


def test_why_check_says_nothing_of_another_machine_is_said_once(run, monkeypatch):
    monkeypatch.setenv("SCALING_MACHINE", "elsewhere")
    store_sweep("r.sqlite", curve(), name="other", started_at="2026-11-21T00:00:00+00:00")
    out = run("compare", "202611", "other")[1]
    assert out.count("check: 3 cells are incomparable: ") == 1
    assert "host elsewhere, not " in out
    changes = json.loads(run("compare", "202611", "other", "--json")[1])["comparisons"][0]["changes"]
    assert {change["check"] for change in changes} == {"incomparable"}


def test_a_sweep_is_not_compared_with_itself_and_a_file_of_somebody_else_stays(run, tmp_path):
    assert run("compare", "latest", NEW)[0] == 2
    (tmp_path / "README.md").write_text("# Mine\n")
    assert run("compare", OLD, NEW, "--markdown", "README.md")[0] == 2
    assert (tmp_path / "README.md").read_text() == "# Mine\n"


def test_labels_are_changed_and_removed(run):
    assert run("tag", NEW[:12], "b", "a", "b")[1] == f"{NEW}: synthetic: ddp at 1–4 ranks · tagged b, a\n"
    renamed = json.loads(run("rename", "a", "new [loader]", "--json")[1])
    assert {name: renamed[name] for name in ("sweep", "title", "note", "tags")} == {
        "sweep": NEW,
        "title": "new [loader]",
        "note": None,
        "tags": ["b", "a"],
    }
    assert run("note", "a", "two\nlines")[1] == f"{NEW}: new [loader] · tagged b, a · two lines\n"
    assert run("untag", "b", "b", "a")[0] == run("note", NEW, "")[0] == 0
    assert run("rename", NEW, "")[1] == f"{NEW}: synthetic: ddp at 1–4 ranks\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tag", NEW, "latest"), "tag: 'latest' is no tag"),
        (("tag", NEW, OLD), f"tag '{OLD}' is the id of a sweep, which it would never name; choose another"),
        (("tag", NEW, *(f"t{number}" for number in range(21))), "a sweep has at most 20 tags"),
        (("untag", NEW, "x"), f"sweep '{NEW}' has no tag 'x'"),
        (("note", NEW, "\x1b[2J"), "note: a note has no control characters"),
        (("rename", NEW, "x" * 121), "title: a title has at most 120 characters"),
        (("rename", "2026", "x"), "'2026' is the start of 3 sweeps"),
        (("show", "latest~3"), "has no sweep 'latest~3': it holds 3"),
    ],
)
def test_what_is_wrong_is_one_line(run, arguments, message):
    status, out, err = run(*arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert err.rstrip("\n").isprintable()


def test_every_command_that_takes_a_sweep_takes_its_names(run, capfd):
    """Which mean the same everywhere: each command is given one of them."""
    run("tag", MIDDLE, "release")
    name = "release"
    assert main(["report", "latest~1", "--store", "r.sqlite", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["sweep"] == MIDDLE
    assert main(["report", OLD, "20260201", "--store", "r.sqlite", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["sweeps"]["B"] == MIDDLE
    assert main(["report", name, "--index", "pages", "--store", "r.sqlite", "--json"]) == 0
    assert [one["sweep"] for one in json.loads(capfd.readouterr().out)["sweeps"]] == [MIDDLE]
    assert main(["export", name, "--store", "r.sqlite"]) == 0
    assert MIDDLE in capfd.readouterr().out
    assert main(["check", "--sweep", MIDDLE, "--baseline", name, "--store", "r.sqlite"]) == 2
    assert f"--baseline {name} is the newest sweep itself" in capfd.readouterr().err
    assert main(["check", "--sweep", name, "--store", "r.sqlite", "--json"]) in (3, 4)
    assert json.loads(capfd.readouterr().out)["judged"] == MIDDLE


@pytest.mark.parametrize("part", SUBCOMMANDS)
def test_the_examples_of_each_command_parse(part):
    group = load_command("sweeps")
    examples = re.findall(r"`(python -m harness sweeps [^`]+)`", EXAMPLES[f"sweeps {part}"])
    assert any(shlex.split(example)[4] == part for example in examples)
    for example in examples:
        words = shlex.split(example)[4:]
        assert group.commands[words[0]].make_context(words[0], words[1:]).params
