"""Hosts that ssh reaches: the hosts file, ssh's configuration and commands, the launcher of the ranks."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from bench.node.trial_feed import FedTrial
from bench.plugins.registry import load_backend
from harness.errors import UsageError
from harness.sites.base.remote import MARGIN_S
from harness.sites.hosts.client import SshAccess, connection_failure, is_silent, remote_command, ssh_config
from harness.sites.hosts.hosts_file import Host, parse_hosts, read_hosts
from harness.sites.hosts.job import HostCommand, SshJob
from harness.sites.hosts.site import SshOptions, SshSite, with_certificate
from tests.support.builders import make_case

N1 = Host(name="n1")


def site(tmp_path: Path, hosts: str = "n1\nn2 slots=2 address=10.0.0.2 user=bench port=2222\n", **options):
    (tmp_path / "hosts.txt").write_text(hosts)
    base = {"file": str(tmp_path / "hosts.txt"), "python": "/opt/venv/bin/python", "folder": "/srv/our checkout"}
    return SshSite(SshOptions(**{**base, **options}))


def case_of(backend: str, transport: str, **changes):
    return make_case(backend=backend, transport=transport, site="hosts", ranks_per_node=1, **changes)


class Remote(NamedTuple):
    """A rendered command: on which host, where, with which variables."""

    host: str
    folder: str
    env: dict[str, str]
    words: list[str]


def rendered(chosen, backend: str, transport: str) -> list[Remote]:
    case = case_of(backend, transport)
    lines = chosen.render(case, load_backend(backend).launch(case))["commands.sh"].splitlines()
    return [read_command(line) for line in lines if not line.startswith("#")]


def read_command(line: str) -> Remote:
    program, flag, config, host, remote = shlex.split(line)
    assert (program, flag, config) == ("ssh", "-F", "ssh_config")
    change, folder, then, execute, env, *words = shlex.split(remote)
    assert (change, then, execute, env) == ("cd", "&&", "exec", "env")
    count = next(index for index, word in enumerate(words) if "=" not in word)
    return Remote(host, folder, dict(word.split("=", 1) for word in words[:count]), words[count:])


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


@pytest.mark.parametrize(
    ("backend", "transport", "start"),
    [("ddp", "gloo", "auto"), ("ddp", "gloo", "horovodrun"), ("horovod", "gloo", "own"), ("dask", "tasks", "auto")],
)
def test_agents_that_outlive_the_trial_start_the_ranks_of_their_hosts(tmp_path, backend, transport, start):
    chosen = site(tmp_path, start=start)
    chosen.reserve([case_of(backend, transport)])
    chosen.warm(("horovod.torch", "x"))
    case = case_of(backend, transport)
    files = chosen.render(case, load_backend(backend).launch(case))
    agents = [read_command(line) for line in files["commands.sh"].splitlines() if not line.startswith("#")]
    assert [agent.host for agent in agents] == ["n1", "n2"]
    trials = [FedTrial.model_validate_json(files[f"agent-{number}.json"]) for number in range(2)]
    for number, (agent, trial) in enumerate(zip(agents, trials, strict=True)):
        # The command is the same for every trial, and what differs goes over standard input, the certificate too.
        assert agent.env == {"PYTHONPATH": "/srv/our checkout"}
        assert agent.words == [
            *("/opt/venv/bin/python", "-m", "bench.node.agent", "--feed", "--preload=horovod.torch,x")
        ]
        assert (trial.variables["SCALING_NODE"], trial.variables["SCALING_NODES"]) == (str(number), "2")
        assert trial.variables["MASTER_ADDR"] == "n1"
        assert (trial.case, trial.fresh, trial.certificate) == (case, True, None)
    assert len({(trial.variables["MASTER_PORT"], trial.out, trial.name) for trial in trials}) == 1


def test_agents_of_programs_alone_import_nothing(tmp_path):
    chosen = site(tmp_path)
    chosen.reserve([case_of("ddp", "gloo").model_copy(update={"program": "one"})])
    chosen.warm(("horovod.torch",))
    case = case_of("ddp", "gloo")
    command = read_command(chosen.render(case, load_backend("ddp").launch(case))["commands.sh"].splitlines()[1])
    assert command.words[-1] == "--feed"


def test_the_certificate_of_a_trial_is_told_to_agents_that_outlive_it(tmp_path):
    document = FedTrial(name="t", out="/tmp/t")
    kept = with_certificate(HostCommand("agent-0", 0, N1, ["ssh"], document), "key")
    assert kept.document == FedTrial(name="t", out="/tmp/t", certificate="key")
    alone = HostCommand("agent-0", 0, N1, ["ssh"])
    assert with_certificate(alone, "key") == alone


def test_torchrun_starts_the_ranks_under_agents_of_the_trial_alone(tmp_path):
    agents = rendered(site(tmp_path, start="torchrun"), "ddp", "gloo")
    assert [agent.host for agent in agents] == ["n1", "n2"]
    for number, agent in enumerate(agents):
        assert agent.folder == agent.env["PYTHONPATH"] == "/srv/our checkout"
        assert (agent.env["SCALING_NODE"], agent.env["SCALING_NODES"]) == (str(number), "2")
        assert agent.env["MASTER_ADDR"] == "n1"
        assert agent.words[:3] == ["/opt/venv/bin/python", "-m", "bench.node.agent"]
        assert option(agent.words, "--ranks") == "torchrun"
        assert {"--stdio", "--fresh"} <= set(agent.words)
    assert len({(agent.env["MASTER_PORT"], option(agent.words, "--out")) for agent in agents}) == 1


@pytest.mark.parametrize(
    ("transport", "start", "launcher"),
    [("gloo", "horovodrun", "horovodrun"), ("mpi", "auto", "mpirun"), ("mpi", "torchrun", "mpirun")],
)
def test_a_launcher_on_the_first_host_starts_the_ranks_of_all(tmp_path, transport, start, launcher):
    *agents, last = rendered(site(tmp_path, start=start), "horovod", transport)
    assert [option(agent.words, "--ranks") for agent in agents] == ["elsewhere"] * 2
    assert last.host == "n1"
    assert last.words[:4] == ["/opt/venv/bin/python", "-m", "bench.node.launchers.runner", launcher]
    assert option(last.words, "--hosts") == "n1:1,10.0.0.2:1"
    assert option(last.words, "--ranks") == "2"
    folder = option(last.words, "--out")
    assert {option(agent.words, "--case") for agent in agents} == {f"{folder}/case.json"}


def test_commands_are_rendered_as_in_their_golden_file(tmp_path, golden):
    case = case_of("horovod", "mpi")
    golden.check("hosts.sh", site(tmp_path).render(case, load_backend("horovod").launch(case))["commands.sh"])


def test_the_rendered_configuration_names_key_user_and_known_hosts(tmp_path):
    chosen = site(tmp_path, identity="~/.ssh/50% of it", known_hosts="/etc/our hosts", user="everybody")
    lines = [line.strip() for line in chosen.render(case_of("ddp", "gloo"), ())["ssh_config"].splitlines()]
    assert {
        'IdentityFile "~/.ssh/50%% of it"',
        "IdentitiesOnly yes",
        'UserKnownHostsFile "/etc/our hosts"',
        "StrictHostKeyChecking yes",
        "BatchMode yes",
        "User everybody",
        "User bench",
        "Port 2222",
    } <= set(lines)
    accepting = site(tmp_path, host_key_checking="accept-new").render(case_of("ddp", "gloo"), ())["ssh_config"]
    assert "StrictHostKeyChecking accept-new" in accepting


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("ssh") is None, reason="no ssh: apt-get install openssh-client")
def test_ssh_itself_reads_the_configuration_as_meant(tmp_path):
    hosts = [N1, Host(name="n2", address="10.0.0.2", port=2222, user="bench")]
    # The user's own file comes later and can't make the check of host keys weaker.
    loose = "Match all\n    StrictHostKeyChecking no\n    UserKnownHostsFile /dev/null\n    BatchMode no\n"
    text = ssh_config(hosts, SshAccess(identity="/a key/50%", known_hosts="/known here")).replace("Match all\n", loose)
    (tmp_path / "ssh_config").write_text(text)
    for name in ("n1", "n2", "10.0.0.2"):
        done = subprocess.run(
            ["ssh", "-F", tmp_path / "ssh_config", "-G", name], capture_output=True, text=True, check=True
        )
        said = dict(line.split(" ", 1) for line in done.stdout.splitlines())
        assert (said["stricthostkeychecking"], said["batchmode"]) == ("true", "yes")
        assert said["userknownhostsfile"] == "/known here"
        assert said["identityfile"].replace("%%", "%") == "/a key/50%"
        assert (said["hostname"], said["port"]) == (("n1", "22") if name == "n1" else ("10.0.0.2", "2222"))


@pytest.mark.slow
def test_a_far_shell_gets_every_word_as_it_is():
    words = ["printf", "%s|", "a b", "$HOME", "'", '"', ";reboot", "`id`", "\\", "*"]
    line = remote_command("/tmp", {"NAME": "x y;$(id)'"}, ["sh", "-c", f'{shlex.join(words)}; printf %s "$NAME"'])
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True)
    assert done.stdout == "|".join(words[2:]) + "|" + "x y;$(id)'"


def test_hosts_are_read_with_their_settings():
    text = "# machines\n\nn1  # the first\nn2 slots=2 address=fd00::2 user=me port=2222 python='/opt/my venv/python'\n"
    assert parse_hosts(text, "hosts.txt") == (
        N1,
        Host(name="n2", slots=2, address="fd00::2", user="me", port=2222, python="/opt/my venv/python"),
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("n1 slot=2", "h:2: 'slot=2' is not a setting of a host; did you mean 'slots'?"),
        ("n1 slots=0", "h:2: slots = '0' is not a number of ranks from 1"),
        ("n1 port=ssh", "h:2: port = 'ssh' is not a port"),
        ("n1 user=-oProxyCommand=id", "h:2: user = '-oProxyCommand=id' has other characters than letters"),
        ("-oProxyCommand=id", "h:2: name = '-oProxyCommand=id' has"),
        ("n1;id", "h:2: name = 'n1;id' has"),
        ("n1 address=$(id)", "h:2: address = '$(id)' has"),
        ("n1 python='a", "h:2: no closing quotation; close the quotation"),
        ("n1 slots=1 slots=2", "h:2: slots is set twice"),
        ("n0", "h:2: host 'n0' is named twice"),
    ],
)
def test_a_wrong_line_is_named(line, said):
    with pytest.raises(UsageError) as problem:
        parse_hosts(f"n0\n{line}\n", "h")
    assert said in str(problem.value)


def test_a_file_without_hosts_and_no_file_at_all(tmp_path):
    (tmp_path / "empty").write_text("# nobody\n")
    with pytest.raises(UsageError, match="names no host; write one on each line"):
        read_hosts(tmp_path / "empty")
    with pytest.raises(UsageError) as problem:
        read_hosts(tmp_path / "missing")
    assert str(problem.value) == (
        f"hosts.file = {tmp_path}/missing: can't be read: no such file or directory; name a "
        "file with one host on each line, for example `n1 slots=2`"
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"user": "a b"},
        {"identity": "-x"},
        {"identity": 'a"b'},
        {"known_hosts": "a\nb"},
        {"interface": "eth0;id"},
        {"scratch": "/tmp/$(id)"},
        {"scratch": "relative"},
        {"folder": "/a$b"},
        {"port": 0},
    ],
)
def test_options_refuse_what_could_be_more_than_a_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SshOptions(**wrong)


def test_why_a_case_can_t_run_there(tmp_path):
    ddp = case_of("ddp", "gloo")
    assert "--set hosts.file=FILE" in (SshSite().unavailable_reason(ddp) or "")
    few = site(tmp_path).unavailable_reason(case_of("ddp", "gloo", ranks=4))
    assert few == f"2 hosts in {tmp_path}/hosts.txt, the case needs 4"
    narrow = site(tmp_path, "n1 slots=1\nn2 slots=2\n")
    wide = make_case(site="hosts", ranks=4, ranks_per_node=2)
    assert narrow.unavailable_reason(wide) == f"1 host with 2 slots in {tmp_path}/hosts.txt, the case needs 2"
    assert "leave --net out" in (site(tmp_path).unavailable_reason(ddp.model_copy(update={"net": "1gbit"})) or "")
    assert site(tmp_path, start="auto").launcher_unavailable_reason("mpirun") is None
    assert site(tmp_path, start="own").launcher_unavailable_reason("agent") is None
    assert "leave that out" in (site(tmp_path, start="own").launcher_unavailable_reason("mpirun") or "")


def test_what_ssh_says_comes_with_the_remedy():
    unknown = [
        "No ED25519 host key is known for n1 and you have requested strict checking.",
        "Host key verification failed.",
    ]
    said = connection_failure(unknown, Host(name="n1", port=2222), SshAccess(known_hosts="/my keys"))
    assert "`ssh-keyscan -p 2222 n1 >> '/my keys'` adds it" in said
    assert ">> ~/.ssh/known_hosts`" in connection_failure(unknown, N1, SshAccess())
    changed = ["@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @", *unknown]
    assert "another machine may be answering" in connection_failure(changed, N1, SshAccess())
    denied = connection_failure(["n1: Permission denied (publickey)."], N1, SshAccess())
    assert denied.endswith("name a key that it accepts: --set hosts.identity=FILE")
    refused = "ssh: connect to host n1 port 22: Connection refused"
    assert connection_failure([refused, "a line of the login"], N1, SshAccess()) == refused
    assert connection_failure([], N1, SshAccess()) == "ssh ended without a message"
    assert not is_silent([refused])
    assert not is_silent(["Host key verification failed."])
    assert is_silent(["a warning of a framework"]), "ssh reports 255 for a command that a signal has killed"


@pytest.mark.slow
def test_an_ssh_that_a_signal_has_stopped_is_named(tmp_path):
    """A program that waits stands for ssh: what it would pass on is not looked at."""
    case = make_case(ranks=1, site="hosts")
    commands = [HostCommand("agent-0", 0, N1, ["sleep", "60"])]
    job = SshJob(case, tmp_path, commands, "", SshAccess())
    session = job.nodes[0]
    os.kill(session.process.pid, signal.SIGSTOP)
    result = job.wait(0.5 - MARGIN_S)
    assert result.outcome == "failed"
    stopped = f"the ssh that reaches it (process {session.process.pid}) was stopped by a signal"
    assert result.reason == f"node 0 (n1) is gone: {stopped}"
    assert session.ended
