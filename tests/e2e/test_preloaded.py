"""A command that is forked from the preloaded process is what a new interpreter would be, to itself and to others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import psutil
import pytest

from tests.support.preloaded import PreloadedHarness, can_run_preloaded

FACTS = """
import logging, multiprocessing, os, signal, sys, tempfile, threading, warnings
from pathlib import Path


def facts():
    streams = (sys.stdin, sys.stdout, sys.stderr)
    return {
        "argv": sys.argv,
        "orig_argv": sys.orig_argv[1:],
        "cwd": os.getcwd(),
        "env": dict(os.environ),
        "shown": sorted(filter(None, Path("/proc/self/environ").read_text().split("\\0"))),
        "path": sys.path,
        "ours": sorted(name for name in sys.modules if name.partition(".")[0] in ("harness", "bench", "reports")),
        "main": getattr(sys.modules["__main__"].__spec__, "name", None),
        "signals": {number: getattr(by, "__name__", str(by)) for number in signal.valid_signals()
                    if (by := signal.getsignal(number)) != signal.SIG_DFL},
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1],
        "streams": [(stream.encoding, stream.errors, stream.line_buffering, stream.fileno()) for stream in streams],
        "hooks": [sys.excepthook is sys.__excepthook__, threading.excepthook is threading.__excepthook__],
        "threads": threading.active_count(),
        "handlers": len(logging.root.handlers),
        "filters": [repr(one) for one in warnings.filters],
        "temporary": tempfile.tempdir,
        "process": (multiprocessing.current_process().name, sorted(multiprocessing.current_process()._config)),
    }


def tell(queue):
    queue.put(facts())
"""
PROGRAM = '''
import json, logging, multiprocessing, os, signal, sys, tempfile, threading, warnings

from harness.facts import facts, tell


def alter():
    """What a command may have changed before it begins again, or starts its forkserver."""
    sys.excepthook = threading.excepthook = print
    logging.basicConfig()
    warnings.simplefilter("error")
    tempfile.tempdir = "/nowhere"
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    multiprocessing.current_process()._config["tempdir"] = os.getcwd()
    os.dup(1)


if __name__ == "__main__":
    match sys.argv[1]:
        case "facts":
            print(json.dumps(facts()))
        case "again":
            alter()
            os.set_inheritable(os.dup(2), True)
            os.execve(sys.executable, [sys.executable, "-m", "harness", "facts"], os.environ | {"TMPDIR": "/var/tmp"})
        case "forkserver":
            alter()
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload(["harness"])
            queue = context.SimpleQueue()
            process = context.Process(target=tell, args=(queue,))
            process.start()
            print(json.dumps(queue.get()))
            process.join()
        case "exit":
            sys.exit(int(sys.argv[2]))
        case "raise":
            raise ValueError("what is wrong")
        case "wait":
            print(os.getpid(), flush=True)
            sys.stdin.read()
            signal.pause()
'''


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    folder = tmp_path_factory.mktemp("program")
    (folder / "harness").mkdir()
    (folder / "harness" / "__init__.py").touch()
    (folder / "harness" / "facts.py").write_text(FACTS)
    (folder / "harness" / "__main__.py").write_text(PROGRAM)
    return folder


@pytest.fixture
def environment(program):
    # What pytest has for itself differs between its tests, and from what the preloaded process has.
    return os.environ | {"PYTHONPATH": str(program), "PYTHONSAFEPATH": "1", "SCALING_PRELOAD": "torch"}


def new_interpreter(arguments, folder, env) -> subprocess.Popen:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-m", "harness", *arguments], cwd=folder, env=env, text=True, **pipes)


def preloaded(arguments, folder, env) -> subprocess.Popen:
    assert can_run_preloaded(env)
    return PreloadedHarness(arguments, cwd=folder, env=env)


@pytest.mark.parametrize("mode", ["facts", "again", "forkserver"])
def test_it_sees_what_a_new_interpreter_sees(program, environment, tmp_path, mode):
    seen = []
    for start in (new_interpreter, preloaded):
        out, err = start((mode,), tmp_path, environment).communicate(timeout=60)
        assert err == ""
        seen.append(json.loads(out))
    assert seen[0] == seen[1]
    assert seen[0]["env"]["PYTHONPATH"] == str(program)


@pytest.mark.parametrize("arguments", [("exit", "0"), ("exit", "3"), ("raise",)])
def test_it_ends_as_a_new_interpreter_ends(program, environment, tmp_path, arguments):
    ends = []
    for start in (new_interpreter, preloaded):
        process = start(arguments, tmp_path, environment)
        _, err = process.communicate(timeout=60)
        ends.append((process.returncode, err.splitlines()[-1:]))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_signals_reach_it(environment, tmp_path, sign):
    with preloaded(("wait",), tmp_path, environment) as process:
        assert int(process.stdout.readline()) == process.pid
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.1)
        assert psutil.Process(process.pid).environ() == environment
        process.send_signal(sign)
    assert process.returncode == (1 if sign == signal.SIGINT else -sign)


def test_variables_that_libraries_read_need_a_new_interpreter(environment):
    assert can_run_preloaded(environment)
    assert not can_run_preloaded(environment | {"OMP_NUM_THREADS": "7"})
    assert not can_run_preloaded({name: value for name, value in environment.items() if name != "PATH"})
    assert not can_run_preloaded(environment | {"SCALING_LARGE": "." * 2**17})
