"""The copy of a program's folder on a node."""

from __future__ import annotations

from bench.core.program import Program
from bench.node.program_copy import remove_program_copy, write_program_copy


def make_program(folder, files, script="train.py"):
    return Program(script=script, folder=str(folder), working_directory=str(folder), digest="d", files=files)


def test_a_copy_holds_what_travels_and_leads_to_everything_else(tmp_path):
    folder, out = tmp_path / "project", tmp_path / "trial"
    for path in ("data/digits.bin", "models/weights.bin", "models/cnn.py", "train.py", "__pycache__/train.pyc"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("as it is now")
    out.mkdir()
    copy = write_program_copy(make_program(folder, {"train.py": "\r\n", "models/cnn.py": "é"}), out, 3)
    assert (copy / "train.py").read_bytes() == b"\r\n"
    assert (copy / "models" / "cnn.py").read_text() == "é"
    assert (copy / "data" / "digits.bin").read_text() == "as it is now"
    assert (copy / "models" / "weights.bin").read_text() == "as it is now"
    assert not (copy / "__pycache__").exists()
    assert [path.name for path in out.iterdir()] == [".program-3"]
    remove_program_copy(out, 3)
    assert list(out.iterdir()) == []
    assert (folder / "data" / "digits.bin").exists(), "what it linked to stays"


def test_a_copy_needs_no_folder_of_its_origin(tmp_path):
    copy = write_program_copy(make_program("/nowhere/at/all", {"a/b/train.py": "x = 1"}, "a/b/train.py"), tmp_path, 0)
    assert [path.relative_to(copy).as_posix() for path in copy.rglob("*.py")] == ["a/b/train.py"]
