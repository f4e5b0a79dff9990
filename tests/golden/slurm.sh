#!/bin/bash
#SBATCH --job-name=scaling
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=6
#SBATCH --time=12
#SBATCH --output=trial/slurm.log
#SBATCH --no-requeue
#SBATCH --no-kill

agents=
folder=$(mktemp -d 2>&1) || { echo "error: $HOSTNAME: $folder"; exit 1; }
touch "$folder/log"
most=4
ended_line=scaling-ended
failure_grace_s=10
stop_grace_s=15
certificate_file=certificate.pem
began_file=began
ended_file=ended
hosts_file=hosts.txt
log_file=srun.log

agents_step() {
    exec timeout --kill-after=10 420 srun --job-name=agents --nodes="$room" --ntasks="$room" --ntasks-per-node=1 --cpus-per-task=1 --distribution=block --cpu-bind=none --overlap --kill-on-bad-exit=0 --wait=30 \
        /opt/python/bin/python -m bench.node.agent --feed --preload=
}

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

feed 00-a 1 210 '{"name":"00-a","out":"00-a","nodes":1,"variables":{"MASTER_PORT":"28815","SLURM_STEP_NUM_NODES":"1"}}'

(
cd 00-b || exit
scontrol show hostnames >hosts.txt
export MASTER_PORT=29356
touch began
timeout --kill-after=10 210 srun --job-name=00-b --nodes=2 --ntasks=4 --ntasks-per-node=2 --cpus-per-task=3 --mpi=pmix --output=rank-%t.log --open-mode=append --distribution=block --cpu-bind=none --overlap --kill-on-bad-exit=0 --wait=10 \
    /opt/python/bin/python -m bench.rank.worker --case case.json --role rank --out . >>ranks.log 2>&1 &
ranks=$!
timeout --kill-after=10 210 srun --job-name=00-b --nodes=2 --ntasks=2 --ntasks-per-node=1 --cpus-per-task=6 --distribution=block --cpu-bind=none --overlap --kill-on-bad-exit=0 --wait=30 \
    /opt/python/bin/python -m bench.node.agent --case case.json --out . --ranks elsewhere >>srun.log 2>&1 &
nodes=$!
wait -n $ranks $nodes
for step in $ranks $nodes; do timeout 10 tail --pid=$step -s 0.2 -f /dev/null; done
kill $ranks $nodes 2>/dev/null
wait
touch ended
)

feed 00-c 4 210 '{"name":"00-c","out":"00-c","nodes":4,"variables":{"MASTER_PORT":"23708","SLURM_STEP_NUM_NODES":"4"}}'

end_agents
rm -r "$folder"

exit 0
