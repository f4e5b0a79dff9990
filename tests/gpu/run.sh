#!/usr/bin/env bash
# The run on a GPU where tox can't install what it needs, because the machine has no network.
#
# On a machine with a network:
#
#     tests/gpu/run.sh --download .whl --python-version 3.12
#
# then carry the checkout with .whl to the machine with the GPU:
#
#     tests/gpu/run.sh --wheels .whl --limit 600 [-- ARGUMENTS OF PYTEST]
#
# A torch with CUDA that the machine's Python has is used as it is; --with-torch downloads one too (3 GB).
set -euo pipefail
cd "$(dirname "$0")/../.."

usage() {
  cat <<'TEXT'
usage: tests/gpu/run.sh [options] [-- ARGUMENTS OF PYTEST]
  --wheels FOLDER          install from these wheels alone, without a network
  --python PYTHON          interpreter to start from (default: python3); its torch is used where it has CUDA
  --env FOLDER             environment to make, or to use again (default: .cache/gpu)
  --limit SECONDS          end after this time, set-up included; what was measured until then is kept
  --results FILE           page to write (default: docs/gpu-results.md); FILE.jsonl is written beside it
  --without-horovod        don't build Horovod; its cells are skipped
  --download FOLDER        only download the wheels for --wheels
  --python-version 3.12    with --download: Python of the other machine (default: that of this one)
  --with-torch             with --download: torch and its CUDA packages too
  --without NAME,NAME      with --download: leave these out, the other machine has them
TEXT
}
fail() {
  echo "tests/gpu/run.sh: $*" >&2
  exit 2
}
step() { echo "== $(date +%T) $*"; }

wheels='' python=python3 environment=.cache/gpu limit='' results='' horovod=yes download='' version='' torch=no without=''
while [ $# -gt 0 ]; do
  case $1 in
    --help | -h) usage; exit 0 ;;
    --without-horovod) horovod=no; shift; continue ;;
    --with-torch) torch=yes; shift; continue ;;
    --) shift; break ;;
    --wheels | --python | --env | --limit | --results | --download | --python-version | --without)
      [ $# -ge 2 ] || fail "$1 needs a value" ;;
    *) fail "unknown option $1; --help lists them" ;;
  esac
  case $1 in
    --wheels) wheels=$2 ;;
    --python) python=$2 ;;
    --env) environment=$2 ;;
    --limit) limit=$2 ;;
    --results) results=$2 ;;
    --download) download=$2 ;;
    --python-version) version=$2 ;;
    --without) without=$2 ;;
  esac
  shift 2
done
command -v "$python" >/dev/null || fail "--python $python: there is no such program"
[ -z "$wheels" ] || [ -d "$wheels" ] || fail "--wheels $wheels: there is no such folder; --download makes it"
[[ "$limit" =~ ^[0-9]*$ ]] || fail "--limit $limit: a number of seconds, such as 600"
environment=$(realpath --canonicalize-missing "$environment")
began=$SECONDS

# What a run needs, by pyproject.toml; `all` includes torch and the compiler that belongs to it.
requirements() {
  "$python" - "$1" <<'PYTHON'
import sys, tomllib
with open("pyproject.toml", "rb") as file:
    document = tomllib.load(file)
extras = document["project"]["optional-dependencies"]
wanted = document["project"]["dependencies"] + extras["frameworks"] + ["pytest>=8", "hypothesis>=6"]
if sys.argv[1] == "all":
    wanted += extras["cuda"]
else:
    wanted = [name for name in wanted if not name.startswith("torch")]
print("\n".join(wanted))
PYTHON
}

if [ -n "$download" ]; then
  version=${version:-$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')}
  mkdir -p "$download"
  list=$(mktemp) constraints=$(mktemp)
  trap 'rm -f "$list" "$constraints"' EXIT
  if [ "$torch" = yes ]; then requirements all >"$list"; else requirements >"$list" -; fi
  # PyPI's torch has CUDA. A local version, as of a build for CPUs, is never wanted here.
  sed 's/^torch==/torch===/' constraints.txt >"$constraints"
  platforms=()
  # pip takes each version of glibc by its exact name.
  for number in $(seq 5 39); do platforms+=(--platform "manylinux_2_${number}_x86_64"); done
  step "wheels for Python $version into $download"
  PIP_CONSTRAINT='' "$python" -m pip download --quiet --only-binary=:all: --python-version "$version" --implementation cp \
    --platform manylinux2014_x86_64 --platform manylinux2010_x86_64 --platform manylinux1_x86_64 "${platforms[@]}" \
    --dest "$download" --constraint "$constraints" --requirement "$list"
  if [ "$horovod" = yes ]; then
    step "Horovod's sources and the tools that build it"
    PYTHONPATH=$PWD "$python" -c 'from harness.setup.horovod_key import *; print(f"horovod=={HOROVOD_VERSION}", *BUILD_TOOLS, sep="\n")' >"$list"
    PIP_CONSTRAINT='' "$python" -m pip download --quiet --no-deps --no-binary horovod --dest "$download" \
      --requirement "$list"
  fi
  for name in ${without//,/ }; do rm -f "$download/${name//-/_}"-*; done
  du -sh "$download"
  exit 0
fi

if [ ! -x "$environment/bin/python" ]; then
  step "environment $environment"
  "$python" -m venv "$environment"
  # A venv of a venv does not see the packages of the first one.
  "$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
    >"$("$environment/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/parent.pth"
fi
run="$environment/bin/python"
export PYTHONPATH=$PWD PATH="$environment/bin:$PATH" PIP_DISABLE_PIP_VERSION_CHECK=1
has_cuda() { "$run" -c 'import torch; raise SystemExit(torch.version.cuda is None)' 2>/dev/null; }

step "packages"
if [ -n "$wheels" ]; then
  export PIP_NO_INDEX=1 PIP_FIND_LINKS="$(realpath "$wheels")"
  "$run" -m pip install --quiet --no-deps "$wheels"/*.whl
elif has_cuda; then
  "$run" -m pip install --quiet --requirement <(requirements -)
else
  "$run" -m pip install --quiet --constraint constraints.txt --requirement <(requirements all)
fi
has_cuda || fail "this Python has no torch with CUDA: name another by --python, or carry one (--download --with-torch)"
if [ "$horovod" = yes ]; then
  step "Horovod"
  "$run" -m harness.setup.horovod_wheel
fi

arguments=(-m pytest tests/gpu -rA -W default -p no:benchmark --durations=20)
[ -z "$results" ] || arguments+=(--gpu-results "$results")
if [ -n "$limit" ]; then
  left=$((limit - (SECONDS - began)))
  [ "$left" -gt 30 ] || fail "--limit $limit: nothing is left of it after the set-up"
  # The last test that starts may take a while; at the end it is interrupted, as by Ctrl-C.
  arguments+=(--gpu-time-limit "$((left - 30))")
  run="timeout --signal=INT --kill-after=20 $left $run"
fi
step "tests"
exec $run "${arguments[@]}" "$@"
