from __future__ import annotations

import itertools
import resource
import sqlite3
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from harness.errors import StoreError
from harness.store.merging import merge
from harness.store.opening import check_store, open_store
from harness.store.tables import FORMAT
from tests.support.builders import make_case, make_trial
from tests.support.merge_behaviour import MergeBehaviour, UpgradeBehaviour, everything, fill
from tests.support.store_behaviour import LedgerBehaviour, StoreBehaviour
from tests.support.stores import begin, make_format_1
from tests.support.stores import opened as opened


@pytest.fixture
def new_place(tmp_path):
    numbers = itertools.count()
    return lambda: str(tmp_path / f"{next(numbers)}.sqlite")


@pytest.fixture
def other_place(new_place):
    return new_place


class TestStore(StoreBehaviour):
    def test_an_empty_store_is_not_made_by_reading(self, new_place):
        place = new_place()
        check_store(place)
        with pytest.raises(StoreError, match="no such file"):
            open_store(place, create=False)
        assert not Path(place).exists()

    def test_the_folder_of_a_store_is_made(self, tmp_path, opened):
        assert opened(str(tmp_path / "deep" / "r.sqlite")).sweep_ids() == []


class TestLedger(LedgerBehaviour):
    pass


class TestUpgrade(UpgradeBehaviour):
    def test_format_1_that_cannot_be_written_is_reported_but_not_checked(self, tmp_path, opened):
        path = tmp_path / "r.sqlite"
        make_format_1(str(path), make_trial(make_case()))
        read_only = f"sqlite:///file:{path}?mode=ro&uri=true"
        assert len(opened(read_only, create=False).trials("s1")) == 1
        with pytest.raises(StoreError, match="make the file and its folder writable, then repeat") as caught:
            open_store(read_only, create=False, upgrade=True)
        assert f"to format {FORMAT} first" in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_an_upgrade_that_fails_changes_nothing(self, new_place, opened):
        place = new_place()
        make_format_1(place, make_trial(make_case(), 0))
        engine = sa.create_engine(f"sqlite:///{place}")
        with engine.begin() as connection:
            connection.exec_driver_sql("update sweeps set id = x'00'")
        with pytest.raises(StoreError, match="restore a copy of it") as caught:
            open_store(place, create=False, upgrade=True)
        assert "\n" not in str(caught.value)
        with engine.connect() as connection:
            assert connection.exec_driver_sql("select format from scaling_harness_about").scalar_one() == 1
        assert "measures" not in sa.inspect(engine).get_table_names()
        engine.dispose()


class TestMerge(MergeBehaviour):
    def test_a_merge_that_fails_changes_nothing(self, new_place, other_place, opened):
        place, other = new_place(), other_place()
        source, target = opened(other), opened(place)
        fill(source)
        begin(source, "s2", "2026-01-02T00:00:00+00:00")
        source.add_trial("s2", make_trial(make_case(), 0))
        begin(target, "s0")
        before = everything(target)
        with source.database.writing("") as connection:
            connection.exec_driver_sql("update trials set round = 'x' where sweep = 's2'")
        with pytest.raises(StoreError, match="restore a copy of it") as caught:
            merge(other, place)
        assert source.database.label in str(caught.value), "it says which of the two is damaged"
        assert everything(target) == before


def test_checking_writes_nothing(tmp_path):
    check_store(str(tmp_path / "deep" / "r.sqlite"))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty.sqlite").write_bytes(b"")
    check_store(str(tmp_path / "empty.sqlite"))
    assert (tmp_path / "empty.sqlite").read_bytes() == b""


@pytest.mark.parametrize(
    "wrong", ["9999-12-31T23:59:59+14:00", "1970-01-01T00:00:00+00:00", "2999-01-01T00:00:00+00:00"]
)
def test_the_latest_sweep_is_of_a_time_at_which_the_clock_was_right(tmp_path, wrong):
    store = open_store(str(tmp_path / "r.sqlite"), create=True)
    begin(store, "wrong", wrong)
    assert store.sweep("latest").id == "wrong", "there is no other"
    begin(store, "right")
    assert store.sweep("latest").id == "right"
    assert store.sweep("wrong").started_at == wrong


def test_a_trial_is_there_before_the_next_begins(tmp_path):
    store = open_store(str(tmp_path / "r.sqlite"), create=True)
    begin(store)
    store.add_trial("s1", make_trial(make_case()))
    with sqlite3.connect(tmp_path / "r.sqlite") as other:
        assert other.execute("select count(*) from trials").fetchone() == (1,)


def refuse(place, message, create=True):
    with pytest.raises(StoreError) as caught:
        open_store(place, create=create)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


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

    with largest_file(place.stat().st_size + 5 * 4096), pytest.raises(StoreError) as caught:
        fill()
    assert f"then `python -m harness sweep --resume --store {place}`" in str(caught.value)
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
    refuse(
        f"sqlite:///{held[0]}?timeout=0.2",
        "(database is locked); wait for the sweep or program that has locked it",
        create=create,
    )
    assert 0.2 <= time.monotonic() - began < 5


def test_a_store_locked_for_a_moment_is_waited_for(held):
    path, other = held
    release = threading.Timer(0.05, other.rollback)
    release.start()
    store = open_store(f"sqlite:///{path}?timeout=20", create=True)
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


def store_of_a_sweep(path: Path, *, finished: bool) -> None:
    store = open_store(str(path), create=True)
    begin(store)
    for number in range(20):
        store.add_trial("s1", make_trial(make_case(), number))
    if finished:
        store.finish_sweep("s1", "2026-01-02T00:00:00+00:00")
    store.close()


