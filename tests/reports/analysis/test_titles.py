from __future__ import annotations

from reports.analysis.titles import enumerate_names, sweep_title
from tests.support.builders import make_case


def test_a_title_is_made_of_what_ran():
    cases = [
        make_case(workload=workload, backend=backend, ranks=ranks)
        for workload in ("mnist", "synthetic")
        for backend in ("ddp", "horovod", "fsdp")
        for ranks in (8, 1)
    ]
    assert sweep_title(cases) == "mnist and synthetic: ddp, horovod and fsdp at 1–8 ranks"


def test_a_title_says_the_kind_of_scaling_and_the_site_where_they_are_not_the_default():
    assert sweep_title([make_case(scaling="weak", site="slurm")]) == (
        "synthetic: ddp at 2 ranks under weak scaling on slurm"
    )
    assert sweep_title([]) == "nothing was planned"


def test_long_lists_are_counted():
    assert enumerate_names([*"abcde", "a"]) == "a, b, c, d and e"
    assert enumerate_names("abcdef") == "a, b, c, d and 2 more"
    assert enumerate_names([]) == ""
