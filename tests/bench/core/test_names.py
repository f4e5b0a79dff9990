"""No name leads out of its folder, and two names never share a file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.core.case import Role
from bench.core.names import MAX_FILE_NAME_BYTES, NAME, UnsafeName, check_name, file_stem, path_inside

BAD = [
    "",
    ".",
    "..",
    "../x",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "a\0b",
    "a\nb",
    "a b",
    "-rf",
    ".hidden",
    "a.",
    "~root",
    "é",
    "a\x1b[2J",
    "\u202ea",
    "a" * 101,
    "a:b",
    "a*",
    "$(x)",
    "a;b",
    "\ud800",
]
GOOD = ["s1", "20261121-101500-ab12", "A", "a.b_c-d", "a" * 100, "2026.11"]
HOSTILE = st.text(st.sampled_from("aA./\\\0\n-+~é ") | st.characters())


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_name_is_refused_in_one_line(name):
    with pytest.raises(UnsafeName) as refused:
        check_name(name)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 250


@pytest.mark.parametrize("name", GOOD)
def test_names_stay(name):
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["../../tmp/x", "a/b", "rank\n"])
def test_a_plugin_s_role_becomes_no_path(name):
    with pytest.raises(ValueError, match="is no name"):
        Role(name=name, count=1)


@given(st.lists(HOSTILE, min_size=1, max_size=4))
def test_every_id_has_a_file_in_its_folder(tmp_path_factory, names):
    folder = tmp_path_factory.getbasetemp()
    stem = file_stem(*names)
    assert path_inside(folder, f"beside-{stem}.html").parent == folder
    assert len(f"beside-{stem}.html".encode()) <= MAX_FILE_NAME_BYTES


@given(st.lists(HOSTILE, min_size=1, max_size=3), st.lists(HOSTILE, min_size=1, max_size=3))
def test_different_ids_have_different_files_where_capitals_do_not_count(first, second):
    assert (file_stem(*first).lower() == file_stem(*second).lower()) == (first == second)


def test_ids_of_ours_are_their_files():
    assert file_stem("20261121-101500-ab12") == "20261121-101500-ab12"
    assert file_stem("a", "b-c") == "a+b-c" != file_stem("a-b", "c")
    assert file_stem("index", reserved=("index",)) != "index"
    assert not NAME.fullmatch(file_stem("Ab")), "no id is another's digest"
    assert file_stem("Ab").lower() != file_stem("aB").lower()


@pytest.mark.parametrize("part", ["", ".", "..", "../x", "/etc/passwd", "a/b", "a\\b", "a\0b", "a\nb"])
def test_no_part_leads_out_of_the_folder(tmp_path, part):
    with pytest.raises(UnsafeName, match="is no name of a file"):
        path_inside(tmp_path, "a", part)


def test_a_part_that_no_file_can_have_is_refused(tmp_path):
    assert path_inside(tmp_path, "a" * 255) == tmp_path.resolve() / ("a" * 255)
    for part in ("é" * 128, "a" * 256, "\ud800", "a\x1b"):
        with pytest.raises(UnsafeName, match="is no name of a file"):
            path_inside(tmp_path, part)


def test_a_link_that_was_planted_is_not_followed(tmp_path):
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    outside.mkdir()
    folder.mkdir()
    (folder / "away").symlink_to(outside)
    (folder / "up").symlink_to("..")
    (folder / "loop").symlink_to("loop")
    (folder / "file").symlink_to(outside / "not there yet")
    (folder / "beside").symlink_to(folder / "real")
    for parts in (("away",), ("away", "x"), ("up", "x"), ("file",)):
        with pytest.raises(UnsafeName, match="leads out of"):
            path_inside(folder, *parts)
    assert path_inside(folder, "beside", "x") == folder / "beside" / "x"
    assert path_inside(folder, "loop").name == "loop"
    link = tmp_path / "link"
    link.symlink_to(folder)
    assert path_inside(link, "x") == folder / "x"
