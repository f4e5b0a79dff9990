from __future__ import annotations

from reports.analysis import case_titles
from tests.support.builders import make_case


def test_emulated_compute_is_named_wherever_the_workload_is():
    case = make_case(workload_options={"model": "emulated"}, flags=("emulated_compute",))
    assert "emulated compute" in case_titles.case_title(case)
