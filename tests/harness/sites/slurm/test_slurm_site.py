"""What Slurm is given, and what is made of its answers; on real daemons: e2e/test_slurm.py."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from pydantic import ValidationError

from bench.core.exit_report import ExitReport, NodeReport
from bench.core.machine import NodeFacts
from bench.host.installation import torch_cuda_version
from bench.plugins.registry import load_backend
from harness.planning.placements import choose_device
from harness.planning.suite import Suite
from harness.sites.base.contract import TrialRequest, TrialResult
from harness.sites.slurm.batch_script import ROUND_LOG, batch_script, gpus_per_node_for
from harness.sites.slurm.client import (
    UNKNOWN_JOB,
    SlurmClient,
    SlurmJobState,
    SlurmUnavailable,
    SubmissionRejected,
    error_text,
    read_nodes,
    read_sacct,
    read_squeue,
    submission_environment,
)
from harness.sites.slurm.job import SlurmJob, Submission
from harness.sites.slurm.options import SlurmOptions, SlurmTimeouts
from harness.sites.slurm.site import SlurmSite
from tests.support.builders import make_case

CASE = make_case(site="slurm", ranks=2, ranks_per_node=1)
PYTHON = "/opt/python/bin/python"
RICH = {
    "partition": "gpu,long",
    "account": "lab",
    "qos": "high",
    "constraint": "a100&ib",
    "gpus_per_node": "a100:4",
    "memory": "0",
    "exclusive": True,
    "time_limit_min": 90,
    "interface": "ib0",
    "extra": "--reservation=night --nice=5",
}


def trial_of(name: str = "trial", **changes) -> TrialRequest:
    case = make_case(site="slurm", ranks_per_node=1, **changes)
    return TrialRequest(case, load_backend(case.backend).launch(case), Path(name))


def rendered(options: dict, *trials: TrialRequest) -> str:
    return batch_script(SlurmOptions(python=PYTHON, **options), trials, "trial/slurm.log")


MPI = {"backend": "horovod", "transport": "mpi", "ranks": 4, "ranks_per_node": 2, "threads": 3}


def mpi_trial(name: str = "trial") -> TrialRequest:
    case = make_case(site="slurm", **MPI)
    return TrialRequest(case, load_backend("horovod").launch(case), Path(name))


class Script(NamedTuple):
    """A batch script, read as a shell would."""

    directives: list[str]
    blocks: list[str]
    """The text of each trial."""
    steps: list[list[str]]
    """The words of each srun, its program included."""


def read_script(text: str) -> Script:
    checked = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
    directives = [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH ")]
    blocks = re.findall(r"(?ms)^\($.*?^\)$", text)
    steps = [shlex.split(line) for line in text.replace("\\\n", "").splitlines() if line.startswith("timeout ")]
    return Script(directives, blocks, steps)


CUDA = {"device": "cuda", "transport": "nccl"}


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "transport"), [("ddp", "gloo"), ("horovod", "gloo"), ("dask", "tasks")])
def test_an_agent_a_node_starts_the_ranks(backend, transport):
    trial = trial_of(backend=backend, transport=transport, ranks=4, threads=3)
    script = read_script(rendered({}, trial))
    assert {"--nodes=4", "--ntasks-per-node=1", "--cpus-per-task=3", "--no-requeue"} <= set(script.directives)
    (step,) = script.steps
    assert {"--nodes=4", "--ntasks=4", "--ntasks-per-node=1", "--cpus-per-task=3", "--job-name=trial"} <= set(step)
    assert not any(word.startswith("--mpi") for word in step)
    agent = ["-m", "bench.node.agent", "--case", "case.json", "--out", "."]
    certificate = ["--certificate", "certificate.pem"] if backend == "dask" else []
    assert step[step.index(PYTHON) + 1 :] == [*agent, *certificate, ">>srun.log", "2>&1"]
    assert ("\nrm -f certificate.pem\n" in script.blocks[0]) == (backend == "dask")


@pytest.mark.slow
def test_srun_starts_mpi_ranks_and_an_agent_a_node_watches_them():
    script = read_script(rendered({"interface": "ib0"}, mpi_trial()))
    ranks, agents = script.steps
    assert {"--mpi=pmix", "--ntasks=4", "--ntasks-per-node=2", "--cpus-per-task=3"} <= set(ranks)
    assert {"--output=rank-%t.log", "bench.rank.worker"} <= set(ranks)
    assert {"--ntasks=2", "--ntasks-per-node=1", "--cpus-per-task=6"} <= set(agents)
    assert agents[agents.index("--ranks") + 1] == "elsewhere"
    exports = re.findall(r"(?m)^export (\w+)=(\S+)", script.blocks[0])
    assert {
        ("SCALING_INTERFACE", "ib0"),
        ("OMPI_MCA_btl_tcp_if_include", "ib0"),
        ("NCCL_SOCKET_IFNAME", "=ib0"),
    } <= set(exports)
    assert "OMPI_MCA_btl" not in dict(exports), "ranks of several nodes need sockets"


@pytest.mark.slow
def test_mpi_ranks_of_a_single_node_open_no_sockets():
    case = make_case(site="slurm", **{**MPI, "ranks": 2})
    script = rendered({}, TrialRequest(case, load_backend("horovod").launch(case), Path("trial")))
    assert 'export OMPI_MCA_btl="${OMPI_MCA_btl-^tcp}"\n' in read_script(script).blocks[0]
    assert "OMPI" not in rendered({}, trial_of(backend="ddp", ranks=1))


@pytest.mark.slow
def test_every_option_becomes_one_directive():
    directives = read_script(rendered(RICH, trial_of(backend="horovod"))).directives
    assert [line for line in directives if "=" not in line] == ["--no-requeue", "--exclusive"]
    values = dict(line.split("=", 1) for line in directives if "=" in line)
    assert len(values) + 2 == len(directives), "none is there twice"
    expected = {
        "--partition": "gpu,long",
        "--account": "lab",
        "--qos": "high",
        "--constraint": "a100&ib",
        "--gpus-per-node": "a100:4",
        "--mem": "0",
        "--time": "90",
        "--reservation": "night",
        "--nice": "5",
        "--output": "trial/slurm.log",
    }
    assert values.items() >= expected.items()


@pytest.mark.slow
def test_gpus_are_requested_for_ranks_on_cuda_only():
    assert "--gpus-per-node=1" in read_script(rendered({}, trial_of(**CUDA))).directives
    assert not any("gpus" in line for line in read_script(rendered({}, trial_of())).directives)


@pytest.mark.slow
def test_containers_are_those_of_pyxis_or_apptainer():
    image = "nvcr.io#nvidia/pytorch:26.01-py3"
    (step,) = read_script(rendered({"container": image}, trial_of(**CUDA))).steps
    assert {f"--container-image={image}", "--container-mounts=$PWD:$PWD", "--container-workdir=$PWD"} <= set(step)
    by_apptainer = {"container": "/images/torch.sif", "container_by": "apptainer"}
    (step,) = read_script(rendered(by_apptainer, trial_of(**CUDA))).steps
    command = step[step.index("apptainer") :]
    assert command[:8] == ["apptainer", "exec", "--nv", "--bind", "$PWD", "--pwd", "$PWD", "/images/torch.sif"]
    (step,) = read_script(rendered(by_apptainer, trial_of())).steps
    assert "--nv" not in step


def packed_script() -> str:
    return rendered({"pack": True}, trial_of("00-a", ranks=1), mpi_trial("00-b"), trial_of("00-c", ranks=4))


@pytest.mark.slow
def test_the_trials_of_a_packed_job_run_one_after_the_other():
    text = packed_script()
    script = read_script(text)
    order = [line.split()[1] for line in text.splitlines() if re.match(r"(feed|cd) 00-", line)]
    assert order == ["00-a", "00-b", "00-c"]
    # srun starts MPI ranks in processes of their own; the others have the agents in common.
    assert [re.search(r"cd (\S+)", block)[1] for block in script.blocks] == ["00-b"]
    assert all(step[:2] == ["timeout", "--kill-after=10"] for step in script.steps)
    assert [step[step.index("srun") + 1] for step in script.steps] == ["--job-name=00-b", "--job-name=00-b"]
    (block,) = script.blocks
    assert block.index("touch began") < block.index("srun") < block.index("touch ended")


def test_agents_in_common_have_room_and_modules_for_all_of_their_trials():
    trials = [trial_of("00-a", ranks=1), mpi_trial("00-b"), trial_of("00-c", ranks=4, threads=2)]
    text = batch_script(SlurmOptions(python=PYTHON, interface="ib0"), trials, "out", preload=("horovod.torch", "x.y"))
    (step,) = re.findall(r"exec (timeout .*)", text.replace("\\\n", ""))
    words = shlex.split(step)
    assert {"--job-name=agents", "--nodes=$room", "--ntasks=$room", "--cpus-per-task=2", "--cpu-bind=none"} <= set(
        words
    )
    limit_s = 2 * SlurmTimeouts().step_limit_s(trials[0].case)
    assert words[:4] == ["timeout", "--kill-after=10", f"{limit_s:.0f}", "srun"]
    assert words[words.index(PYTHON) :] == [
        *(PYTHON, "-m", "bench.node.agent", "--feed", "--preload=horovod.torch,x.y"),
    ]
    assert "\nmost=4\n" in text
    assert text.index("export MASTER_ADDR") < text.index("feed 00-a")
    programs = [trial._replace(case=trial.case.model_copy(update={"program": trial.case})) for trial in trials]
    assert "--preload" not in batch_script(SlurmOptions(), programs, "out", preload=("x.y",)), (
        "they import nothing of ours"
    )
    # One trial has no agents in common with another.
    assert "--feed" not in rendered({"pack": True}, trial_of())


SRUN = """#!{python}
import json, os, signal, sys
print("srun: loaded", file=sys.stderr, flush=True)
with open("{folder}/steps", "a") as steps:
    print(*[word for word in sys.argv if word.startswith("--nodes")], file=steps)
