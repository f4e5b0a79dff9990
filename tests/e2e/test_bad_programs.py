"""A program that can't be measured, or does not end as it should: each is named in one line, the sweep goes on, nothing
is left running."""

from __future__ import annotations

import json
import re
import sqlite3

import pytest

from tests.support.paths import ROOT

BAD = ROOT / "tests" / "e2e" / "programs" / "misbehaving.py"


def misbehave(harness, ways: str, *arguments: str, status: int = 4) -> dict[str, dict]:
    """The trials of a sweep over ways to misbehave, by the way."""
    done = harness.run(
        *("sweep", harness.lean(), "--json", "--repeats", "1", "--steps", "30", "--warmup", "10"),
        *("--script", f"{BAD} {{how={ways}}}", *arguments),
    )
    assert done.returncode == status, done.stderr
    harness.nothing_left()
    document = json.loads(done.stdout)
    assert len(document["cells"]) == ways.count(",") + 1, "the sweep goes on"
    with sqlite3.connect(harness.folder / ".runs" / "results.sqlite") as store:
        trials = [json.loads(body) for (body,) in store.execute("select body from trials")]
    reasons = [trial["reason"] for trial in trials if trial["reason"]]
    assert all(len(reason.splitlines()) == 1 for reason in reasons), reasons
    return {trial["case"]["workload_options"]["how"]: trial for trial in trials}


NAMED = {
    "no_torch": r"misbehaving\.py ended without importing torch, .*--metric",
    "exit_early": r"misbehaving\.py exited with status 1: config\.yaml: no such dataset: imagenet",
    "never_steps": r"misbehaving\.py ended without an optimizer step",
    "exit_3": r"misbehaving\.py exited with status 3 after 20 steps: ValueError: loss is nan",
}
ENDED = {
    "daemon": None,
    "swallow": "it went on after SystemExit",
    "close_stderr": None,
    "clear_all": None,
}


def test_what_one_rank_does(harness):
    trials = misbehave(harness, ",".join([*NAMED, *ENDED]), "--launcher", "plain", "--ranks", "1")
    for how, reason in NAMED.items():
        assert trials[how]["outcome"] == "failed"
        assert re.match(f"rank 0: {reason}", trials[how]["reason"]), trials[how]["reason"]
    for how, problem in ENDED.items():
        assert trials[how]["outcome"] == "ok", (how, trials[how]["reason"])
        (record,) = trials[how]["ranks"]
        assert len(record["step_s"]) == 30
        assert (record["program"]["ended"], record["program"]["exit_problem"]) == ("stopped", problem)
    flags = {how: {condition["name"] for condition in trials[how]["conditions"]} for how in ENDED}
    assert "had_to_be_ended" in flags["swallow"]


def test_what_one_rank_of_two_does(harness):
    trials = misbehave(harness, "hang,wait_for_more", "--ranks", "2", "--timeout", "15")
    assert trials["wait_for_more"]["outcome"] == "failed"
    told = r"rank [01]: misbehaving\.py asks torch\.distributed for 4 ranks, and 2 run: start it with --ranks 4"
    assert re.match(told, trials["wait_for_more"]["reason"]), trials["wait_for_more"]["reason"]
    assert trials["hang"]["outcome"] == "timeout"
    assert re.match(r"not done within 15 s: .*rank 1 in measured step 11", trials["hang"]["reason"])
    waits = r"; rank 0 waits in all_reduce \(collective \d+\), which rank 1 has not begun"
    assert re.search(waits, trials["hang"]["reason"]), trials["hang"]["reason"]
    tail = trials["hang"]["log_tail"]
    assert any(re.match(r"rank 1:   File .*misbehaving\.py.* in hang", line) for line in tail), tail


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--metric", "img/s: ([0-9.]+)"), r"no line of its output matches --metric 'img/s: \(\[0-9\.\]\+\)'"),
        (("--steps", "10000"), r"ended by itself after 60 steps, and its window needs about 10010"),
    ],
    ids=["no match", "ends early"],
)
def test_what_does_not_fit_the_program(harness, arguments, reason):
    done = harness.run(
        *("sweep", harness.lean(), "--json", "--repeats", "1", "--steps", "30", "--warmup", "10"),
        *("--script", f"{BAD} nothing 60", "--launcher", "plain", "--ranks", "1", *arguments),
    )
    assert done.returncode == 4, done.stderr
    (cell,) = json.loads(done.stdout)["cells"]
    assert cell["outcome"] == "failed"
    assert re.search(reason, cell["reason"])
    harness.nothing_left()


def test_a_script_that_does_not_exist_is_bad_input(harness):
    done = harness.run("sweep", "--script", "no_such.py --epochs 1", "--ranks", "1")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "--script no_such.py" in line
    assert not (harness.folder / ".runs").exists()
