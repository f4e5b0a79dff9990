"""What the page and the JSON document say of how readings are made."""

from __future__ import annotations

from bench.core.update_timing import UpdateTiming
from harness.reporting.json_document import cell_as_json
from reports.analysis.cells import make_cells
from tests.support.gpu_cells import gpu_case, gpu_trial
from tests.support.h200_telemetry import GPU
from tests.support.pages import page_of

CASE = gpu_case("single", "none")


def cells(change=lambda node: {}):
    trial = gpu_trial(CASE, "launch_bound", 1137.0)
    nodes = tuple(node.model_copy(update=change(node)) for node in trial.telemetry)
    return make_cells([CASE], {}, [trial.model_copy(update={"telemetry": nodes})], {})


def rows(cells):
    return page_of(cells).table("What sampled readings are made of").rows


def test_each_reading_has_its_interval_and_its_mean():
    table = {name: rest for name, *rest in rows(cells())}
    device = GPU[:12]
    assert table["GPU power"] == [device, "100 ms", "–", "measured on it"]
    assert table["GPU utilization"] == [device, "200 ms", "200 ms", "measured on it"]
    assert table["GPU SM activity"][2] == "200 ms"
    (section,) = (section for section in page_of(cells()).sections if section.title.startswith("What sampled"))
    assert section.folded


def test_devices_whose_readings_are_made_alike_share_a_row():
    def two_gpus(node):
        power = next(timing for timing in node.update_timings if timing.name == "power_w")
        others = [
            power.model_copy(update={"device": "GPU-2", "source": "table"}),
            power.model_copy(update={"device": "GPU-3"}),
        ]
        return {"update_timings": (power, *others)}

    assert rows(cells(two_gpus)) == (
        ("GPU power", f"{GPU[:12]}, GPU-3", "100 ms", "–", "measured on it"),
        ("GPU power", "GPU-2", "100 ms", "–", "not measured on it: as on an H200"),
    )


def test_records_of_before_have_no_such_section():
    page = page_of(cells(lambda node: {"update_timings": ()}))
    assert not [section for section in page.sections if section.title.startswith("What sampled")]


def test_the_document_has_them_with_each_cell():
    (cell,) = cells()
    timings = [UpdateTiming.model_validate(timing) for timing in cell_as_json(cell)["update_timings"]]
    assert {timing.name for timing in timings} >= {"power_w", "energy_j", "utilization", "sm_activity"}
