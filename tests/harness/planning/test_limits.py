from __future__ import annotations

import pytest

from bench.workloads.synthetic import SyntheticOptions
from harness.errors import UsageError
from harness.planning.flags import parse_fault, parse_link
from harness.planning.limits import LARGEST, MAX_NUMBER, MAX_RANKS
from harness.planning.options import option_combinations
from harness.planning.placements import Machine, placements
from harness.planning.suite import Suite, apply_flags, read_suite
from harness.sites.local.site import FILES_PER_RANK, MAX_RANKS_HERE, too_many_ranks_reason

BEYOND_FLOAT = int("9" * 400)


@pytest.mark.parametrize("field", LARGEST)
@pytest.mark.parametrize("value", [1e300, 10**18, BEYOND_FLOAT], ids=["1e300", "1e18", "400 digits"])
def test_a_flag_has_a_largest_value(field, value):
    several = field in ("ranks", "nodes", "ranks_per_node")
    value = int(value) if field not in ("window_s", "tolerance", "timeout_s", "budget_s") else value
    with pytest.raises(UsageError) as problem:
        apply_flags(Suite(), {field: (str(value),) if several else value}, {})
    message = str(problem.value)
    assert message.startswith(f"--{field.removesuffix('_s').replace('_', '-')}: {field} = ")
    assert "at most" in message or "valid number" in message
    assert len(message) < 200


def test_the_largest_values_are_accepted():
    several = {"ranks", "ranks_per_node"}
    largest = {name: (int(value),) if name in several else value for name, value in LARGEST.items() if name != "nodes"}
    changed = apply_flags(Suite(), largest, {})
    assert changed.timeout_s == LARGEST["timeout_s"]
    assert changed.ranks == (MAX_RANKS,)


@pytest.mark.parametrize("line", ["timeout_s = 1e9", "steps = 1_000_000_000_000", "repeats = 1_000_000_000"])
def test_a_suite_names_file_and_line(tmp_path, line):
    path = tmp_path / "mine.toml"
    path.write_text(f"batch = 8\n{line}\n")
    with pytest.raises(UsageError, match=r"mine\.toml:2: .*: at most"):
        read_suite(str(path))


def test_a_stored_suite_is_read_whatever_it_asked_for():
    stored = Suite().model_copy(update={"timeout_s": 1e9}).model_dump_json()
    assert Suite.model_validate_json(stored).timeout_s == 1e9


def test_nodes_times_their_width_is_limited():
    suite = Suite(nodes=(MAX_RANKS,), ranks_per_node=(2,))
    with pytest.raises(UsageError, match="2000000 ranks: a case has at most 1,000,000"):
        placements(suite, Machine(multi_node=True, cores=None), "cpu")


@pytest.mark.parametrize("value", [10**18, BEYOND_FLOAT, 2.0**60], ids=["1e18", "400 digits", "a float"])
def test_an_option_has_a_largest_value(value):
    options, name = (SyntheticOptions, "hidden") if isinstance(value, int) else (SyntheticOptions, "compute_ms")
    with pytest.raises(UsageError, match=f"option workload.synthetic.{name} = .*: at most {MAX_NUMBER:,}"):
        option_combinations("workload.synthetic", options, {name: (value,)})


@pytest.mark.parametrize(
    "text", ["slow:rank=0,ms=nan", "slow:rank=0,ms=1e300", "kill:rank=0,step=99999999999", "kill:rank=99999999999"]
)
def test_a_fault_has_bounds(text):
    with pytest.raises(UsageError, match="must be 0 or more, and at most"):
        parse_fault(text)


@pytest.mark.parametrize(
    ("rate", "latency"),
    [("9" * 400 + "bit", "5us"), ("1gbit", "9" * 400 + "s"), ("0bit", "5us")],
    ids=["rate", "latency", "no rate"],
)
def test_a_link_has_bounds(rate, latency):
    with pytest.raises(UsageError, match="of a link is") as problem:
        parse_link(f"{rate},{latency}")
    assert len(str(problem.value)) < 200


def test_a_machine_does_not_start_more_ranks_than_it_can():
    assert too_many_ranks_reason(8, 1024) is None
    assert too_many_ranks_reason(MAX_RANKS_HERE, -1) is None
    assert "at most 4,096 ranks" in str(too_many_ranks_reason(MAX_RANKS_HERE + 1, -1))
    assert f"`ulimit -n {64 + 500 * FILES_PER_RANK}`" in str(too_many_ranks_reason(500, 1024))
