"""Environment variables of the ranks as axes of a sweep."""

from __future__ import annotations

import pytest

from bench.core.case import Case
from harness.errors import UsageError
from harness.planning.suite import Suite, apply_flags
from harness.planning.variables import parse_variables, variable_combinations
from reports.analysis.case_titles import case_title
from tests.harness.planning.test_plan import plan
from tests.support.builders import make_case


def test_values_are_separated_by_commas_quoted_as_in_csv_or_repeated():
    settings = ['NCCL_IB_HCA="mlx5_0,mlx5_1",mlx5_2', "NCCL_PROTO=LL", "NCCL_PROTO=Simple", "GLOO_X="]
    assert parse_variables(settings) == {
        "NCCL_IB_HCA": ("mlx5_0,mlx5_1", "mlx5_2"),
        "NCCL_PROTO": ("LL", "Simple"),
        "GLOO_X": ("",),
    }


@pytest.mark.parametrize("setting", ["NCCL_PROTO", "=LL", 'NCCL_PROTO="LL', "NCCL_PROTO=LL\nSimple"])
def test_a_setting_of_another_form_is_refused(setting):
    with pytest.raises(UsageError, match="--env"):
        parse_variables([setting])


@pytest.mark.parametrize(
    ("name", "values", "text"),
    [
        ("1A", ("x",), "no name of a variable"),
        ("A B", ("x",), "no name of a variable"),
        ("NCCL_PROTO", ("LL", "LL"), "names LL twice"),
        ("NCCL_PROTO", (), "name at least one value"),
        ("NCCL_PROTO", ("x" * 201,), "at most 200 characters"),
        ("NCCL_PROTO", ("a\x1bb",), "all of them visible"),
        ("PROXY", ("http://ann:hunter2@hub",), "looks like a secret"),
        ("RANK", ("1",), "tells a rank its place"),
    ],
)
def test_a_wrong_variable_is_named_and_a_secret_is_not_shown(name, values, text):
    with pytest.raises(UsageError, match=text) as refused:
        variable_combinations({name: values})
    assert "hunter2" not in str(refused.value)
    assert str(refused.value).isprintable()


def test_each_combination_of_values_is_a_case_of_its_own_at_every_rank_count():
    found = plan(
        workloads=("synthetic",),
        backends=("ddp",),
        ranks=(1, 2),
        env={"NCCL_PROTO": ("LL", "Simple"), "GLOO_X": ("1", "")},
    )
    assert len(found.cases) == 8
    assert len({case.key for case in found.cases}) == 8
    assert len({case_title(case) for case in found.cases}) == 8
    assert len({case.curve for case in found.cases}) == 4
    assert "ddp/gloo (GLOO_X unset, NCCL_PROTO=LL)" in case_title(found.cases[4])


def test_a_case_without_variables_has_the_key_that_it_had():
    assert make_case().key == "synthetic/ddp-gloo/strong/batch=8/threads=1/cpu/seed=0/ranks=2"
    assert "env" not in Case.model_validate_json(make_case().model_dump_json(exclude={"env"})).key


def test_a_value_can_not_pass_for_another_part_of_a_key():
    odd = make_case(env={"A": "x/ranks=9", "B": "1,C=2"})
    assert odd.key.count("/ranks=") == 1
    assert odd.key != make_case(env={"A": "x/ranks=9", "B": "1", "C": "2"}).key


def test_a_suite_gives_one_value_or_several_and_numbers_are_texts():
    suite = Suite(env={"NCCL_PROTO": "LL", "NCCL_MIN_NCHANNELS": [1, 2]})
    assert suite.env == {"NCCL_PROTO": ("LL",), "NCCL_MIN_NCHANNELS": ("1", "2")}
    changed = apply_flags(suite, {"env": {"NCCL_PROTO": ("Simple",)}}, {})
    assert changed.env == {"NCCL_PROTO": ("Simple",), "NCCL_MIN_NCHANNELS": ("1", "2")}
    with pytest.raises(ValueError, match="string"):
        Suite(env={"NCCL_PROTO": True})
