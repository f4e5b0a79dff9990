"""The copy of its sources that a command runs from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from bench.host.running_code import CODE, sources_digest
from harness.__main__ import _measures
from harness.planning.source_copy import copy_folder, file_digests, python_path, remove_shared_sources, share_sources
from harness.planning.sources import Sources, describe_files
from tests.support.checkouts import Checkout

COPY = """
import json, sys
from pathlib import Path
from bench.host.running_code import read_source_copy, sources_digest
from harness.errors import UsageError
from harness.planning.source_copy import copy_sources
target = Path(sys.argv[1])
try:
    copy_sources(target, -1)
except UsageError as problem:
    sys.exit(f"error: {problem}")
copy = read_source_copy(target)
print(json.dumps([sources_digest(target / "bench"), copy.origin, copy.commit, copy.changed_files]))
"""
WHERE = """
import json
from bench.host.installation import CHECKOUT
from harness.check.source_trees import head_tree
from harness.planning.git import read_code_state
print(json.dumps([str(CHECKOUT), str(head_tree().path), *read_code_state()[:2]]))
"""


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


def copied(checkout: Checkout, name: str) -> list:
    done = checkout.run(COPY, str(checkout.path.parent / name))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_the_same_sources_have_the_same_digest_and_an_edit_another(checkout):
    first, second = copied(checkout, "first"), copied(checkout, "second")
    commit = checkout.git("rev-parse", "HEAD")
    assert first == second == [first[0], str(checkout.path), commit, False]
    checkout.edit("bench/rank/loop.py", "import", "import")
    assert copied(checkout, "touched")[0] == first[0]
    checkout.edit("bench/rank/loop.py", "import", "import os\nimport")
    edited = copied(checkout, "edited")
    assert edited[0] != first[0]
    assert edited[2:] == [commit, True]


@pytest.mark.slow
def test_neither_bytecode_nor_an_editor_s_files_are_part_of_the_digest(checkout):
    before = copied(checkout, "first")[0]
    package = checkout.path / "bench"
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(package / "core")], check=True)
    (package / ".case.py.swp").write_bytes(b"\0")
    (package / ".#case.py").symlink_to("nobody@nowhere")
    assert copied(checkout, "second")[0] == before == sources_digest(package)
    names = {path.name for path in (checkout.path.parent / "second" / "bench").rglob("*")}
    assert not names & {".case.py.swp", ".#case.py"}


def test_links_that_lead_back_are_not_followed(tmp_path):
    package = tmp_path / "package"
    (package / "part").mkdir(parents=True)
    (package / "part" / "one.py").write_text("one = 1\n")
    (package / "linked").symlink_to(package / "part")
    (package / "first").symlink_to(package)
    copy_folder(package, tmp_path / "copy")
    assert list(file_digests(tmp_path, ("copy",))) == ["copy/linked/one.py", "copy/part/one.py"]
    # Two of them are 2^40 folders for whoever follows them.
    (package / "second").symlink_to(package)
    assert list(file_digests(tmp_path, ("package",))) == ["package/linked/one.py", "package/part/one.py"]


def test_bytecode_that_may_be_of_an_earlier_text_is_left_behind(tmp_path):
    """Python compares times in whole seconds and sizes: the second text of a second may run as the first."""
    source, bytecode = tmp_path / "package" / "part.py", tmp_path / "package" / "__pycache__"
    bytecode.mkdir(parents=True)
    source.write_text("VALUE = 1\n")
    cached = bytecode / f"part.{sys.implementation.cache_tag}.pyc"
    cached.touch()
    for age_s, kept in ((0, False), (5, True)):
        now = time.time()
        os.utime(source, (now, int(now) - age_s))
        os.utime(cached, (now, int(now)))
        target = tmp_path / f"copy-{age_s}"
        copy_folder(source.parent, target)
        assert (target / "__pycache__" / cached.name).exists() is kept
        assert (target / "part.py").stat().st_mtime == source.stat().st_mtime


SAVING = """
import itertools, pathlib, sys
path = pathlib.Path(sys.argv[1])
for number in itertools.count():
    path.with_name(".saved").write_text(f"VALUE = {number}")
    path.with_name(".saved").replace(path)
"""


@pytest.mark.slow
def test_sources_that_keep_changing_are_refused(checkout):
    part = checkout.path / "bench" / "part.py"
    with subprocess.Popen([sys.executable, "-c", SAVING, str(part)]) as saving:
        while not part.exists():
            time.sleep(0.01)
        done = checkout.run(COPY, str(checkout.path.parent / "copy"))
        saving.kill()
    assert done.returncode == 1
    assert done.stderr == (
        f"error: {checkout.path}: its files change while they are copied; wait for that to end and repeat the command\n"
    )
    assert not (checkout.path.parent / "copy" / "bench").exists()


@pytest.mark.slow
def test_code_in_a_copy_knows_the_checkout_and_the_commit_of_its_beginning(checkout):
    copied(checkout, "copy")
    commit = checkout.head()
    checkout.edit("bench/rank/loop.py", "import", "import os\nimport")
    checkout.commit()
    copy = checkout.path.parent / "copy"
    env = checkout.env | {"PYTHONPATH": str(copy)}
    done = subprocess.run([sys.executable, "-c", WHERE], env=env, cwd="/", capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [str(checkout.path), str(copy), commit, False]


@pytest.mark.slow
def test_what_is_compiled_in_the_copy_is_kept_for_the_next_command(checkout, tmp_path):
    env = {name: value for name, value in checkout.env.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-m", "harness", "sweep", "no-such-suite"]
    subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, check=False)
    cached = {path.name.split(".")[0] for path in checkout.path.rglob("*.pyc")}
    assert {"suite", "registry", "app"} <= cached
    assert {path.suffix for path in checkout.path.rglob("__pycache__/*")} == {".pyc"}


CONFIRM = """
import sys
from harness.check.confirmation import check_head_commit
from harness.errors import UsageError
try:
    check_head_commit(sys.argv[1], changed=True, sources=sys.argv[2])
