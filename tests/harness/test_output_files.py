"""What is written, what is refused and left as it is, and that a file is never there in part."""

from __future__ import annotations

import os
import re
import resource
import socket
import stat
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.errors import OutputError
from harness.output_files import OutputFile, check_outputs, locked_folder, remove_output, write_output

SIGNATURE = re.compile(rb"\Aours\n")
OURS = "ours\nold"


def output(path, option="--out", **changes) -> OutputFile:
    return OutputFile(option, Path(path), SIGNATURE, **changes)


def refusal(*outputs: OutputFile, store: Path | None = None) -> str:
    with pytest.raises(OutputError) as problem:
        check_outputs(outputs, store)
    return str(problem.value)


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


def make_terminal(path: Path) -> None:
    path.symlink_to(os.ttyname(os.openpty()[1]))


def make_link_to_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


def make_loop(path: Path) -> None:
    path.symlink_to("loop")
    path.with_name("loop").symlink_to(path.name)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (make_pipe, "is a pipe, and outputs are ordinary files; name another file"),
        (make_socket, "is a socket, and outputs"),
        (make_terminal, "is a device, and outputs"),
        (make_link_to_pipe, "is a pipe, and outputs"),
        (make_loop, "cannot be written (Too many levels of symbolic links); name"),
        (lambda path: path.mkdir(), "is a folder; name a file to write"),
        (lambda path: path.symlink_to("missing/file"), "its folder does not exist; create it, or name another"),
        (lambda path: path.write_text("mine"), "holds something that this command has not written; name another"),
        (lambda path: path.write_text(f"mine\n{OURS}"), "holds something that this command has not written"),
        (lambda path: path.symlink_to("/proc/self/fd/1"), "is an open file of this process"),
    ],
)
def test_what_is_no_file_of_ours_is_refused_and_stays(tmp_path, make, message):
    target = tmp_path / "x"
    make(target)
    before = target.lstat()
    assert refusal(output(target)).startswith(f"--out {target}: {message}")
    for act in (lambda: write_output(output(target), OURS), lambda: remove_output(output(target))):
        with pytest.raises(OutputError, match=re.escape(message)):
            act()
    after = target.lstat()
    assert (after.st_ino, after.st_mode, after.st_size, after.st_mtime_ns) == (
        before.st_ino,
        before.st_mode,
        before.st_size,
        before.st_mtime_ns,
    )


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no/x", "its folder does not exist"),
        ("file/x", "cannot be written (Not a directory)"),
        ("x" * 256, "cannot be written (File name too long)"),
        ("/dev/fd/1", "is an open file of this process"),
        ("/proc/x", "cannot be written (No such file or directory)"),
        ("/proc/self/comm", "cannot be written (No such file or directory)"),
    ],
)
def test_a_place_that_can_t_be_written_is_refused_before_the_work(tmp_path, path, message):
    (tmp_path / "file").write_text("mine")
    assert f"{path}: {message}" in refusal(output(tmp_path / path))


def test_a_file_of_a_kind_that_can_t_be_recognised_is_never_replaced(tmp_path):
    target = tmp_path / "x"
    plain = OutputFile("--out", target, None)
    write_output(plain, OURS)
    assert "holds something" in refusal(plain)


@pytest.mark.parametrize("padding", [0, 2**15, 2**20])
def test_a_signature_may_be_at_the_end(tmp_path, padding):
    target = tmp_path / "x"
    target.write_bytes(bytes(padding) + b"sign")
    ours = OutputFile("--out", target, re.compile(rb"sign\Z"))
    write_output(ours, "sign")
    assert target.read_text() == "sign"


@pytest.mark.parametrize("earlier", ["", OURS, None])
def test_new_empty_and_own_files_are_written(tmp_path, earlier):
    target = tmp_path / "x"
    if earlier is not None:
        target.write_text(earlier)
    check_outputs([output(target)], None)
    assert target.exists() == (earlier is not None)
    write_output(output(target), "ours\nnew \ud800")
    assert target.read_bytes() == b"ours\nnew \\ud800"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_is_created_only_where_it_is_ours(tmp_path):
    target = tmp_path / "a" / "b" / "x"
    check_outputs([output(target, creates_folder=True)], None)
    assert not (tmp_path / "a").exists()
    write_output(output(target, creates_folder=True), OURS)
    assert target.read_text() == OURS


