#!/usr/bin/env bash
# hvd.broadcast_optimizer_state() takes a real step of a new optimizer: with weight decay, the model has changed before
# the first batch.
#
# Every Horovod tutorial calls broadcast_parameters(model.state_dict()) and broadcast_optimizer_state(optimizer) before
# training, and a broadcast from a rank that starts like the others should change nothing. But a new optimizer has no
# state to send, so Horovod makes it: it sets all gradients to zero and calls step(). Zero gradients are no zero update:
# weight decay shrinks every parameter once, SGD's momentum starts from the decayed weights, and Adam's step count, with
# its bias correction, is one ahead. The step hooks of the optimizer are called, too. Each rank does the same, so that all
# agree, and none agrees with the same program under DDP or on one device. It happens at one rank as well.
#
# Versions: horovod 0.28.1 (built here against torch 2.13.0, CPU, Gloo), one rank
# Seen:
#     AdamW(lr=0.1, weight_decay=0.5): weight 1.0, after the broadcast 0.95, steps taken: 1, hooks called: 1
#     SGD(lr=0.1, momentum=0.9, weight_decay=0.5): weight 1.0, after the broadcast 0.95, momentum: 0.5, hooks called: 1
#     Adam(lr=0.1): weight 1.0, after the broadcast 1.0, steps taken: 1, hooks called: 1
#
# It needs a C++ compiler, and compiles Horovod: 5 minutes on 2 idle cores.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
pip() { "$folder/env/bin/pip" "$@" --quiet --disable-pip-version-check; }
pip install torch==2.13.0 numpy==2.4.6 "cmake<4" "setuptools<81" wheel packaging cloudpickle==3.1.1 psutil==7.0.0 pyyaml==6.0.2
# Horovod asks CMake for C++14; torch's headers need C++20.
echo "set(CMAKE_PROJECT_horovod_INCLUDE $folder/project.cmake)" >"$folder/toolchain.cmake"
cat >"$folder/project.cmake" <<'CMAKE'
set(CMAKE_CXX14_STANDARD_COMPILE_OPTION "-std=c++20")
set(CMAKE_CXX17_STANDARD_COMPILE_OPTION "-std=c++20")
CMAKE
export PATH="$folder/env/bin:$PATH" CMAKE_TOOLCHAIN_FILE="$folder/toolchain.cmake" MAKEFLAGS="-j${JOBS:-2}"
export HOROVOD_WITH_PYTORCH=1 HOROVOD_WITH_GLOO=1 HOROVOD_WITHOUT_MPI=1 HOROVOD_WITHOUT_TENSORFLOW=1 HOROVOD_WITHOUT_MXNET=1
pip install --no-build-isolation --no-deps --no-binary horovod horovod==0.28.1
cat >"$folder/finding.py" <<'PYTHON'
import horovod.torch as hvd
import torch

hvd.init()


def show(title, make, name, what):
    """The weight of a model before and after the broadcast of its new optimizer's state, on the only rank."""
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(model.weight)
    optimizer = make(model.parameters())
    hooks = []
    optimizer.register_step_post_hook(lambda *_: hooks.append(1))
    hvd.broadcast_parameters(model.state_dict(), root_rank=0)
    before = model.weight.item()
    hvd.broadcast_optimizer_state(optimizer, root_rank=0)
    after, (state,) = round(model.weight.item(), 6), optimizer.state.values()
    print(
        f"{title}: weight {before}, after the broadcast {after}, {name}: {state[what].item():g}, "
        f"hooks called: {len(hooks)}"
    )


show(
    "AdamW(lr=0.1, weight_decay=0.5)",
    lambda parameters: torch.optim.AdamW(parameters, lr=0.1, weight_decay=0.5),
    "steps taken",
    "step",
)
show(
    "SGD(lr=0.1, momentum=0.9, weight_decay=0.5)",
    lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.5),
    "momentum",
    "momentum_buffer",
)
show("Adam(lr=0.1)", lambda parameters: torch.optim.Adam(parameters, lr=0.1), "steps taken", "step")
PYTHON
"$folder/env/bin/python" -W ignore "$folder/finding.py" 2>"$folder/err" | tee "$folder/out" || { cat "$folder/err" >&2; exit 1; }
diff - "$folder/out" <<'EXPECTED'
AdamW(lr=0.1, weight_decay=0.5): weight 1.0, after the broadcast 0.95, steps taken: 1, hooks called: 1
SGD(lr=0.1, momentum=0.9, weight_decay=0.5): weight 1.0, after the broadcast 0.95, momentum: 0.5, hooks called: 1
Adam(lr=0.1): weight 1.0, after the broadcast 1.0, steps taken: 1, hooks called: 1
EXPECTED
echo "still so"
