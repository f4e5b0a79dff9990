"""The main job: every backend over every workload, one command, proven the same, one page."""

from __future__ import annotations

import csv
import io
import json

import pytest

from tests.e2e.conftest import Harness

BACKENDS = ("single", "ddp", "fsdp", "horovod", "dask")
TRAINING = ("mnist", "synthetic")


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    harness = Harness(tmp_path_factory.mktemp("sweep"), preloaded=True)
    document = harness.lean_sweep(
        "--backends",
        ",".join(BACKENDS),
        "--workloads",
        "mnist,synthetic,allreduce,array_mean",
        "--ranks",
        "1,2",
        "--set",
        "array_mean.rows=4000",
        "--set",
        "array_mean.columns=4000",
        keeping=("decompose", "roofline"),
    )
    return harness, document


def test_every_cell_is_ok(swept):
    harness, document = swept
    assert {cell["title"]: cell["reason"] for cell in document["cells"] if cell["outcome"] != "ok"} == {}
    assert {(cell["workload"], cell["backend"]) for cell in document["cells"]} == {
        (workload, backend)
        for workload in (*TRAINING, "allreduce", "array_mean")
        for backend in BACKENDS
        if (workload, backend) != ("allreduce", "single")
    }
    harness.nothing_left()


def test_every_cell_is_proven_the_same_and_not_vacuously(swept):
    cells = swept[1]["cells"]
    assert {cell["same_work"]["verdict"] for cell in cells} == {"same"}
    for cell in cells:
        if cell["workload"] in TRAINING and cell["ranks"] == 2:
            assert cell["same_work"]["deviation"] <= 1e-3
            assert 0 < cell["same_work"]["rounding"] < 1e-3, "half batches round differently, but little"


def test_every_cell_has_a_number(swept):
    for cell in swept[1]["cells"]:
        assert cell["throughput"]["value"] > 0
        assert cell["throughput"]["unit"] == {"allreduce": "B/s", "array_mean": "elements/s"}.get(
            cell["workload"], "samples/s"
        )


def test_mnist_s_source_is_named_and_the_same_everywhere(swept):
    sources = [cell["data"] for cell in swept[1]["cells"] if cell["workload"] == "mnist"]
    assert len({source["digest"] for source in sources}) == 1
    stand_in = sources[0]["stand_in"]
    assert ("stand-in" in sources[0]["name"]) == stand_in
    flags = [cell["flags"] for cell in swept[1]["cells"] if cell["workload"] == "mnist"]
    assert all(("stand_in_data" in found) == stand_in for found in flags)


def test_the_array_s_other_machinery_is_said(swept):
    for cell in swept[1]["cells"]:
        assert ("other_machinery" in cell["flags"]) == (cell["workload"] == "array_mean" and cell["backend"] == "dask")


def test_allreduce_covers_its_sizes(swept):
    for cell in swept[1]["cells"]:
        if cell["workload"] == "allreduce":
            sizes = [message["message_bytes"] for message in cell["messages"]]
            assert (sizes[0], sizes[-1]) == (1024, 64 * 2**20)
            for message in cell["messages"]:
                assert message["bus_bandwidth"]["value"] == pytest.approx(message["algorithm_bandwidth"]["value"])


def test_what_was_in_force_is_recorded(swept):
    settings = {cell["backend"]: cell["settings"] for cell in swept[1]["cells"]}
    assert settings["horovod"]["cycle_time_ms"] == "1 (Horovod's default)"
    assert settings["ddp"]["bucket_cap_mb"] == "25, the first 1 (torch's default)"
    assert {found["threads"] for found in settings.values()} == {"1"}


def test_the_page_can_be_written_again_from_the_store(swept):
    harness, document = swept
    page = harness.folder / "again.html"
    done = harness.run("report", document["sweep"], "--out", str(page))
    assert done.returncode == 0, done.stderr
    assert page.read_bytes() == (harness.folder / ".runs" / document["sweep"] / "report.html").read_bytes()


def test_an_export_says_what_the_sweep_said(swept):
    harness, document = swept
    rows = list(csv.DictReader(io.StringIO(harness.run("export").stdout)))
    said = {cell["key"]: cell["throughput"]["value"] for cell in document["cells"]}
    assert {row["case"]: float(row["throughput"]) for row in rows} == pytest.approx(said)
    assert all(int(row["memory_peak_bytes"]) > 0 for row in rows)
    harness.run("export", "--out", "trials.csv")
    fitted = json.loads(harness.run("fit", "trials.csv", "--json").stdout)
    assert {curve["curve"] for curve in fitted["curves"]} == {row["curve"] for row in rows if row["unit"] != "bytes"}
    assert list(fitted["left_out"]) == ["a collective alone has no speed-up"]


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (1400, "dark"), (400, "light")])
def test_the_page_opens_draws_and_asks_for_nothing(swept, browser, width, scheme):
    browser.media(scheme)
    browser.width(width)
    browser.open(swept[1]["report"])
    charts = browser.draw_all()
    assert int(browser.until("document.documentElement.dataset.drawn")) == charts >= 4
    assert browser.run("return document.querySelectorAll('.chart .main-svg').length") >= charts
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out"
    assert browser.errors() == []
    assert browser.requests() == []
    answers = browser.driver.find_element("id", "answers").text
    assert all(workload in answers for workload in ("mnist", "synthetic", "allreduce", "array_mean"))
    assert "samples/s" in answers
