from __future__ import annotations

from reports.analysis import case_titles
from reports.analysis.cells import make_cells
from reports.analysis.findings import analyse_cells
from reports.page.summary import flag_lines
from tests.support.builders import make_case, make_trial


def test_emulated_compute_is_named_wherever_the_workload_is():
    case = make_case(workload_options={"model": "emulated"}, flags=("emulated_compute",))
    assert "emulated compute" in case_titles.case_title(case)


def test_a_flag_of_two_curves_names_one_and_counts_one_more_curve():
    cases = [make_case(backend=backend, ranks=ranks) for backend in ("ddp", "horovod") for ranks in (1, 2)]
    cells = make_cells(cases, {}, [make_trial(case) for case in cases], {})
    (line,) = [line for line in flag_lines(analyse_cells(cells)) if line.startswith("too_few_points")]
    assert "there are 2 (and 1 more curve);" in line
