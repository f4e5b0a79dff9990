from __future__ import annotations

import resource
import sqlite3
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from conftest import make_case, make_trial

from harness.environment import read_environment
from harness.errors import StoreError
from harness.opening import check_store, masked, open_store, path_of
from harness.plan import Plan
from harness.store import SweepInfo
from harness.suite import Suite
from harness.tables import FORMAT


def begin(store, name="s1", started_at="2026-01-01T00:00:00+00:00"):
    case = make_case()
    info = SweepInfo(
        id=name, started_at=started_at, command="python -m harness sweep", suite=Suite(),
        plan=Plan(cases=(case,), skips=(), not_applicable=(), repeats=1), environment=read_environment(),
    )  # fmt: skip
    store.begin_sweep(info)
    return info


def test_two_sweeps_may_make_the_same_store(tmp_path):
    place = str(tmp_path / "r.sqlite")
    makers = [threading.Thread(target=lambda: open_store(place, create=True).close()) for _ in range(8)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert open_store(place, create=False).sweep_ids() == []


def test_checking_writes_nothing(tmp_path):
    check_store(str(tmp_path / "deep" / "r.sqlite"))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty.sqlite").write_bytes(b"")
    check_store(str(tmp_path / "empty.sqlite"))
    assert (tmp_path / "empty.sqlite").read_bytes() == b""


def test_a_password_stays_out_of_what_is_said():
    assert "secret" not in masked("postgresql://me:secret@db/results")
    assert masked("a/b.sqlite") == "a/b.sqlite"
    assert path_of("sqlite+pysqlite:////tmp/x/r.sqlite") == Path("/tmp/x/r.sqlite")


def test_what_goes_in_comes_out(tmp_path):
    place = str(tmp_path / "deep" / "r.sqlite")
    store = open_store(place, create=True)
    info = begin(store)
    trial = make_trial(make_case())
    store.add_trial("s1", trial)
    store.finish_sweep("s1", "2026-01-01T01:00:00+00:00")
    store.close()

    again = open_store(place, create=False)
    assert again.trials("s1") == [trial]
    assert again.sweep("latest") == info.model_copy(update={"finished_at": "2026-01-01T01:00:00+00:00"})


def test_a_trial_is_there_before_the_next_begins(tmp_path):
    store = open_store(str(tmp_path / "r.sqlite"), create=True)
    begin(store)
    store.add_trial("s1", make_trial(make_case()))
    with sqlite3.connect(tmp_path / "r.sqlite") as other:
        assert other.execute("select count(*) from trials").fetchone() == (1,)


def test_the_same_trial_twice_is_refused(tmp_path):
    store = open_store(str(tmp_path / "r.sqlite"), create=True)
    begin(store)
    store.add_trial("s1", make_trial(make_case()))
    with pytest.raises(StoreError, match=r"UNIQUE.*let the other process that runs this sweep end, then"):
        store.add_trial("s1", make_trial(make_case()))


def test_latest_is_the_one_that_began_last(tmp_path):
    store = open_store(str(tmp_path / "r.sqlite"), create=True)
    begin(store, "b", "2026-01-02T00:00:00+00:00")
    begin(store, "a", "2026-01-03T00:00:00+00:00")
    assert store.sweep("latest").id == "a"
    with pytest.raises(StoreError, match="has no sweep 'c'"):
        store.sweep("c")


def test_two_sweeps_at_once_share_a_store(tmp_path):
    place = str(tmp_path / "r.sqlite")
    open_store(place, create=True).close()

    def write(name):
        store = open_store(place, create=True)
        begin(store, name)
        for number in range(20):
            store.add_trial(name, make_trial(make_case(), number))
        store.close()

    writers = [threading.Thread(target=write, args=(name,)) for name in ("one", "two")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    store = open_store(place, create=False)
    assert [len(store.trials(name)) for name in ("one", "two")] == [20, 20]


def test_a_sweep_knows_what_is_done_and_whether_it_ended(tmp_path):
    store = open_store(str(tmp_path / "r.sqlite"), create=True)
    begin(store, "old", "2026-01-01T00:00:00+00:00")
    begin(store, "new", "2026-01-02T00:00:00+00:00")
    store.add_trial("new", make_trial(make_case(), 0))
    store.add_trial("new", make_trial(make_case(), 1, outcome="failed"))
    assert store.done("new") == {(make_case().key, 0), (make_case().key, 1)}
    assert store.unfinished() == "new"
    store.finish_sweep("new", "2026-01-03T00:00:00+00:00")
    store.finish_sweep("old", "2026-01-03T00:00:00+00:00")
    assert store.unfinished() is None


def test_a_damaged_record_is_one_line(tmp_path):
    store = open_store(str(tmp_path / "r.sqlite"), create=True)
    begin(store)
    store.add_trial("s1", make_trial(make_case()))
    with sqlite3.connect(tmp_path / "r.sqlite") as other:
        other.execute("update trials set body = substr(body, 1, 50)")
    with pytest.raises(StoreError, match="can't be read") as told:
        store.trials("s1")
    assert "\n" not in str(told.value)


def refuse(place, said, create=True):
    with pytest.raises(StoreError) as told:
        open_store(place, create=create)
    assert said in str(told.value)
    assert "\n" not in str(told.value)


def test_a_missing_store_is_not_made_by_reading(tmp_path):
    refuse(str(tmp_path / "none.sqlite"), "no such file", create=False)
    assert list(tmp_path.iterdir()) == []


def test_another_program_s_database_is_left_alone(tmp_path):
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("create table customers (name text)")
    before = path.read_bytes()
    refuse(str(path), "holds other tables (customers)")
    assert path.read_bytes() == before


def test_a_file_that_is_no_database(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("dear diary, " * 200)
    refuse(str(path), "not a results store")
    assert path.read_text() == "dear diary, " * 200


def test_a_store_of_a_newer_format(tmp_path):
    place = str(tmp_path / "r.sqlite")
    open_store(place, create=True).close()
    with sqlite3.connect(place) as other:
        other.execute("update scaling_harness_about set format = ?", (FORMAT + 1,))
    before = Path(place).read_bytes()
    refuse(place, "written by a newer version")
    with pytest.raises(StoreError, match="update the harness"):
        check_store(place)
    assert Path(place).read_bytes() == before


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    refuse(str(tmp_path / "file" / "r.sqlite"), "cannot be")


def test_a_read_only_store(tmp_path):
    place = tmp_path / "r.sqlite"
    open_store(str(place), create=True).close()
    refuse(f"sqlite:///file:{place}?mode=ro&uri=true", "readonly database); make the file and its folder writable")
    assert open_store(f"sqlite:///file:{place}?mode=ro&uri=true", create=False).sweep_ids() == []


@contextmanager
def largest_file(size: int):
    """No file of this process may grow beyond ``size``: a disk without room that needs no disk of its own."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_store_without_room_is_made_whole_or_not_at_all(tmp_path):
    place = str(tmp_path / "r.sqlite")
    with largest_file(3 * 4096):
        refuse(place, "cannot be opened (disk I/O error)")
    with closing(sqlite3.connect(place)) as other:
        assert other.execute("select name from sqlite_master").fetchall() == []
    assert open_store(place, create=True).sweep_ids() == []


def test_a_trial_without_room_takes_no_other_with_it(tmp_path):
    place = tmp_path / "r.sqlite"
    store = open_store(str(place), create=True)
    begin(store)

    def fill():
        for number in range(1000):
            store.add_trial("s1", make_trial(make_case(), number))

    with largest_file(place.stat().st_size + 5 * 4096), pytest.raises(StoreError) as told:
        fill()
    assert f"then `python -m harness sweep --resume --store {place}`" in str(told.value)
    kept = store.trials("s1")
    assert 0 < len(kept) < 1000
    assert [trial.round for trial in kept] == list(range(len(kept)))
    store.add_trial("s1", make_trial(make_case(), len(kept)))
    assert len(open_store(str(place), create=False).done("s1")) == len(kept) + 1


@pytest.fixture
def held(tmp_path):
    """A store that another program holds, and that program."""
    path = tmp_path / "r.sqlite"
    open_store(str(path), create=True).close()
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("begin exclusive")
        yield path, other


@pytest.mark.parametrize("create", [True, False])
def test_the_url_says_how_long_a_locked_store_is_waited_for(held, create):
    began = time.monotonic()
    refuse(f"sqlite:///{held[0]}?timeout=0.2", "(database is locked); let the other sweep or program", create=create)
    assert 0.2 <= time.monotonic() - began < 5


def test_a_store_locked_for_a_moment_is_waited_for(held):
    path, other = held
    release = threading.Timer(0.5, other.rollback)
    release.start()
    store = open_store(str(path), create=True)
    release.join()
    begin(store)
    assert store.sweep_ids() == ["s1"]


@pytest.mark.parametrize("options", ["timeout=soon", "timeout=1&timeout=2"])
def test_a_url_with_an_option_that_makes_no_sense(tmp_path, options):
    refuse(f"sqlite:///{tmp_path}/r.sqlite?{options}", "correct the URL")
    assert list(tmp_path.iterdir()) == []


def zeroed_page(content: bytes) -> bytes:
    """Page after page is whole; one holds nothing any more."""
    last = len(content) // 4096 - 1
    return content[: last * 4096] + bytes(4096)


def swapped_bytes(content: bytes) -> bytes:
    """Every page is whole; the text of a trial is no JSON any more."""
    assert content.count(b'"outcome":"ok"') >= 1
    return content.replace(b'"outcome":"ok"', b'"outcome":"o\x1b\xff')


def missing_end(content: bytes) -> bytes:
    return content[:-4096]


@pytest.mark.parametrize("damage", [zeroed_page, swapped_bytes, missing_end])
def test_damage_anywhere_is_found_before_anything_is_written(tmp_path, damage):
    path = tmp_path / "r.sqlite"
    store = open_store(str(path), create=True)
    begin(store)
    for number in range(20):
        store.add_trial("s1", make_trial(make_case(), number))
    store.close()
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)
    with pytest.raises(StoreError, match=r"is damaged.*restore a copy of it") as told:
        check_store(str(path))
    assert str(told.value).isprintable()
    assert path.read_bytes() == damaged


def test_a_damaged_trial_is_found_before_the_sweep_goes_on(tmp_path):
    path = tmp_path / "r.sqlite"
    store = open_store(str(path), create=True)
    begin(store)
    store.add_trial("s1", make_trial(make_case()))
    store.close()
    path.write_bytes(swapped_bytes(path.read_bytes()))
    with pytest.raises(StoreError, match="restore a copy of it, or name another with --store") as told:
        open_store(str(path), create=False).done("s1")
    assert str(told.value).isprintable(), "what a damaged file holds does not reach the terminal"


def test_a_url_nobody_knows():
    refuse("nosql://here", "store nosql://here")


def test_an_engine_error_while_writing_is_one_line(tmp_path):
    store = open_store(str(tmp_path / "r.sqlite"), create=True)
    with sqlite3.connect(tmp_path / "r.sqlite") as other:
        other.execute("drop table trials")
    begin(store)
    with pytest.raises(StoreError, match="cannot be written"):
        store.add_trial("s1", make_trial(make_case()))
