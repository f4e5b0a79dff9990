"""From a suite's name and flags to a plan, with the place of what is wrong."""

from __future__ import annotations

import pytest

from bench.plugins.registry import load_plugins
from harness.errors import UsageError
from harness.planning.suite import Suite
from harness.sweep.duration import predict_duration
from harness.sweep.plan import SuiteRequest, choose_site, full_names, load_suite, plan_sweep

PLUGINS = load_plugins()


@pytest.fixture
def suite_file(tmp_path):
    def write(text: str) -> str:
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return str(path)

    return write


def test_a_stored_suite_with_short_names_is_the_one_asked_for_now(suite_file):
    name = suite_file("[backend.dask]\ntransport = 'tasks'\n[site.dask]\naddress = 'tcp://h:8786'\n")
    stored = Suite(name="mine", options={"dask": {"transport": ("tasks",), "address": ("tcp://h:8786",)}})
    assert full_names(stored, PLUGINS) == load_suite(SuiteRequest(name), PLUGINS)


def test_a_flag_replaces_the_file_s_values_and_leaves_its_other_options(suite_file):
    name = suite_file("[options.ddp]\nbucket_cap_mb = [1, 2]\nstatic_graph = true\n")
    request = SuiteRequest(name, {"repeats": 7}, ["backend.ddp.bucket_cap_mb=4"])
    suite = load_suite(request, PLUGINS)
    assert suite.options == {"backend.ddp": {"bucket_cap_mb": ("4",), "static_graph": (True,)}}
    assert suite.repeats == 7


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("repeats = 1\n[options.ddq]\nx = 1\n", (), "mine.toml:2: option ddq.x: unknown workload, backend or site"),
        ("[options.ddp]\nbucket = 1\n", (), "mine.toml:2: option ddp.bucket: backend.ddp has no option 'bucket'"),
        ("[site.slurm]\npartition = ['a', 'b']\n", (), "mine.toml:2: option site.slurm.partition takes one value"),
        ("[backend.ddp]\ntransport = 'mpi'\n", (), "mine.toml:2: option backend.ddp.transport: unknown transport"),
        ("[backend.ddp]\ntransport = 'gloo'\n", ("ddp.transport=mpi",), "option backend.ddp.transport: unknown"),
        ("", ("ddq.x=1",), "option ddq.x: unknown workload, backend or site"),
    ],
)
def test_what_is_wrong_is_named_with_its_line_where_the_file_holds_it(suite_file, text, settings, message):
    request = SuiteRequest(suite_file(text), {"ranks": (1,)}, settings)
    with pytest.raises(UsageError) as problem:
        plan_sweep(request, "slurm" if "slurm" in text else "local")
    place, _, rest = str(problem.value).rpartition("/")
    assert (rest if ".toml" in message else place + rest).startswith(message)


def test_a_plan_ends_with_what_it_has(suite_file):
    few = {"workloads": ("synthetic",), "backends": ("ddp",), "ranks": (1,), "repeats": 1}
    planned = plan_sweep(SuiteRequest("quick", few))
    last = list(planned.lines(predict_duration(planned.plan, ())))[-2:]
    # Without torch the case is skipped, and takes no time.
    assert last[-1] == "0 cases × 1 round = 0 trials; 1 skipped" or last == [
        "1 case × 1 round = 1 trial; 0 skipped",
        "time: unknown; the measured windows alone take about 2 s, no trial of this machine is stored yet",
    ]


def test_a_site_gets_its_own_options_alone():
    suite = Suite(options={"backend.dask": {"transport": ("tasks",)}, "site.dask": {"address": ("tcp://h:8786",)}})
    assert choose_site("dask", suite).chosen.model_dump(exclude_defaults=True) == {"address": "tcp://h:8786"}
    assert choose_site("slurm", suite).chosen.model_dump(exclude_defaults=True) == {}


def test_an_option_of_what_is_not_in_the_sweep_is_warned_of(suite_file, caplog):
    few = {"workloads": ("synthetic",), "backends": ("ddp",), "ranks": (1,)}
    settings = ["fsdp.cpu_offload=true", "ddp.static_graph=true", "site.slurm.partition=gpu"]
    # The suite's own may be meant for other flags.
    plan_sweep(SuiteRequest(suite_file("[backend.horovod]\ncycle_time_ms = 1\n"), few, settings))
    assert [record.getMessage() for record in caplog.records] == [
        "--set backend.fsdp.cpu_offload has no effect: backend fsdp is not in this sweep",
        "--set site.slurm.partition has no effect: site slurm is not in this sweep",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file or directory"),
        ("", "not a telemetry recording: its first line is no header"),
        (
            '{"format": 99, "host": "h", "source": "live", "interval_s": 0.2, "devices": []}\n',
            "a telemetry recording of format 99",
        ),
    ],
)
def test_what_is_no_recording_is_refused_before_anything_is_measured(tmp_path, content, message):
    path = tmp_path / "h200.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError) as problem:
        plan_sweep(SuiteRequest("quick", {"telemetry": f"replay:{path}", "ranks": (1,)}))
    assert str(problem.value).startswith(f"--telemetry replay:{path}: {message}")


def test_a_recording_on_other_machines_is_theirs(tmp_path):
    request = SuiteRequest("quick", {"telemetry": f"replay:{tmp_path}/there.jsonl", "ranks": (1,)})
    assert plan_sweep(request, "slurm").suite.telemetry.endswith("there.jsonl")


@pytest.mark.frameworks
def test_a_sweep_until_decided_without_a_question_says_that_each_case_runs_once(caplog):
    few = {"until": "decided", "workloads": ("synthetic",), "backends": ("single",)}
    plan_sweep(SuiteRequest("quick", {**few, "ranks": (1,)}))
    assert "--until decided: there is no question to decide" in caplog.text
    caplog.clear()
    plan_sweep(SuiteRequest("quick", {**few, "ranks": (1,), "backends": ("single", "ddp")}))
    assert "no question" not in caplog.text


def test_a_window_that_adapts_and_a_number_of_steps_contradict_each_other(suite_file):
    request = SuiteRequest("quick", {"steps": 5, "adapt_window": True})
    with pytest.raises(UsageError, match="--window auto: --steps gives the window a number of steps; leave one"):
        load_suite(request, PLUGINS)
    assert load_suite(SuiteRequest(suite_file("adapt_window = true\n"), {"steps": 5}), PLUGINS).steps == 5


@pytest.mark.frameworks
def test_a_question_about_a_cell_that_may_be_compiled_later_is_one(tmp_path, caplog):
    plugin = tmp_path / "later.py"
    plugin.write_text(
        "from bench.backends.single import Single\n"
        "class Later(Single):\n"
        '    name, summary, requires, remedy = "later", "a test", ("no_such_module",), "compile it"\n'
        "BACKEND = Later()\n"
    )
    few = {"until": "decided", "workloads": ("synthetic",), "backends": ("single", "later"), "ranks": (1,)}
    planned = plan_sweep(SuiteRequest("quick", few, plugins=(str(plugin),)))
    assert len(planned.plan.skips) == 1
    assert "no question" not in caplog.text