for line in sys.stdin:
    if line == "end\\n":
        print("asked to end", file=sys.stderr, flush=True)
        break
    trial = json.loads(line)
    print("some noise", flush=True)
    print("srun: of", trial["name"], file=sys.stderr, flush=True)
    if trial["name"] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    failed = trial["name"] == "failed"
    silent = trial["name"] == "silent"
    if trial["name"] in ("silent", "ok"):
        print("srun: error: n2: task 1: Killed", file=sys.stderr, flush=True)
    for node in range(trial["nodes"] - failed - silent):
        print("scaling-ended", trial["name"], "failed" if failed else "ok", flush=True)
"""


@pytest.mark.slow
def test_agents_serve_until_a_trial_fails_or_they_are_gone_and_others_follow(monkeypatch, tmp_path):
    """The script in a real shell; in place of Slurm's agents stands a program that answers for all of them."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in {"srun": SRUN.format(python=sys.executable, folder=tmp_path), "scontrol": "#!/bin/sh\n"}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setattr("harness.sites.slurm.fed_agents.FAILURE_GRACE_S", 1)
    names = {"first": 4, "second": 2, "failed": 2, "third": 2, "killed": 1, "wider": 4, "silent": 2, "ok": 1, "last": 1}
    trials = [trial_of(name, ranks=nodes) for name, nodes in names.items()]
    for name in names:
        (tmp_path / name).mkdir()
    (tmp_path / "first" / "certificate.pem").touch()
    (tmp_path / "second").rmdir()  # that of a trial that was given up
    done = subprocess.run(
        ["bash"],
        input=rendered({}, *trials),
        cwd=tmp_path,
        env={"PATH": f"{programs}:/usr/bin:/bin", "TMPDIR": str(tmp_path)},
        text=True,
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert "unexpected" not in done.stderr
    assert "syntax" not in done.stderr
    # The first step has room for the largest trial, those after a failure for the one at hand, until one needs more.
    # One that is lost while it waits for a trial costs none.
    rooms = [4, 2, 4, 1, 1]
    assert (tmp_path / "steps").read_text().split() == [f"--nodes={room}" for room in rooms]
    logs = {name: (tmp_path / name / "srun.log").read_text() for name in names if name != "second"}
    assert logs["first"] == "srun: loaded\nsrun: of first\n"
    assert logs["failed"] == "srun: of failed\nasked to end\n"
    assert logs["third"] == "srun: loaded\nsrun: of third\n"
    assert logs["killed"].startswith("srun: of killed\n")
    assert logs["silent"] == "srun: of silent\nsrun: error: n2: task 1: Killed\nasked to end\n"
    assert logs["last"].endswith("srun: loaded\nsrun: of last\n")
    for name in logs:
        assert {"began", "ended", "hosts.txt", "srun.log"} == {path.name for path in (tmp_path / name).iterdir()}
    left = {"bin", "steps", *logs}
    assert {path.name for path in tmp_path.iterdir()} == left, "the script's own folder is removed"


def test_a_packed_job_is_rendered_as_in_its_golden_file(golden):
    golden.check("slurm.sh", packed_script())


@pytest.mark.slow
def test_a_job_has_room_for_the_largest_of_its_trials_and_time_for_all():
    directives = read_script(packed_script()).directives
    assert {"--nodes=4", "--cpus-per-task=6", "--no-kill"} <= set(directives)
    minutes = next(int(line.rpartition("=")[2]) for line in directives if line.startswith("--time="))
    assert minutes * 60 >= 3 * SlurmTimeouts().step_limit_s(make_case())


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("partition", "a b"),
        ("partition", "a\n#SBATCH --uid=0"),
        ("account", "$(id)"),
        ("qos", "a;b"),
        ("constraint", "a'b"),
        ("gpus_per_node", "4;rm"),
        ("memory", "lots"),
        ("python", "python -c x"),
        ("container", "--image"),
        ("container", "a b"),
        ("interface", "eth0;x"),
        ("mpi", "pmix --export=ALL"),
        ("extra", "--wrap=x"),
        ("extra", "--output=/etc/passwd"),
        ("extra", "-p x"),
        ("extra", "--nice=$(id)"),
        ("extra", "--array=1-5"),
        ("extra", "--nodelist=a;b"),
    ],
)
def test_what_does_not_look_like_a_name_is_refused(option, value):
    with pytest.raises(ValidationError) as caught:
        SlurmOptions(**{option: value})
    kind = "value_error" if option == "extra" else "string_pattern_mismatch"
    assert [(error["loc"], error["type"]) for error in caught.value.errors()] == [((option,), kind)]