@pytest.mark.parametrize("damage", [zeroed_page, swapped_bytes, missing_end])
@pytest.mark.parametrize("left", ["a sweep without an end", "a journal"])
def test_after_an_unclean_end_damage_anywhere_is_found_before_anything_is_written(tmp_path, damage, left):
    path = tmp_path / "r.sqlite"
    store_of_a_sweep(path, finished=left == "a journal")
    if left == "a journal":
        Path(f"{path}-journal").write_bytes(b"")
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)
    with pytest.raises(StoreError, match=r"is damaged.*restore a copy of it") as caught:
        check_store(str(path))
    assert str(caught.value).isprintable()
    assert path.read_bytes() == damaged


def test_a_missing_end_of_the_file_is_found_after_a_clean_end_too(tmp_path):
    path = tmp_path / "r.sqlite"
    store_of_a_sweep(path, finished=True)
    path.write_bytes(missing_end(path.read_bytes()))
    with pytest.raises(StoreError, match=r"is damaged.*restore a copy of it"):
        check_store(str(path))


def test_after_a_clean_end_the_pages_of_trials_are_not_read_at_the_start_and_damage_is_named_where_they_are(tmp_path):
    path = tmp_path / "r.sqlite"
    store_of_a_sweep(path, finished=True)
    (page,) = trials_root(path)
    content = path.read_bytes()
    path.write_bytes(content[: (page - 1) * 4096] + bytes(4096) + content[page * 4096 :])
    check_store(str(path))
    store = open_store(str(path), create=False)
    assert [sweep.id for sweep in store.sweeps()] == ["s1"]
    with pytest.raises(StoreError, match=r"r\.sqlite: cannot be read \(.*malformed\); restore a copy of it"):
        store.trials("s1")


def trials_root(path: Path) -> tuple[int, ...]:
    """The first page of the table of trials."""
    with closing(sqlite3.connect(path)) as other:
        return other.execute("select rootpage from sqlite_master where name = 'trials'").fetchone()


def test_a_damaged_file_is_no_bad_record(tmp_path):
    """What is no text at all is damage of the file, and not left out."""
    path = tmp_path / "r.sqlite"
    store = open_store(str(path), create=True)
    begin(store)
    store.add_trial("s1", make_trial(make_case()))
    store.close()
    path.write_bytes(swapped_bytes(path.read_bytes()))
    with pytest.raises(StoreError, match="restore a copy of it, or name another with --store") as caught:
        open_store(str(path), create=False).trials("s1")
    assert str(caught.value).isprintable(), "what a damaged file holds does not reach the terminal"


@pytest.mark.parametrize(
    "url",
    ["nosql://here", "mysql://me:secret@db/x", "postgresql://me:secret@db:port/x", "postgresql://me:a@secret@db/x"],
)
def test_a_url_that_names_no_store(url):
    for ask in (lambda: open_store(url, create=True), lambda: check_store(url)):
        with pytest.raises(StoreError, match=r"correct|write an @") as caught:
            ask()
        assert str(caught.value).startswith(f"store {url.partition('://')[0]}://***: ")
        assert "secret" not in str(caught.value)


def test_an_engine_error_while_writing_is_one_line(tmp_path):
    store = open_store(str(tmp_path / "r.sqlite"), create=True)
    with sqlite3.connect(tmp_path / "r.sqlite") as other:
        other.execute("drop table trials")
    begin(store)
    with pytest.raises(StoreError, match="cannot be written"):
        store.add_trial("s1", make_trial(make_case()))


NAMES = [
    "feature%5Flogin.sqlite",
    "100%.sqlite",
    "what?.sqlite",
    "r.sqlite?timeout=1",
    "issue#14.sqlite",
    "two words.sqlite",
    "a+b&c=d;e.sqlite",
    "größe → ∞.sqlite",
    "./user:secret@host.sqlite",
    "file:r.sqlite",
    ":memory:",
    "-.sqlite",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_exactly_that_file(tmp_path, monkeypatch, opened, name):
    monkeypatch.chdir(tmp_path)
    begin(opened(name))
    assert {path.name.removesuffix("-journal") for path in tmp_path.iterdir()} == {Path(name).name}
    check_store(name)
    assert opened(str(tmp_path / name), create=False).sweep_ids() == ["s1"]


def test_a_url_is_still_a_url(tmp_path, opened):
    begin(opened(f"sqlite:///{tmp_path}/a%5Fb.sqlite"))
    assert [path.name for path in tmp_path.iterdir()] == ["a_b.sqlite"]


@pytest.mark.parametrize("location", ["{}", "sqlite:///{}"])
def test_a_parent_folder_is_that_of_the_operating_system(tmp_path, opened, location):
    """``link/..`` is the folder that holds the link's target, not the one that holds the link."""
    (tmp_path / "disk" / "runs").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "runs")
    begin(opened(location.format(tmp_path / "link" / ".." / "r.sqlite")))
    assert (tmp_path / "disk" / "r.sqlite").exists()
    assert not (tmp_path / "r.sqlite").exists()


@pytest.mark.parametrize("create", [True, False])
def test_a_name_that_no_file_can_have(tmp_path, create):
    place = str(tmp_path / ("a" * 300))
    refuse(place, "File name too long", create=create)
    with pytest.raises(StoreError, match="File name too long"):
        check_store(place)
