from __future__ import annotations

import re

import pytest

from harness.errors import UsageError
from harness.planning.suite import (
    Suite,
    apply_flags,
    find_toml_line,
    parse_duration,
    parse_fault,
    parse_percent,
    parse_settings,
    read_suite,
    suite_names,
)


@pytest.mark.parametrize("name", suite_names())
def test_every_shipped_suite_reads(name):
    suite = read_suite(name)
    assert suite.name == name
    assert suite.summary


def write(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return str(path)


def test_a_list_is_an_axis_and_a_value_is_one_point(tmp_path):
    suite = read_suite(write(tmp_path, "ranks = [1, 2]\n[options.ddp]\nbucket_cap_mb = [1, 25]\nstatic_graph = true\n"))
    assert suite.options == {"ddp": {"bucket_cap_mb": (1, 25), "static_graph": (True,)}}
    assert suite.ranks == (1, 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\nrepeat = 3\n", ":2: unknown key 'repeat'; did you mean 'repeats'?"),
        ("repeats = 3\nranks = [1, 0]\n", ":2: ranks = 0: input should be greater than or equal to 1"),
        ("ranks = [1, 1]\n", ":1: ranks = [1, 1]: names 1 twice"),
        ("backends = []\n", ":1: backends = []: is empty"),
        ("scaling = ['sideways']\n", ":1: scaling = 'sideways': input should be 'strong' or 'weak'"),
        ("repeats = 3\nranks = [1,,]\n", "line 2"),
        ("\n[options.ddp]\nbucket_cap_mb = []\n", ":3: options.ddp.bucket_cap_mb is empty"),
        ("options = 3\n", ":1: options must be tables"),
    ],
)
def test_a_wrong_suite_is_told_by_file_and_line(tmp_path, text, said):
    with pytest.raises(UsageError) as told:
        read_suite(write(tmp_path, text))
    assert said in str(told.value)
    assert "mine.toml" in str(told.value)
    assert "\n" not in str(told.value)


def test_an_unknown_suite_names_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'nightly'"):
        read_suite("nihgtly")
    with pytest.raises(UsageError, match="no such file"):
        read_suite("missing.toml")


def test_flags_win_over_the_file(tmp_path):
    suite = read_suite(write(tmp_path, "repeats = 3\n[options.ddp]\nbucket_cap_mb = 1\nstatic_graph = true\n"))
    changed = apply_flags(suite, {"repeats": 5}, parse_settings(["ddp.bucket_cap_mb=2,4"]))
    assert changed.repeats == 5
    assert changed.options["ddp"] == {"bucket_cap_mb": ("2", "4"), "static_graph": (True,)}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ranks": ("1", "x")}, "--ranks: ranks = 'x'"),
        ({"ranks": ("-1",)}, "--ranks: ranks = '-1'"),
        ({"ranks": ("2", "2")}, "names 2 twice"),
        ({"timeout_s": -1.0}, "--timeout: timeout_s = -1.0"),
    ],
)
def test_a_wrong_flag_is_named(changes, said):
    with pytest.raises(UsageError) as told:
        apply_flags(Suite(), changes, {})
    assert said in str(told.value)


@pytest.mark.parametrize("setting", ["ddp", "ddp.x", "=3", "ddp.x="])
def test_a_setting_has_a_form(setting):
    with pytest.raises(UsageError, match=r"expected SCOPE\.OPTION=VALUE"):
        parse_settings([setting])


@pytest.mark.parametrize(("text", "share"), [("2%", 0.02), ("0.05", 0.05)])
def test_a_precision_is_a_share(text, share):
    assert parse_percent(text) == pytest.approx(share)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400)])
def test_a_budget_is_a_duration(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("parse", [parse_percent, parse_duration])
def test_nonsense_is_neither(parse):
    with pytest.raises(UsageError, match="for example"):
        parse("soon")


def test_line_of_a_nested_key():
    text = "a = 1\n[options.horovod]\nx = 2\n[options.ddp]\nx = 3\n"
    assert find_toml_line(text, ("options", "ddp", "x", "0")) == 5
    assert find_toml_line("options.ddp.x = 3\n", ("options", "ddp", "x")) == 1
    assert find_toml_line(text, ("options", "ddp", "y")) == 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kil:rank=1", "unknown kind 'kil'; did you mean 'kill'?"),
        ("kill", "which rank?"),
        ("kill:rank=one", "rank = 'one' is not a number"),
        ("kill:rank=-1", "rank must be 0 or more"),
        ("kill:rnk=1", "unknown setting 'rnk'; did you mean 'rank'?"),
        ("slow:rank=1", "how late?"),
        ("kill:rank=1,ms=3", "kill takes no ms"),
        ("slow:rank=1,ms=inf", "ms must be 0 or more"),
    ],
)
def test_a_wrong_fault_is_said(text, said):
    with pytest.raises(UsageError, match=re.escape(said)):
        parse_fault(text)


def test_a_fault_is_read_as_it_is_written():
    for text in ("kill:rank=1,step=3", "slow:rank=0,ms=200", "stop:rank=2"):
        assert parse_fault(text).label == text
