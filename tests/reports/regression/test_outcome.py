"""What a judgement comes down to: the exit code, the sentence on top, and what to do next."""

from __future__ import annotations

import itertools
import shlex

import pytest

from reports.regression.rows import rows
from reports.regression.summary import exit_code, headline, next_steps
from reports.regression.values import WORST_FIRST, Finding
from tests.support import judgements
from tests.support.judgements import of, one_each, verdict

CANNOT_TELL = ("suspect", "inconclusive", "incomparable", "missing")


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        (("pass",), 0),
        (("improved",), 0),
        (("pass", "improved", "new"), 0),
        (("improved", "new"), 0),
        (("new",), 3),
        ((), 3),
        *(((one,), 3) for one in CANNOT_TELL),
        *((("pass", "improved", one), 3) for one in CANNOT_TELL),
        (("pass", "failed"), 4),
        (("failed", *CANNOT_TELL), 4),
        (("pass", "regressed", "failed", *CANNOT_TELL), 1),
    ],
)
def test_exit_code(statuses, code):
    assert {exit_code(one_each(*order)) for order in itertools.islice(itertools.permutations(statuses), 6)} == {code}


def test_a_finding_counts_like_a_verdict():
    found = Finding(curve="c", kind="lost scaling", status="regressed", said="c lost scaling")
    judgement = of(verdict("a"), findings=(found,))
    assert exit_code(judgement) == 1
    assert headline(judgement) == "Findings over several series regressed: c lost scaling; 1 passed"


def test_the_headline_names_the_worst_and_counts_all():
    message = headline(judgements.everything())
    assert message.startswith(
        "3 of 54 series regressed: ddp/gloo mlp lost 10.4 % (8.9–11.8 %) of its throughput; and 1 more such finding; "
    )
    assert message.endswith("43 passed, 1 improved, 1 new, 3 could not be judged, 1 suspect, 1 missing, 1 failed")


@pytest.mark.parametrize(
    ("judgement", "message"),
    [
        (of(), "Nothing was judged: there are no series"),
        (one_each("pass"), "The only series passed"),
        (one_each("pass", "pass"), "All 2 series passed"),
        (one_each("pass", "pass", "new"), "2 of 3 series passed; 1 new"),
        (one_each("new", "new"), "All 2 series are new: there are too few earlier nights"),
        (
            of(verdict("a", "regressed", "step", 10, 8, 12)),
            "The only series regressed: a takes 10.0 % (8.0–12.0 %) longer for a step",
        ),
        (
            of(verdict("m/ddp/ranks=4", "regressed", "memory", 50, 40, 60), verdict("b")),
            "1 of 2 series regressed: m/ddp at 4 ranks takes 50.0 % (40.0–60.0 %) more memory; 1 passed",
        ),
        (
            of(verdict("a", "improved", "throughput", 5, 3, 7), verdict("b")),
            "1 of 2 series improved: a gained 5.0 % (3.0–7.0 %) of throughput; 1 passed",
        ),
        (
            of(verdict("a", "suspect", "step", 3, -1, 7)),
            "The only series is suspect: a takes 3.0 % (-1.0 to +7.0 %) longer for a step",
        ),
        (
            of(verdict("a", "incomparable", reason="torch 2, not 1"), verdict("b", "inconclusive")),
            "All 2 series could not be judged: a: torch 2, not 1; and 1 more",
        ),
        (
            of(verdict("a", "missing", reason="was there"), verdict("b", "new")),
            "1 of 2 series is missing: a: was there; 1 new",
        ),
    ],
)
def test_headlines(judgement, message):
    assert headline(judgement) == message


def test_what_to_do_next_has_commands_that_can_be_copied():
    commands = [step.command for step in next_steps(judgements.everything()) if step.command]
    assert shlex.split(commands[0])[3:6] == ["check", "--accept", judgements.MLP]
    assert "python -m harness report 20261003-030000-ab12" in commands
    assert "python -m harness check --confirm --base-rev 9f8e7d6c5b4a39281" in commands
    assert next_steps(one_each("pass", "improved")) == ()


@pytest.mark.parametrize(
    ("changes", "is_named"), [({}, True), ({"from_files": True}, False), ({"selected": ("--baseline", "s1")}, False)]
)
def test_the_first_nights_are_told_what_compares_sooner_unless_it_was_asked_for(changes, is_named):
    (step,) = next_steps(of(verdict("a", "new"), **changes))
    assert ("--baseline SWEEP compares with one sweep" in str(step)) == is_named


def test_pairs_of_files_are_asked_for_as_a_file():
    waiting = [verdict(name, "suspect", pairs_wanted=wanted, pairs_used=4) for name, wanted in (("a", 8), ("b", 16))]
    (step,) = next_steps(of(*waiting, from_files=True))
    assert str(step).startswith("suspect: up to 16 pairs needed for each of 2 series:")
    assert "--pairs P.csv" in str(step)


def test_rows_are_worst_first_and_nothing_goes_untold():
    found = rows(judgements.everything())
    order = [WORST_FIRST.index(row.status) for row in found]
    assert order == sorted(order)
    assert [row.ranks for row in found[:2]] == ["2", "2, 4"]
    output = [one for row in found for one in row.verdicts]
    assert len(output) == len({id(one) for one in output}) == 11
    assert found[1].what == "lost scaling: efficiency"
    assert found[1].pairs == "24"


def test_a_finding_hides_no_other_metric_and_no_other_status_of_its_series():
    slower = Finding(curve="c", kind="slower", status="regressed", said="c is slower", verdicts=("a",))
    verdicts = (
        verdict("a", "regressed"),
        verdict("a", "regressed", "memory", 9, 8, 10),
        verdict("a", "failed", "throughput"),
    )
    found = rows(of(*verdicts, findings=(slower,)))
    assert [(row.finding, row.status, row.what) for row in found] == [
        (True, "regressed", "slower: step time"),
        (False, "regressed", "more memory"),
        (False, "failed", "throughput"),
    ]


def test_what_all_curves_share_is_said_once():
    found = rows(judgements.everything())
    assert {row.curve for row in found} == {
        "synthetic[model=mlp] · ddp-gloo",
        "synthetic[model=cnn] · ddp-gloo",
        "mnist · horovod-mpi",
        "synthetic[model=mlp] · dask-tasks",
        "suites/test_micro.py::test_batching[32]",
    }
