# Each reads the case as a line of standard input, which stays open: its end ends everything there.
ssh -F ssh_config n1 'cd '"'"'/srv/our checkout'"'"' && exec env '"'"'PYTHONPATH=/srv/our checkout'"'"' SCALING_NODE=0 SCALING_NODES=2 MASTER_ADDR=n1 MASTER_PORT=29500 /opt/venv/bin/python -m bench.node --stdio --ranks own --out /tmp/scaling-trial'
ssh -F ssh_config n2 'cd '"'"'/srv/our checkout'"'"' && exec env '"'"'PYTHONPATH=/srv/our checkout'"'"' SCALING_NODE=1 SCALING_NODES=2 MASTER_ADDR=n1 MASTER_PORT=29500 /opt/venv/bin/python -m bench.node --stdio --ranks own --out /tmp/scaling-trial'
