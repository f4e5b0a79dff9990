"""Names and values of options, as ``--set`` and suites give them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from bench.plugins.backend import Options
from bench.workloads.collectives.workload import CollectivesOptions
from harness.errors import UsageError
from harness.planning.options import option_combinations, parse_settings, resolve_options, single_options

KNOWN = {
    "workload.mnist": ("model", "eval"),
    "backend.ddp": ("bucket_cap_mb", "transport"),
    "backend.dask": ("exchange", "transport"),
    "site.dask": ("address", "exchange"),
    "site.slurm": ("partition",),
}


class SiteOptions(Options):
    queue: str = Field("all", pattern="^[a-z,]+$", description="where jobs go")
    nodes: int = Field(1, description="how many")


@pytest.mark.parametrize("setting", ["ddp", "ddp.x", "=3", "ddp.x=", "worklod.mnist.model=cnn", ".x=1"])
def test_a_setting_has_a_form(setting):
    with pytest.raises(UsageError, match=r"expected SCOPE\.NAME\.OPTION=VALUE"):
        parse_settings([setting])


@pytest.mark.parametrize(
    ("settings", "axes"),
    [
        (["ddp.x=1,25"], {"ddp": {"x": ("1", "25")}}),
        (["backend.ddp.x=1", "backend.ddp.x=2,3"], {"backend.ddp": {"x": ("1", "2", "3")}}),
        (["ddp.x=1", "ddp.y=2"], {"ddp": {"x": ("1",), "y": ("2",)}}),
        (['site.slurm.extra="a,b"'], {"site.slurm": {"extra": ("a,b",)}}),
        (['slurm.extra="a,b",c'], {"slurm": {"extra": ("a,b", "c")}}),
        (['slurm.extra="say ""hi"""'], {"slurm": {"extra": ('say "hi"',)}}),
        (["slurm.extra=--opt=1 it's"], {"slurm": {"extra": ("--opt=1 it's",)}}),
        (["site.partition=gpu"], {"site": {"partition": ("gpu",)}}),
    ],
)
def test_several_values_are_separated_by_commas_or_repeated(settings, axes):
    assert parse_settings(settings) == axes


@given(st.lists(st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1), min_size=1))
def test_any_value_can_be_quoted(values):
    text = ",".join('"' + value.replace('"', '""') + '"' for value in values)
    assert parse_settings([f"site.slurm.extra={text}"]) == {"site.slurm": {"extra": tuple(values)}}


def test_a_quote_that_does_not_end_is_refused():
    with pytest.raises(UsageError, match="a quoted value ends with its quote"):
        parse_settings(['slurm.extra="a,b'])


def test_a_short_name_stands_for_the_one_plugin_that_has_the_option():
    axes = {"mnist": {"model": ("cnn",)}, "dask": {"transport": ("tasks",), "address": ("tcp://h:1",)}}
    assert resolve_options(axes, KNOWN) == {
        "workload.mnist": {"model": ("cnn",)},
        "backend.dask": {"transport": ("tasks",)},
        "site.dask": {"address": ("tcp://h:1",)},
    }


def test_full_names_stay_as_they_are():
    axes = {"backend.dask": {"exchange": ("direct",)}, "site.dask": {"exchange": ("x",)}}
    assert resolve_options(axes, KNOWN) == axes


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        (
            {"dask": {"exchange": ("direct",)}},
            "option dask.exchange is ambiguous: write backend.dask.exchange or site.dask.exchange",
        ),
        ({"dpd": {"x": (1,)}}, "option dpd.x: unknown workload, backend or site 'dpd'; did you mean 'ddp'?"),
        ({"backend.dpd": {"x": (1,)}}, "unknown workload, backend or site 'backend.dpd'; did you mean 'backend.ddp'?"),
        (
            {"ddp": {"bucket_cap": (1,)}},
            "option ddp.bucket_cap: backend.ddp has no option 'bucket_cap'; did you mean 'bucket_cap_mb'?",
        ),
        ({"dask": {"adress": ("h",)}}, "backend.dask and site.dask have no option 'adress'; did you mean 'address'?"),
        ({"workload.ddp": {"transport": ("gloo",)}}, "unknown workload, backend or site 'workload.ddp'"),
        (
            {"ddp": {"transport": ("gloo",)}, "backend.ddp": {"transport": ("mpi",)}},
            "option backend.ddp.transport: is set as ddp.transport too; leave one of them out",
        ),
    ],
)
def test_a_wrong_name_is_one_line(axes, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        resolve_options(axes, KNOWN)


def test_a_site_has_one_value_an_option_and_a_comma_is_quoted():
    assert single_options("site.far", SiteOptions, {"queue": ("a,b",), "nodes": ("2",)}) == SiteOptions(
        queue="a,b", nodes=2
    )
    with pytest.raises(UsageError) as problem:
        single_options("site.far", SiteOptions, {"queue": ("a", "b")})
    assert str(problem.value) == (
        "option site.far.queue takes one value, 2 are given; if that is one with commas in it, quote it: "
        "--set 'site.far.queue=\"a,b\"'"
    )


def test_what_is_refused_is_shown_without_its_password():
    for axes in ({"queue": ("tcp://me:secret@h",)}, {"queue": ("tcp://me:secret@h", "b")}):
        with pytest.raises(UsageError) as problem:
            single_options("site.far", SiteOptions, axes)
        assert "secret" not in str(problem.value)
    for setting in ("dask=tcp://me:secret@h", 'dask.address="tcp://me:secret@h'):
        with pytest.raises(UsageError) as problem:
            parse_settings([setting])
        assert "secret" not in str(problem.value)


def test_a_value_of_the_wrong_form_comes_with_the_option_s_description():
    with pytest.raises(UsageError) as problem:
        option_combinations("site.far", SiteOptions, {"queue": ("a;b",)})
    assert str(problem.value) == "option site.far.queue = a;b: has a form that is not allowed; queue: where jobs go"


def test_what_is_wrong_of_several_options_together_is_said_without_a_value():
    with pytest.raises(UsageError) as caught:
        option_combinations("workload.collectives", CollectivesOptions, {"begin": ("4096",), "end": ("1KiB",)})
    assert str(caught.value) == "option workload.collectives: begin (4.0KiB) is larger than end (1.0KiB)"