def test_names_of_folders_are_quoted():
    text = rendered({}, trial_of("it's; a trap"))
    (line,) = [line for line in text.splitlines() if line.startswith("cd ")]
    assert shlex.split(line)[1] == "it's; a trap"


def test_a_container_brings_its_own_python_and_another_python_its_own_packages():
    assert SlurmSite().shares_environment
    assert not SlurmSite(SlurmOptions(python=PYTHON)).shares_environment
    assert not SlurmSite(SlurmOptions(container="x.sif")).shares_environment
    assert SlurmOptions(container="x.sif").rank_python == "python"


def test_shaped_links_are_refused(monkeypatch, tmp_path):
    for tool in ("sbatch", "squeue", "scancel", "sinfo", "scontrol", "srun"):
        (tmp_path / tool).touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    site = SlurmSite()
    assert site.unavailable_reason(make_case()) is None
    assert "leave --net out" in site.unavailable_reason(make_case(net="1gbit"))
    (tmp_path / "squeue").unlink()
    assert site.unavailable_reason(make_case()).startswith("no squeue here: run on a login node")
    assert site.unavailable_reason(make_case()) == site.missing_dependency(), "said by `doctor` and `list` too"


def test_gpus_that_are_asked_for_are_computed_on():
    def device(**options) -> str:
        return choose_device(Suite(name="s"), SlurmSite(SlurmOptions(python=PYTHON, **options)).machine())

    assert device() == "cpu"
    assert device(gpus_per_node="4") == device(gpus_per_node="a100:4") == "cuda"
    assert device(gpus_per_node="0") == "cpu"
    here = SlurmSite(SlurmOptions(gpus_per_node="4")).machine()
    assert (here.gpus, here.cuda_torch) == (4, torch_cuda_version() is not None)


