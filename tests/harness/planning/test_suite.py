from __future__ import annotations

import os

import pytest

from harness.errors import UsageError
from harness.planning.options import parse_settings
from harness.planning.suite import Suite, SuiteFile, apply_flags, read_suite, suite_names
from harness.toml_lines import find_toml_line


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


def test_a_batch_is_a_number_or_several(tmp_path):
    assert read_suite(write(tmp_path, "batch = 64\n")).batch == (64,)
    assert read_suite(write(tmp_path, "batch = [64, 128]\n")).batch == (64, 128)
    assert read_suite(write(tmp_path, "")).batch == (128,)
    stored = read_suite(write(tmp_path, "")).model_dump(mode="json") | {"batch": 256}
    assert Suite.model_validate(stored).batch == (256,), "as suites were stored before there could be several"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\nrepeat = 3\n", ":2: unknown key 'repeat'; did you mean 'repeats'?"),
        ("repeats = 3\nranks = [1, 0]\n", ":2: ranks = 0: input should be greater than or equal to 1"),
        ("batch = [64, 0]\n", ":1: batch = 0: input should be greater than or equal to 1"),
        ("batch = 'large'\n", ":1: batch = 'large': input should be a valid tuple"),
        ("ranks = [1, 1]\n", ":1: ranks = [1, 1]: names 1 twice"),
        ("backends = []\n", ":1: backends = []: is empty"),
        ("scaling = ['sideways']\n", ":1: scaling = 'sideways': input should be 'strong' or 'weak'"),
        ("repeats = 3\nranks = [1,,]\n", "mine.toml: Invalid value (at line 2, column 12)"),
        ("\n[options.ddp]\nbucket_cap_mb = []\n", ":3: options.ddp.bucket_cap_mb is empty"),
        ("\n[backend.ddp]\nbucket_cap_mb = []\n", ":3: backend.ddp.bucket_cap_mb is empty"),
        ("options = 3\n", ":1: options must hold tables"),
        ("repeats = 3\n[site]\nslurm = 3\n", ":2: site must hold tables"),
        ("[backends.ddp]\nbucket_cap_mb = 1\n", ":1: backends = {"),
    ],
)
def test_a_wrong_suite_is_reported_with_file_and_line(tmp_path, text, message):
    with pytest.raises(UsageError) as problem:
        read_suite(write(tmp_path, text))
    assert message in str(problem.value)
    assert "mine.toml" in str(problem.value)
    assert "\n" not in str(problem.value)


def test_an_unknown_suite_names_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'nightly'"):
        read_suite("nihgtly")
    with pytest.raises(UsageError, match="no such file"):
        read_suite("missing.toml")


def test_an_options_table_has_a_full_name_or_a_short_one(tmp_path):
    text = "[workload.mnist]\nmodel = 'cnn'\n[site.slurm]\npartition = 'gpu'\n[options.ddp]\nbucket_cap_mb = [1, 25]\n"
    assert read_suite(write(tmp_path, text)).options == {
        "ddp": {"bucket_cap_mb": (1, 25)},
        "workload.mnist": {"model": ("cnn",)},
        "site.slurm": {"partition": ("gpu",)},
    }


def test_a_key_is_located_under_either_name(tmp_path):
    text = "repeats = 2\n[options.ddp]\nbucket_cap_mb = 1\n[backend.horovod]\nfusion_mb = 1\n"
    path = write(tmp_path, text)
    file = SuiteFile(path)
    assert file.locate(("options", "backend.ddp", "bucket_cap_mb")) == f"{path}:3: "
    assert file.locate(("options", "backend.horovod", "fusion_mb")) == f"{path}:5: "
    assert file.locate(("options", "horovod", "fusion_mb")) == f"{path}:5: "
    assert file.locate(("options", "workload.mnist", "model")) == ""
    assert file.locate(("repeats",)) == f"{path}:1: "
    assert file.locate(("ranks",)) == ""


def test_flags_win_over_the_file(tmp_path):
    suite = read_suite(write(tmp_path, "repeats = 3\n[options.ddp]\nbucket_cap_mb = 1\nstatic_graph = true\n"))
    changed = apply_flags(suite, {"repeats": 5}, parse_settings(["ddp.bucket_cap_mb=2,4"]))
    assert changed.repeats == 5
    assert changed.options["ddp"] == {"bucket_cap_mb": ("2", "4"), "static_graph": (True,)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ranks": ("1", "x")}, "--ranks: ranks = 'x'"),
        ({"ranks": ("-1",)}, "--ranks: ranks = '-1'"),
        ({"ranks": ("2", "2")}, "names 2 twice"),
        ({"timeout_s": -1.0}, "--timeout: timeout_s = -1.0"),
    ],
)
def test_a_wrong_flag_is_named(changes, message):
    with pytest.raises(UsageError) as problem:
        apply_flags(Suite(), changes, {})
    assert message in str(problem.value)


def test_line_of_a_nested_key():
    text = "a = 1\n[options.horovod]\nx = 2\n[options.ddp]\nx = 3\n"
    assert find_toml_line(text, ("options", "ddp", "x", "0")) == 5
    assert find_toml_line("options.ddp.x = 3\n", ("options", "ddp", "x")) == 1
    assert find_toml_line(text, ("options", "ddp", "y")) == 4


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('plugins = ["a\\u0000b"]', "plugins.0"),
        ('[site.hosts]\nfile = "\\u0000"', "site.hosts.file"),
        ('telemetry = "replay:\\u0000"', "telemetry"),
        ('["x\\u0000"]\na = 1', "x\0"),
    ],
)
def test_a_text_that_no_path_can_have_is_named(tmp_path, text, key):
    path = tmp_path / "s.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=f"s.toml:[12]: {key} holds the character U\\+0000"):
        read_suite(str(path))


def test_a_file_whose_name_is_in_no_encoding_gives_a_suite_that_can_be_stored(tmp_path):
    path = tmp_path / os.fsdecode(b"su\xff.toml")
    path.write_text("")
    suite = read_suite(str(path))
    assert suite.name == "su\N{REPLACEMENT CHARACTER}"
    assert Suite.model_validate_json(suite.model_dump_json()) == suite