@contextmanager
def umask(mask: int):
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_has_the_mode_of_the_umask(tmp_path, mask, mode):
    with umask(mask):
        write_output(output(tmp_path / "x"), OURS)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == mode


def test_a_replaced_file_keeps_its_mode_and_a_link_stays_one(tmp_path):
    target, link, twin = tmp_path / "x", tmp_path / "link", tmp_path / "twin"
    target.write_text(OURS)
    target.chmod(0o640)
    link.symlink_to("x")
    twin.hardlink_to(target)
    write_output(output(link), "ours\nnew")
    assert link.readlink() == Path("x")
    assert target.read_text() == "ours\nnew"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert twin.read_text() == OURS


def test_a_link_to_a_file_that_does_not_exist_yet_is_followed(tmp_path):
    (tmp_path / "link").symlink_to("x")
    write_output(output(tmp_path / "link"), OURS)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "x").read_text() == OURS


@contextmanager
def largest_file(size: int):
    """No file may grow beyond it, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("earlier", [None, OURS])
def test_what_can_t_be_written_as_a_whole_changes_nothing(tmp_path, earlier):
    target = tmp_path / "x"
    if earlier is not None:
        target.write_text(earlier)
    message = r"x: cannot be written \(File too large\); name another"
    with largest_file(2**16), pytest.raises(OutputError, match=message):
        write_output(output(target), b"ours\n" + bytes(2**17))
    assert [path.read_text() for path in tmp_path.iterdir()] == ([] if earlier is None else [earlier])


def test_an_exception_in_the_middle_leaves_no_temporary_file(tmp_path):
    with pytest.raises(TypeError):
        write_output(output(tmp_path / "x"), None)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone_or_a_pipe_that_came_during_the_work_is_one_line(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    gone, taken = output(folder / "x"), output(tmp_path / "y")
    check_outputs([gone, taken], None)
    folder.rmdir()
    os.mkfifo(taken.path)
    for one in (gone, taken):
        with pytest.raises(OutputError, match=r"its folder does not exist|is a pipe"):
            write_output(one, OURS)
    assert stat.S_ISFIFO(taken.path.stat().st_mode)
    assert not folder.exists()


def test_the_store_is_no_output_under_any_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = tmp_path / "r.sqlite"
    store.touch()  # an empty file would be written otherwise
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(store)
    (tmp_path / "twin").hardlink_to(store)
    (tmp_path / "elsewhere").symlink_to(tmp_path)
    names = ["r.sqlite", "./r.sqlite", "folder/../r.sqlite", "link", "twin", "elsewhere/r.sqlite", str(store)]
    names += ["r.sqlite-wal", "r.sqlite-shm", "r.sqlite-journal", "elsewhere/r.sqlite-wal"]
    for spelling in (Path("r.sqlite"), store, Path("link"), Path("elsewhere/r.sqlite")):
        for name in names:
            assert (
                refusal(output(name), store=spelling) == f"--out {Path(name)}: is the results store; name another file"
            )
    store.unlink()
    assert "is the results store" in refusal(output("elsewhere/r.sqlite"), store=Path("r.sqlite")), "not there yet"
    check_outputs([output("other.sqlite")], Path("r.sqlite"))


def test_two_outputs_are_two_files(tmp_path):
    (tmp_path / "link").symlink_to("x")
    html = output(tmp_path / "link", "--html")
    assert refusal(output(tmp_path / "x", "--junit"), html) == f"--html {html.path}: is what --junit writes too; " + (
        "name another file"
    )


def test_a_file_that_is_removed_is_ours(tmp_path):
    target = tmp_path / "x"
    remove_output(output(target))
    target.write_text(OURS)
    remove_output(output(target))
    assert not target.exists()


def test_a_folder_is_held_by_one_run_at_a_time(tmp_path):
    folder = tmp_path / "a" / "b"
    with locked_folder("--out", folder):
        assert folder.is_dir()
        with pytest.raises(OutputError, match="another run is writing to it"), locked_folder("--out", folder):
            pass
    with locked_folder("--out", folder):
        assert list(folder.iterdir()) == []
