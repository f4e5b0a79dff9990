from __future__ import annotations

import re

import pytest

from harness.errors import UsageError
from harness.planning.flags import parse_duration, parse_fault, parse_percent, parse_window


@pytest.mark.parametrize(("text", "share"), [("2%", 0.02), ("0.05", 0.05)])
def test_a_precision_is_a_share(text, share):
    assert parse_percent(text) == pytest.approx(share)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400)])
def test_a_budget_is_a_duration(text, seconds):
    assert parse_duration(text) == seconds


def test_a_window_has_a_length_or_adapts():
    assert parse_window("0.5") == {"window_s": 0.5, "adapt_window": False}
    assert parse_window("auto") == {"adapt_window": True}


def test_a_share_of_one_and_more_was_meant_in_percent():
    with pytest.raises(UsageError, match=r"^--precision 2: expected a share; did you mean 2%\?$"):
        parse_percent("2")
    assert parse_percent("150%") == 1.5, "its limit is that of the suite"


@pytest.mark.parametrize("parse", [parse_percent, parse_duration, parse_window])
def test_nonsense_is_neither(parse):
    with pytest.raises(UsageError, match="for example"):
        parse("soon")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kil:rank=1", "unknown kind 'kil'; did you mean 'kill'?"),
        ("kill", "the rank is missing"),
        ("kill:rank=one", "rank = 'one' is not a number"),
        ("kill:rank=-1", "rank must be 0 or more"),
        ("kill:rnk=1", "unknown setting 'rnk'; did you mean 'rank'?"),
        ("slow:rank=1", "the delay is missing"),
        ("kill:rank=1,ms=3", "kill takes no ms"),
        ("slow:rank=1,ms=inf", "ms must be 0 or more"),
    ],
)
def test_a_wrong_fault_is_refused(text, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        parse_fault(text)


def test_a_fault_is_read_as_it_is_written():
    for text in ("kill:rank=1,step=3", "slow:rank=0,ms=200", "stop:rank=2"):
        assert parse_fault(text).label == text