def test_ranks_that_share_gpus_ask_for_fewer():
    site = SlurmSite(SlurmOptions(ranks_per_gpu=2))
    assert site.machine().ranks_per_gpu == 2
    case = make_case(ranks=6, ranks_per_node=3, device="cuda", transport="gloo", ranks_per_gpu=2, site="slurm")
    assert gpus_per_node_for(site.chosen, [case]) == "2"
    assert gpus_per_node_for(site.chosen, [case.model_copy(update={"device": "cpu"})]) is None


@pytest.mark.slow
def test_what_slurm_s_commands_do_wrong_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    client = SlurmClient()
    with pytest.raises(SlurmUnavailable, match=r"scancel can't be run \(No such file or directory\)"):
        client.cancel("7")
    with pytest.raises(SubmissionRejected, match="sbatch can't be run"):
        client.submit(tmp_path / "job.sh", tmp_path, "x", {"PATH": str(tmp_path)})
    assert "srun can't be run" in client.mpi_unavailable_reason("pmix_v9")
    slow = tmp_path / "scancel"
    slow.write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    slow.chmod(0o755)
    with pytest.raises(SlurmUnavailable, match=r"scancel did not answer within 0\.1 s"):
        SlurmClient(command_timeout_s=0.1).cancel("7")


@pytest.mark.slow
def test_srun_lists_once_the_kinds_of_mpi_that_it_knows_and_loads_one_once(monkeypatch, tmp_path):
    calls = tmp_path / "calls"
    slurm_says(monkeypatch, tmp_path, srun=f"echo x >>{calls}; echo 'MPI plugin types are...'; echo none pmix pmix_v4")
    site = SlurmSite()
    assert [site.launcher_unavailable_reason("srun") for _ in range(2)] == [None, None]
    assert calls.read_text() == "x\nx\n"
    assert site.launcher_unavailable_reason("agent") is None
    other = SlurmSite(SlurmOptions(mpi="pmix_v5")).launcher_unavailable_reason("srun")
    assert other.startswith("srun --mpi=list does not list pmix_v5; choose another by --set slurm.mpi=")


