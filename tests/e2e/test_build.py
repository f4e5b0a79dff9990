"""A sweep that compiles what cells lack: real C modules, one of which is broken, that plugin backends require."""

from __future__ import annotations

import json
import subprocess
import sys

BACKEND = """
from contextlib import contextmanager
from pathlib import Path

from bench.backends.single import Single

REASON = Path(__file__).with_name("NAME.reason")


class Compiled(Single):
    name, summary, requires, remedy = "NAME", "one device, with a compiled module", ("NAME_exchange",), "compile it"

    def unavailable_reason(self, case):
        missing = super().unavailable_reason(case)
        return f"{missing} ({REASON.read_text()})" if missing and REASON.exists() else missing

    @contextmanager
    def session(self, case, me):
        import NAME_exchange

        assert NAME_exchange.ranks() == case.ranks
        with super().session(case, me) as session:
            yield session


BACKEND = Compiled()
"""
MODULE = """
#include <Python.h>
static PyObject *ranks(PyObject *self, PyObject *none) { return PyLong_FromLong(RANKS); }
static PyMethodDef methods[] = {{"ranks", ranks, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "NAME_exchange", NULL, -1, methods};
PyMODINIT_FUNC PyInit_NAME_exchange(void) { return PyModule_Create(&module); }
"""
SUITE = """
backends = ["single", "works", "breaks"]
workloads = ["synthetic"]
ranks = [1]
repeats = 2
window_s = 0.1
[workload.synthetic]
model = ["toy"]
"""


def test_cells_come_last_once_compiled_and_a_broken_build_costs_no_other(harness):
    folder = harness.folder
    (folder / "modules").mkdir()
    for name, ranks in (("works", "1"), ("breaks", "undeclared")):
        (folder / f"{name}.py").write_text(BACKEND.replace("NAME", name))
        (folder / f"{name}.c").write_text(MODULE.replace("NAME", name).replace("RANKS", ranks))
    harness.lean()
    with (folder / "lean.toml").open("a") as suite:
        suite.write(SUITE)
    harness.env["PYTHONPATH"] += f":{folder / 'modules'}"
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.building_sweep"],
        cwd=folder,
        env=harness.env,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("first results") == 2

    document = json.loads(harness.run("report", done.stdout.strip(), "--store", "r.sqlite", "--json").stdout)
    cells = {cell["backend"]: cell for cell in document["cells"]}
    assert {name: cell["outcome"] for name, cell in cells.items()} == {
        "single": "ok",
        "works": "ok",
        "breaks": "skipped",
    }
    assert "measured_later" in cells["works"]["flags"]
    assert "measured_later" not in cells["single"]["flags"]
    assert "breaks_exchange not installed: compile it (" in cells["breaks"]["reason"]
    assert "undeclared" in cells["breaks"]["reason"], "the compiler's own words"
