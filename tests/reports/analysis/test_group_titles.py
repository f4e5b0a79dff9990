from __future__ import annotations

from bench.core.case import DataSource
from reports.analysis.cells import make_cells
from reports.analysis.findings import group_cells
from reports.analysis.group_titles import options_text, short_titles
from tests.support.builders import make_case


def titles_of(*cases):
    return short_titles(group_cells(make_cells(cases, {}, [], {})))


def test_a_workload_alone_is_its_name():
    digits = DataSource(name="digits", digest="d", path="p", stands_for="MNIST")
    cases = (make_case(workload_options={"model": "cnn"}), make_case(workload="mnist", data=digits))
    assert titles_of(*cases) == ("synthetic", "mnist")


def test_groups_of_one_workload_say_what_tells_them_apart_and_name_the_default():
    assert titles_of(
        make_case(workload_options={"compute_ms": 80}),
        make_case(workload_options={"compute_ms": 80, "model": "cnn"}),
    ) == ("synthetic (model=mlp)", "synthetic (model=cnn)")
    assert titles_of(make_case(), make_case(scaling="weak")) == (
        "synthetic (strong scaling)",
        "synthetic (weak scaling)",
    )


def test_options_are_named_once_and_in_full():
    (group,) = group_cells(
        make_cells([make_case(workload_options={"model": "emulated", "compute_ms": 80})], {}, [], {})
    )
    assert options_text(group) == "compute_ms=80, model=emulated"


def test_options_of_an_unknown_workload_have_an_unnamed_default():
    cases = (make_case(workload="theirs"), make_case(workload="theirs", workload_options={"size": 3}))
    assert titles_of(*cases) == ("theirs (size=default)", "theirs (size=3)")
