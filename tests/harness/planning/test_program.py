"""The program of a user as a sweep takes it: which files travel, and what is refused before anything starts."""

from __future__ import annotations

import os

import pytest

from harness.errors import UsageError
from harness.planning import program
from harness.planning.program import changed_files, read_again, read_program


@pytest.fixture
def folder(tmp_path, monkeypatch):
    made = tmp_path / "project"
    made.mkdir()
    monkeypatch.chdir(made)
    write(made, "train.py", "import net\n")
    return made


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_python_files_beside_a_script_travel_and_nothing_else(folder):
    for name in ("net.py", "models/__init__.py", "models/cnn.py", "data/images.bin", "notes.txt"):
        write(folder, name, f"# {name}\n")
    for name in (".git/hook.py", "venv/pyvenv.cfg", "venv/lib/a.py", "__pycache__/net.py", "site-packages/b.py"):
        write(folder, name, "# not of the program\n")
    read = read_program("train.py --epochs 1", folder)
    assert sorted(read.files) == ["models/__init__.py", "models/cnn.py", "net.py", "train.py"]
    assert read.files["models/cnn.py"] == "# models/cnn.py\n"
    assert (read.script, read.folder, read.working_directory) == ("train.py", str(folder), str(folder))
    assert read.left_out is None


def test_the_digest_is_that_of_every_file_and_of_no_other(folder):
    write(folder, "net.py", "a = 1\n")
    before = read_program("train.py", folder)
    write(folder, "data.txt", "x")
    assert read_again(before) == before
    write(folder, "net.py", "a = 2\n")
    write(folder, "new.py", "")
    now = read_again(before)
    assert now.digest != before.digest
    assert changed_files(before, now) == ("net.py", "new.py")


@pytest.mark.parametrize("limit", ["MAX_FILES", "MAX_BYTES", "MAX_ENTRIES"])
def test_of_a_folder_that_is_too_large_the_script_alone_travels(folder, monkeypatch, limit):
    for number in range(20):
        write(folder, f"m{number}.py", "#" * 100)
    monkeypatch.setattr(program, limit, {"MAX_FILES": 5, "MAX_BYTES": 500, "MAX_ENTRIES": 10}[limit])
    read = read_program("train.py", folder)
    assert list(read.files) == ["train.py"]
    assert read.left_out


def test_a_module_is_one_of_the_current_folder(folder):
    write(folder, "package/__init__.py", "")
    write(folder, "package/fit.py", "from . import net\n")
    write(folder, "package/net.py", "")
    write(folder, "tool/__main__.py", "")
    read = read_program("-m package.fit --epochs 1", folder)
    assert (read.script, read.module, read.folder) == ("package/fit.py", "package.fit", str(folder))
    assert "package/net.py" in read.files
    assert read_again(read) == read
    assert read_program("-m tool", folder).script == "tool/__main__.py"


def test_links_that_lead_back_are_not_followed(folder):
    (folder / "loop").symlink_to(folder)
    (folder / "gone.py").symlink_to(folder / "nowhere.py")
    assert list(read_program("train.py", folder).files) == ["train.py"]


def test_text_is_kept_byte_by_byte(folder):
    (folder / "train.py").write_bytes("\ufeff# é\r\nx = 1\r\n".encode())
    (folder / "old.py").write_bytes(b"# -*- coding: latin-1 -*-\nx = '\xe9'\n")
    read = read_program("train.py", folder)
    assert read.files["train.py"].encode() == (folder / "train.py").read_bytes()
    assert "old.py" not in read.files


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("missing.py", "missing.py: no such file in "),
        ("folder.py", "folder.py: is no regular file; name a Python file"),
        ("pipe.py", "pipe.py: is no regular file"),
        ("broken.py", "broken.py: SyntaxError: "),
        ("binary.py", "binary.py: cannot be read"),
        ("nul.py", "nul.py: "),
        ("deep.py", "deep.py: "),
        ("train.sh", "train.sh: name a Python file"),
        ("-m no.such", "-m no.such: no such module in "),
        ("-m ../train", "-m ../train: no such module in "),
        ("-m", "its file would be package/train.py for -m package.train"),
        ("python train.py", "python: leave it out and begin with the script"),
        ("", "names no script"),
        ("a\0b.py", "no such file in "),
    ],
)
def test_what_is_no_script_is_refused_in_one_line(folder, command, said):
    (folder / "folder.py").mkdir()
    os.mkfifo(folder / "pipe.py")
    write(folder, "broken.py", "x = 1\ny = (\n")
    (folder / "binary.py").write_bytes(b"\xff\xfe\x00")
    write(folder, "nul.py", "x = 1\0\n")
    write(folder, "deep.py", "(" * 1000 + ")" * 1000)
    with pytest.raises(UsageError) as raised:
        read_program(command, folder, "--script")
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_package_of_a_name_that_ranks_have_already_is_refused(folder):
    write(folder, "bench/__init__.py", "")
    read_program("train.py", folder)
    write(folder, "train.py", "import os\nfrom bench import loop\n")
    with pytest.raises(UsageError, match=r"train.py: train.py imports 'bench' from the folder of the script"):
        read_program("train.py", folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_script_that_can_t_be_read_is_refused(folder):
    (folder / "train.py").chmod(0)
    with pytest.raises(UsageError, match="cannot be read"):
        read_program("train.py", folder)
