"""Tests that start processes are marked: see :mod:`tests.support.started_processes`."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow
pytest_plugins = ("pytester",)

CONFTEST = """
import pytest
from tests.support.started_processes import StartedProcesses

def pytest_configure(config):
    config.addinivalue_line("markers", "slow")
    config.pluginmanager.register(StartedProcesses())
"""
STARTS = {
    "subprocess": "subprocess.run(['true'], check=True)",
    "a shell": "subprocess.run('true', shell=True, check=True)",
    "os.system": "os.system('true')",
    "os.posix_spawn": "os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)",
    "os.fork": "os.waitpid(os.fork() or os._exit(0), 0)",
    "multiprocessing": "multiprocessing.get_context('fork').Process().start()",
    "a thread": "threading.Thread(target=subprocess.run, args=(['true'],)).run()",
    "our helper": "run_python(['-c', ''], '.')",
    "a hidden failure": "with contextlib.suppress(OSError): subprocess.run(['no-such-program'])",
}
PROGRAM = """
import contextlib, multiprocessing, os, subprocess, threading
import pytest
from tests.support.warm import run_python

def start():
    {start}

@pytest.fixture
def started():
    start()

def test_itself():
    start()

def test_its_fixture(started):
    pass

@pytest.mark.slow
def test_marked(started):
    start()

@pytest.mark.frameworks
def test_of_another_environment(started):
    start()

def test_after():
    pass
"""


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_a_test_that_starts_a_process_fails_unless_it_is_marked(pytester, start):
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(PROGRAM.format(start=start))
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=3, failed=1, errors=1)
    result.stdout.fnmatch_lines(2 * ["starts a process (*): mark the test `slow`"])


def test_the_command_is_named_in_one_line(pytester):
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(PROGRAM.format(start="subprocess.run(['echo', '1\\n2' + 100 * ' 3'])"))
    result = pytester.runpytest_inprocess("-k", "itself", "-p", "no:cacheprovider")
    result.stdout.fnmatch_lines(["starts a process (echo 1 2 3 3 3 * 3): mark the test `slow`"])
