"""What names a sweep: an id, latest, latest~1, a tag, or the start of an id."""

from __future__ import annotations

import pytest

from harness.errors import StoreError
from harness.store.labels import SweepLabels, check_note, check_tag, check_title
from harness.store.sweep_names import KnownSweep, is_exact, resolve_sweep

SWEEPS = [
    KnownSweep("20250101-000000-0001", "2025-01-01T00:00:00+00:00", tags=("release",)),
    KnownSweep("20260101-000000-aaaa", "2026-01-01T00:00:00+00:00", tags=("release", "loader")),
    KnownSweep("20260101-000000-aabb", "2026-01-01T00:00:01+00:00", tags=("20250101-000000-0001", "2026")),
    KnownSweep("20991231-000000-cccc", "2099-12-31T00:00:00+00:00"),
]


@pytest.mark.parametrize(
    ("name", "sweep"),
    [
        ("20260101-000000-aaaa", "20260101-000000-aaaa"),
        ("latest", "20260101-000000-aabb"),
        ("latest~0", "20260101-000000-aabb"),
        ("latest~1", "20260101-000000-aaaa"),
        ("latest~2", "20250101-000000-0001"),
        ("loader", "20260101-000000-aaaa"),
        ("2025", "20250101-000000-0001"),
        ("20260101-000000-aab", "20260101-000000-aabb"),
        # An id comes before a tag, a tag before the start of an id.
        ("20250101-000000-0001", "20250101-000000-0001"),
        ("2026", "20260101-000000-aabb"),
    ],
)
def test_a_name_means_one_sweep(name, sweep):
    assert resolve_sweep(name, SWEEPS, "r") == sweep


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("release", "'release' is a tag of 2 sweeps: 20260101-000000-aaaa, 20250101-000000-0001; name one by its id"),
        (
            "20260101",
            "'20260101' is the start of 2 sweeps: 20260101-000000-aabb, 20260101-000000-aaaa; name one by its id",
        ),
        ("latest~3", "has no sweep 'latest~3': it holds 4"),
        ("laoder", "has no sweep 'laoder'; did you mean 'loader'?"),
        ("", "has no sweep ''; "),
        ("a\x1b[2J\nb" * 99, "has no sweep 'a�[2J b"),
    ],
)
def test_any_other_name_is_one_line(name, message):
    with pytest.raises(StoreError) as caught:
        resolve_sweep(name, SWEEPS, "r")
    assert message in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


def test_of_many_candidates_the_newest_are_named():
    many = [KnownSweep(f"a{number:03}", f"2026-01-01T00:00:{number % 60:02}+00:00") for number in range(300)]
    with pytest.raises(StoreError) as caught:
        resolve_sweep("a", many, "r")
    assert "300 sweeps: a299, a298, a297, a296, a295 and 295 more" in str(caught.value)
    with pytest.raises(StoreError) as caught:
        resolve_sweep("zzz", many, "r")
    assert len(str(caught.value)) < 400


def test_where_no_date_can_be_right_latest_is_the_last():
    unset = [KnownSweep("a", "1970-01-01T00:00:00+00:00"), KnownSweep("b", "1970-01-01T00:00:01+00:00")]
    assert resolve_sweep("latest", unset, "r") == "b"


def test_the_start_of_an_id_is_no_exact_name():
    assert [is_exact(name, SWEEPS) for name in ("latest~9", "loader", SWEEPS[0].id, "2025")] == [True] * 3 + [False]


def test_labels_have_no_white_space_around_them_and_each_tag_once():
    labels = SweepLabels(title=" a b ", note="one\ntwo\n", tags=("x", "y", "x"))
    assert (labels.title, labels.note, labels.tags) == ("a b", "one\ntwo", ("x", "y"))


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (check_title, "  "),
        (check_title, "two\nlines"),
        (check_title, "\u202egnp.exe"),
        (check_title, "a" * 121),
        (check_note, "a\x07"),
        (check_note, "a" * 2001),
        *((check_tag, tag) for tag in ("latest", "", "a b", "-x", "a/b", "..", "a" * 41, "x\n", "é")),
    ],
)
def test_what_is_no_label_is_refused(check, text):
    with pytest.raises(ValueError, match=r"^(a (title|note) has|'.*' is no tag: )") as caught:
        check(text)
    assert str(caught.value).isprintable()