except UsageError as problem:
    sys.exit(str(problem))
"""


@pytest.mark.slow
def test_pairs_need_the_sources_that_the_night_ran(checkout):
    """The commit is the same, and files were changed both times: in another way."""
    checkout.edit("bench/rank/loop.py", "import", "import os\nimport")
    night = sources_digest(checkout.path / "bench")
    assert checkout.run(CONFIRM, checkout.head(), night).returncode == 0
    checkout.edit("bench/rank/loop.py", "import os", "import io")
    here = sources_digest(checkout.path / "bench")
    refused = checkout.run(CONFIRM, checkout.head(), night)
    assert refused.returncode == 1
    assert (
        f"ran the sources {night}, and those here are {here}; restore what they ran, or sweep again" in refused.stderr
    )


COMMIT_OF_BENCHMARKS = """
import json, runpy
info = {"id": "unknown", "dirty": False, "project": "sources"}
runpy.run_path("suites/conftest.py")["pytest_benchmark_update_commit_info"](None, info)
print(json.dumps(info))
"""


@pytest.mark.slow
def test_micro_benchmarks_record_the_commit_of_the_beginning(checkout):
    checkout.edit("bench/rank/loop.py", "import", "import os\nimport")
    (checkout.path / "pyproject.toml").touch()
    copied(checkout, "copy")
    commit = checkout.git("rev-parse", "HEAD")
    checkout.commit()
    copy = checkout.path.parent / "copy"
    env = checkout.env | {"PYTHONPATH": str(copy)}
    command = [sys.executable, "-c", COMMIT_OF_BENCHMARKS]
    done = subprocess.run(command, env=env, cwd=copy, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"id": commit, "dirty": True, "project": "sources"}


@pytest.mark.slow
def test_the_copy_is_removed_however_the_command_ends(checkout, tmp_path):
    """A command that is refused at once."""
    command = [sys.executable, "-m", "harness", "sweep", "no-such-suite"]
    done = subprocess.run(command, cwd=tmp_path, env=checkout.env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "unknown suite 'no-such-suite'" in done.stderr
    assert list(checkout.temporary.iterdir()) == []


@pytest.mark.slow
def test_a_full_temporary_folder_is_one_line(checkout, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    small = tmp_path / "small"
    small.mkdir()
    script = f"mount -t tmpfs -o size=100k tmpfs {small} && exec {sys.executable} -m harness sweep"
    env = checkout.env | {"TMPDIR": str(small)}
    command = ["unshare", "--mount", "sh", "-c", script]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        f"error: temporary folder {small}: the sources can't be copied there (No space left on device); "
        "free some space, or set TMPDIR to a writable folder\n"
    )


def test_jobs_that_outlive_the_command_find_the_sources_in_the_sweep_s_folder(tmp_path):
    shared = share_sources(tmp_path)
    assert shared == (tmp_path / "sources").resolve()
    assert sources_digest(shared / "bench") == sources_digest()
    (shared / "bench" / "rank" / "loop.py").write_text("damaged")
    assert share_sources(tmp_path) == shared
    assert file_digests(shared) == file_digests(CODE)
    remove_shared_sources(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_the_user_s_of_that_name_is_not_removed(tmp_path):
    (tmp_path / "sources").mkdir()
    remove_shared_sources(tmp_path)
    assert (tmp_path / "sources").is_dir()


@pytest.mark.parametrize(
    ("arguments", "measures"),
    [
        ("sweep quick", True),
        ("sweep --resume", True),
        ("nightly --out x", True),
        ("check --confirm", True),
        ("check --suite quick --base-rev HEAD --pairs-only", True),
        ("check", False),
        ("sweep --dry-run", False),
        ("sweep --help", False),
        ("sweep -h", False),
        ("report --out sweep", False),
        ("", False),
    ],
)
def test_which_commands_run_from_a_copy(arguments, measures):
    assert _measures(arguments.split()) is measures


def test_what_changed_is_named(tmp_path):
    before = Sources(digest="a", files={"bench/a.py": "1", "bench/b.py": "1", "bench/gone.py": "1"})
    now = Sources(digest="b", files={"bench/a.py": "1", "bench/b.py": "2", "bench/new.py": "1"})
    assert now.changed_since(before) == ("bench/b.py", "bench/gone.py", "bench/new.py")
    assert describe_files(("a", "b", "c", "d", "e")) == "a, b, c and 2 more"
    assert before.changed_since(before) == ()


def test_the_python_path_begins_with_the_copy(tmp_path):
    assert python_path(tmp_path, {"PYTHONPATH": "/a:/b"}) == f"{tmp_path}:/a:/b"
    assert python_path(tmp_path, {}) == str(tmp_path)
    assert python_path(None, {"PYTHONPATH": "/a"}) == "/a"
