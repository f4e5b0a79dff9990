from __future__ import annotations

import importlib.util
import json

import pytest

from harness.cli.app import main
from tests.support.stores import write_sweep

HAS_RESVG = importlib.util.find_spec("resvg_py") is not None


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    place = str(tmp_path_factory.mktemp("store") / "results.sqlite")
    for name in ("s1", "s2"):
        write_sweep(place, name, 3)
    return place


def report(store, *arguments):
    return main(["report", *arguments, "--store", store])


def names_in(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_one_command_writes_the_page_and_its_summaries(store, tmp_path, capsys):
    place = tmp_path / "made"
    place.mkdir()
    options = ("--out", f"{place}/p.html", "--markdown", f"{place}/s.md", "--svg", f"{place}/figures")
    assert report(store, "s1", *options, "--badge", f"{place}/b.svg") == 0
    names = {"p.html", "s.md", "b.svg", "figures/efficiency-table.svg", "figures/synthetic-throughput.svg"}
    assert names_in(place) == names
    first = {name: (place / name).read_bytes() for name in names}
    assert "report: " in capsys.readouterr().out
    # Its own files are written again, and are the same.
    assert report(store, "s1", *options, "--badge", f"{place}/b.svg", "--json") == 0
    assert {name: (place / name).read_bytes() for name in names} == first
    assert json.loads(capsys.readouterr().out)["report"] == f"{place}/p.html"


def test_a_dash_prints_the_summary_and_nothing_else(store, capsys):
    assert report(store, "s1", "--markdown", "-") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("<!-- scaling-harness sweep -->\n## ")
    assert shown.rstrip().endswith("</code>")
    assert "report:" not in shown


def test_two_sweeps_side_by_side_have_a_summary_too(store, tmp_path, capsys):
    assert report(store, "s1", "s2", "--markdown", "-", "--svg", str(tmp_path / "figures")) == 0
    assert "B against A" in capsys.readouterr().out
    assert (tmp_path / "figures" / "efficiency-table.svg").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--json", "--markdown", "-"], "--json and --markdown - both print on standard output"),
        (["--index", "n", "--badge", "b.svg"], "not of an --index"),
        (["s1", "s2", "--badge", "b.svg"], "--badge says how far one sweep scales"),
        (["--markdown", "nowhere/s.md"], "--markdown nowhere/s.md: its folder does not exist"),
        (["--markdown", "same", "--out", "same"], "is what --out writes too"),
    ],
)
def test_what_cannot_be_is_refused(store, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    before = names_in(tmp_path)
    assert report(store, *arguments) == 2
    assert message in capsys.readouterr().err
    assert names_in(tmp_path) == before


def test_a_foreign_file_stays_and_no_other_file_is_written(store, tmp_path, capsys):
    folder = tmp_path / "figures"
    folder.mkdir()
    (folder / "efficiency-table.svg").write_text("<svg>by hand</svg>")
    assert report(store, "s1", "--out", str(tmp_path / "p.html"), "--svg", str(folder)) == 2
    assert "holds something that this command has not written" in capsys.readouterr().err
    assert (folder / "efficiency-table.svg").read_text() == "<svg>by hand</svg>"
    assert not (tmp_path / "p.html").exists()


def test_images_are_drawn_where_the_package_is_installed_and_it_is_named_elsewhere(store, tmp_path, capsys):
    status = report(store, "s1", "--png", str(tmp_path / "figures"))
    if HAS_RESVG:
        assert (status, names_in(tmp_path / "figures")) == (0, {"efficiency-table.png", "synthetic-throughput.png"})
    else:
        assert status == 2
        assert "python -m pip install resvg-py" in capsys.readouterr().err
        assert not (tmp_path / "figures").exists()
