"""The part of a batch script that feeds the trials of a job to one agent a node, which outlives them (pure).

The script holds both ends of the agents' step: srun passes each line that it writes on to all agents, and their answers
come back the same way, so that nothing listens. The agents end with the first trial that fails, and with the loss of
one of them; the next trial starts new ones. So a node that died takes no further trial with it.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from bench.host.certificate import CERTIFICATE_FILE
from bench.node.trial_feed import ENDED_LINE, FedTrial
from harness.sites.base.contract import TrialRequest
from harness.sites.base.remote import rendezvous_port

AGENTS_STEP = "agents"
"""The name of the agents' step, should it have to be cancelled alone."""
FAILURE_GRACE_S = 10
"""How long the other agents may run on after one has reported a failure, before they are asked to end."""
STOP_GRACE_S = 15
"""How long agents that are asked to end may take for stack dumps."""

FUNCTIONS = r"""
start_agents() {
    room=$((most > $1 ? most : $1))
    before=$(stat -c %s "$folder/log")
    mkfifo "$folder/in" "$folder/out"
    agents_step <"$folder/in" >"$folder/out" 2>>"$folder/log" &
    agents=$!
    exec 3>"$folder/in" 4<"$folder/out"
    rm "$folder/in" "$folder/out"
}

end_agents() {
    [ "$agents" ] || return
    (echo end >&3) 2>/dev/null
    exec 3>&-
    timeout $stop_grace_s tail --pid="$agents" -s 0.2 -f /dev/null || kill "$agents"
    wait "$agents"
    exec 4<&-
    agents=
}

# Whether srun reports an agent that has ended.
lost() {
    tail -c "+$((before + 1))" "$folder/log" | grep -Eq "error: [^ ]+: tasks? "
}

end_soon() {
    [ $((SECONDS + failure_grace_s)) -ge "$until" ] || until=$((SECONDS + failure_grace_s))
}

# Runs a trial: its folder, the number of its nodes, its time limit in seconds, and what the agents are told.
feed() {
    [ -d "$1" ] || return
    scontrol show hostnames >"$1/$hosts_file"
    touch "$1/$began_file"
    local known=$(stat -c %s "$folder/log")
    [ "$agents" ] && [ "$room" -ge "$2" ] && ! lost || { end_agents; start_agents "$2"; }
    local until=$((SECONDS + $3)) answers=0 failed= word name outcome
    (printf '%s\n' "$4" >&3) 2>/dev/null
    while [ "$answers" -lt "$2" ] && [ "$SECONDS" -lt "$until" ]; do
        if read -r -t 1 -u 4 word name outcome; then
            [ "$word $name" = "$ended_line $1" ] || continue
            answers=$((answers + 1))
            [ "$outcome" = ok ] && continue
            failed=1
            end_soon
        elif [ $? -le 128 ]; then
            break # The step has ended.
        elif lost; then
            end_soon
        fi
    done
    if [ "$failed" ] || [ "$answers" -lt "$2" ]; then
        # A node that is gone may have taken its place with it.
        most=0
        end_agents
    fi
    tail -c "+$((known + 1))" "$folder/log" >>"$1/$log_file"
    rm -f "$1/$certificate_file"
    touch "$1/$ended_file"
}
"""
LAST_LINES = ("end_agents", 'rm -r "$folder"')


def feed_functions(step: str, most: int, files: Mapping[str, str]) -> list[str]:
    """The functions of the script, with their settings.

    Args:
        step: The command of the agents' step, on ``$room`` nodes.
        most: The number of nodes of the largest trial, for which the first step has room.
        files: The names of a trial's files: that it has begun, that it has ended, its hosts, and for what srun and the
            agents print meanwhile.
    """
    settings = {
        "most": str(most),
        "ended_line": ENDED_LINE,
        "failure_grace_s": str(FAILURE_GRACE_S),
        "stop_grace_s": str(STOP_GRACE_S),
        "certificate_file": CERTIFICATE_FILE,
        **files,
    }
    lines = [f"{name}={shlex.quote(value)}" for name, value in settings.items()]
    return [
        *(
            "agents=",
            'folder=$(mktemp -d 2>&1) || { echo "error: $HOSTNAME: $folder"; exit 1; }',
            'touch "$folder/log"',
            *lines,
            "",
        ),
        *("agents_step() {", f"    exec {step}", "}"),
        *FUNCTIONS.rstrip().splitlines(),
    ]


def feed_line(trial: TrialRequest, limit_s: float) -> str:
    """The line of the script that runs a trial. Its case and its certificate are in its folder."""
    name, nodes = trial.folder.name, trial.case.nodes
    # The agents' step may have more nodes.
    variables = {"MASTER_PORT": str(rendezvous_port(name)), "SLURM_STEP_NUM_NODES": str(nodes)}
    document = FedTrial(name=name, out=name, nodes=nodes, variables=variables)
    text = document.model_dump_json(exclude_defaults=True)
    return f"feed {shlex.quote(name)} {nodes} {limit_s:.0f} {shlex.quote(text)}"