LISTS = "[ $1 = --mpi=list ] && { echo none pmix; exit; }; "


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("echo 'srun: error: mpi/pmix: can not load PMIx library' >&2; exit 1", "can not load PMIx library"),
        ("echo 'srun: error: Invalid partition name specified' >&2; exit 1", None),
        ("echo 'srun: Job 1 to start at 2026-11-27T08:58:29' >&2", None),
    ],
)
def test_a_kind_of_mpi_that_is_listed_must_load(monkeypatch, tmp_path, answer, reason):
    """Slurm 22.05 lists pmix where libpmix is missing. Another refusal of the test is not about MPI."""
    slurm_says(monkeypatch, tmp_path, srun=LISTS + answer)
    problem = SlurmSite().launcher_unavailable_reason("srun")
    if reason is None:
        assert problem is None
    else:
        assert f"`srun --mpi=pmix --test-only true` says: srun: error: mpi/pmix: {reason}; choose" in problem


def facts(node: int) -> NodeFacts:
    return NodeFacts(
        node=node, host=f"n{node}", system="Linux", cpu="c", cores=2, memory_bytes=1, gpus=(), python="3", packages={}
    )


QUICK = SlurmTimeouts(grace_s=0, leave_queue_s=0, file_delay_s=0.5, poll_s=0.01)


def job(folder: Path, submission: Submission, timeouts: SlurmTimeouts = QUICK, case=CASE, **options) -> SlurmJob:
    folder.mkdir()
    return SlurmJob(TrialRequest(case, (), folder), submission, SlurmOptions(**options), SlurmClient(), timeouts)


