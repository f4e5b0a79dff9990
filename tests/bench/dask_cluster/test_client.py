"""What the client of a cluster that exists takes from the network."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bench.dask_cluster.client import is_safe_to_name


@pytest.mark.parametrize("name", ["KeyError", "Exception", "str", "bytes", "list"])
def test_a_pickle_may_name_exceptions_and_types_of_plain_results(name):
    assert is_safe_to_name("builtins", name)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("builtins", "SystemExit"),
        ("builtins", "no_such_thing"),
        ("os", "system"),
        ("subprocess", "Popen"),
    ],
)
def test_a_pickle_may_name_nothing_else(module, name):
    assert not is_safe_to_name(module, name)


@pytest.mark.slow
def test_the_client_s_process_loads_no_other_pickle():
    program = """
import pickle, threading
from bench.dask_cluster.client import UnsafePickle, pickles_allowed, refuse_pickles
harmful, plain = pickle.dumps(print), pickle.dumps({"a": [1, KeyError("x")]})
refuse_pickles()
assert str(pickle.loads(plain)["a"][1]) == "'x'"
for load in (pickle.loads, pickle._loads):
    try:
        load(harmful)
    except UnsafePickle as refused:
        assert "builtins.print" in str(refused)
    else:
        raise SystemExit("loaded")
with pickles_allowed():
    assert pickle.loads(harmful) is print
    others = []
    def other():
        try:
            others.append(pickle.loads(harmful))
        except UnsafePickle:
            others.append("refused")
    thread = threading.Thread(target=other); thread.start(); thread.join()
    assert others == ["refused"], "the threads that read the network are not those that build graphs"
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