def slurm_says(monkeypatch, folder: Path, **commands: str) -> None:
    """Programs that stand in for Slurm's, each a line of shell."""
    for name in ("squeue", "scancel", "sinfo", "sacct", "srun"):
        (folder / name).write_text(f"#!/bin/sh\n{commands.get(name, '')}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


@pytest.mark.slow
def test_trials_of_a_job_that_was_given_up_say_why(monkeypatch, tmp_path):
    slurm_says(
        monkeypatch,
        tmp_path,
        squeue=f"test -e {tmp_path}/gone && echo '7|CANCELLED||None' || echo '7|PENDING||PartitionDown'",
        scancel=f"touch {tmp_path}/gone",
    )
    submission = Submission("7", shared=True)
    endings = [job(tmp_path / name, submission, patience_s=0).wait(9) for name in ("a", "b")]
    assert {ending.reason for ending in endings} == {"it can't start: Slurm reports PENDING (PartitionDown)"}


@pytest.mark.slow
def test_a_job_that_waits_too_long_is_cancelled_with_the_way_to_wait_longer(monkeypatch, tmp_path):
    slurm_says(
        monkeypatch,
        tmp_path,
        squeue=f"test -e {tmp_path}/gone && echo '7|CANCELLED||None' || echo '7|PENDING||Priority'",
        scancel=f"touch {tmp_path}/gone",
    )
    waiting = job(tmp_path / "a", Submission("7", shared=False), queue_timeout_s=0.3)
    assert re.fullmatch(
        r"it waited \d s in the queue: Slurm reports PENDING \(Priority\); to wait longer: "
        r"--set slurm\.queue_timeout_s=…",
        waiting.wait(9).reason,
    )
    assert (tmp_path / "gone").exists()


@pytest.mark.slow
def test_where_the_script_of_a_round_fails_its_own_log_tells_why(monkeypatch, tmp_path):
    slurm_says(monkeypatch, tmp_path, squeue="echo '7|FAILED||NonZeroExitCode'")
    script = tmp_path / "job.sh"
    trials = [trial_of(name, backend=name, ranks=2) for name in ("ddp", "horovod")]
    script.write_text(batch_script(SlurmOptions(), trials, ROUND_LOG))
    command, full = ["bash", str(script)], {**os.environ, "TMPDIR": str(tmp_path / "gone")}
    done = subprocess.run(command, env=full, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (tmp_path / "slurm-7.log").write_text(done.stdout)
    ending = job(tmp_path / "ddp", Submission("7", shared=True)).wait(9)
    assert "mktemp: failed to create directory" in ending.reason
    assert ending.reason.endswith("Slurm reports FAILED (NonZeroExitCode)")


@pytest.mark.slow
def test_a_trial_that_takes_too_long_is_ended_without_those_after_it(monkeypatch, tmp_path):
    trial = tmp_path / "00-a"
    slurm_says(
        monkeypatch,
        tmp_path,
        squeue="case $* in *--steps*) echo '7.batch|job'; echo '7.1|00-a'; echo '7.2|00-b';; "
        "*) echo '7|RUNNING|n[1-2]|None';; esac",
        scancel=f"echo $* >>{tmp_path}/said; touch {trial}/ended",
    )
    submission = Submission("7", shared=True)
    brief = make_case(site="slurm", ranks=2, ranks_per_node=1, timeout_s=0.05)
    late = job(trial, submission, replace(QUICK, startup_s=0, report_s=0), brief)
    (trial / "began").touch()
    assert late.wait(9).outcome == "timeout"
    assert (tmp_path / "said").read_text() == "7.1\n"
    assert submission.cancel_reason is None


@pytest.mark.slow
def test_nodes_that_were_ended_by_force_at_the_limit_are_a_timeout(monkeypatch, tmp_path):
    slurm_says(monkeypatch, tmp_path, squeue="echo '7|COMPLETED|n[1-2]|None'")
    limit_s = QUICK.step_limit_s(CASE)

    def ending(name: str, took_s: float, *, timed_out: bool = False, log: str = "") -> TrialResult:
        ended = job(tmp_path / name, Submission("7", shared=True), replace(QUICK, file_delay_s=0))
        scene = ExitReport(timed_out=timed_out, timeout_s=9)
        (ended.folder / "node-0.json").write_text(NodeReport(facts=facts(0), exit_report=scene).model_dump_json())
        (ended.folder / "hosts.txt").write_text("n0\nn1\n")
        (ended.folder / "srun.log").write_text(log)
        for file, at in (("began", 0.0), ("ended", took_s)):
            (ended.folder / file).touch()
            os.utime(ended.folder / file, (at, at))
        return ended.wait(9)

    assert ending("early", 20, timed_out=False).reason.startswith("node 1 (n1) is gone: it left no report")
    killed = "srun: error: n1: task 1: Killed\n"
    by_srun = "srun: First task exited 30s ago\n"
    assert "n1) is gone: its agent was killed (srun reports 'Killed')" in ending("killed", 20, log=killed).reason
    assert "its agent was killed" not in ending("by srun", 20, log=by_srun + killed).reason
    assert (
        "its agent was killed" not in ending("exit", 20, log=killed.replace("Killed", "Exited with exit code 1")).reason
    )
    assert ending("noticed", 20, timed_out=True).outcome == "timeout"
    assert ending("ended", limit_s + 1, timed_out=False).outcome == "timeout"


def test_the_queue_s_lines():
    text = "7|RUNNING|n[1-2]|None\n8|PENDING||ReqNodeNotAvail, UnavailableNodes:n3|x\n"
    assert read_squeue(text, "7") == SlurmJobState("RUNNING", "n[1-2]", "None")
    assert read_squeue(text, "8") == SlurmJobState("PENDING", "", "ReqNodeNotAvail, UnavailableNodes:n3|x")
    assert read_squeue(text, "9") is None
    assert read_squeue("", "7") is None


def test_the_accounts_lines():
    assert read_sacct("CANCELLED by 0|n[1-4]|None\n") == SlurmJobState("CANCELLED", "n[1-4]", "None")
    assert read_sacct("NODE_FAIL|n[1-4]|\n").over
    assert read_sacct("\n") is None
    assert read_sacct("Slurm accounting storage is disabled\n") is None


@pytest.mark.parametrize(
    ("reason", "cannot_start"),
    [
        ("Resources", False),
        ("Priority", False),
        ("Dependency", False),
        ("BeginTime", False),
        ("QOSMaxNodePerUserLimit", False),
        ("AssocGrpCpuLimit", False),
        ("Licenses", False),
        ("None", False),
        ("ReqNodeNotAvail, UnavailableNodes:n4", True),
        ("ReqNodeNotAvail, UnavailableNodes:", False),
        ("ReqNodeNotAvail, Reserved for maintenance", False),
        ("JobHeldAdmin", False),
        ("JobHeldUser", False),
        ("PartitionNodeLimit", True),
        ("PartitionDown", True),
        ("DependencyNeverSatisfied", True),
        ("BadConstraints", True),
        ("InvalidQOS", True),
        ("AssocMaxWallDurationPerJobLimit", True),
        ("QOSMaxCpuPerJobLimit", True),
        ("QOSMaxNodePerJobLimit", True),
        ("Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions", True),
    ],
)
def test_what_a_job_waits_for_in_vain(reason, cannot_start):
    assert SlurmJobState("PENDING", "", reason).cannot_start is cannot_start
    assert not SlurmJobState("RUNNING", "n1", reason).cannot_start


def test_a_job_is_over_when_nothing_of_it_runs_or_waits():
    over = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "BOOT_FAIL")
    assert all(SlurmJobState(state).over for state in over)
    assert not any(
        SlurmJobState(state).over for state in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED")
    )
    assert UNKNOWN_JOB.over
    assert SlurmJobState("NODE_FAIL", "", "None").description == "Slurm reports NODE_FAIL"
    assert UNKNOWN_JOB.description == "Slurm does not know the job any more"


def test_nodes_in_trouble():
    text = "n1|allocated|none\nn2|idle*|none\nn3|down*|Not responding\nn4|drained|fan broken\nn5|idle|none\n"
    assert read_nodes(text) == {
        "n2": "Slurm reports the node as IDLE and does not answer",
        "n3": "Slurm reports the node as DOWN and does not answer (Not responding)",
        "n4": "Slurm reports the node as DRAINED (fan broken)",
    }


def test_what_the_script_says_overrules_the_user_s_environment():
    env = {
        "HOME": "/h",
        "SLURM_CONF": "/c",
        "SBATCH_TIMELIMIT": "1",
        "SBATCH_OUTPUT": "x",
        "SBATCH_REQUEUE": "1",
        "SBATCH_PARTITION": "theirs",
    }
    found = submission_environment(env, rendered({}, trial_of()), {"PYTHONPATH": "/src"})
    assert found == {"HOME": "/h", "SLURM_CONF": "/c", "SBATCH_PARTITION": "theirs", "PYTHONPATH": "/src"}
    assert "SBATCH_PARTITION" not in submission_environment(env, rendered(RICH, trial_of()), {})
    stale = {"OMPI_COMM_WORLD_RANK": "3", "RANK": "1", "MASTER_ADDR": "far", "OMP_PROC_BIND": "true"}
    assert not stale.keys() & submission_environment({**env, **stale}, "", {}).keys(), "sbatch passes on what it has"
    inside = {**env, "SLURM_JOB_ID": "5", "SLURM_MEM_PER_NODE": "100"}
    assert {name for name in submission_environment(inside, "", {}) if name.startswith("SLURM_")} == {"SLURM_CONF"}


def test_slurm_s_words_become_one_line():
    said = "sbatch: error: invalid partition specified: x\nsbatch: error: Batch job submission failed\n"
    assert error_text(said) == "invalid partition specified: x; Batch job submission failed"
    assert error_text("") == "no error message"
