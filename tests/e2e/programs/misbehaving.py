"""A training loop that misbehaves: python misbehaving.py HOW [STEPS]; torchrun too.

HOW is the name of a function below, which is called in step 20, or of a case that is handled where it belongs.
"""

import atexit
import io
import os
import signal
import subprocess
import sys
import threading
import time

LONG_S = 600
how = sys.argv[1]
steps = int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))

if how == "no_torch":
    print("nothing to train here")
    sys.exit(0)
if how == "exit_early":
    sys.exit("config.yaml: no such dataset: imagenet")

import torch  # noqa: E402 - as late as in a program whose arguments are checked first

torch.manual_seed(0)
model = torch.nn.Linear(256, 256)
data = torch.utils.data.TensorDataset(torch.randn(512, 256))
loader = torch.utils.data.DataLoader(data, batch_size=16)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)


def exit_3():
    print("ValueError: loss is nan", file=sys.stderr)
    sys.exit(3)


def raise_error():
    raise ValueError("expected 10 classes\nbut found \x1b[31m11\x1b[0m " + "x" * 100_000)


def os_exit():
    os._exit(0)


def os_exit_4():
    os._exit(4)


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def abort():
    os.abort()


def exec_other():
    os.execv("/bin/sleep", ["sleep", str(LONG_S)])


def hang():
    if rank == world - 1:
        threading.Event().wait()


def leave():
    if rank == world - 1:
        sys.exit(0)


def daemon():
    subprocess.Popen(["sleep", str(LONG_S)], start_new_session=True)


def double_fork():
    if os.fork():
        os.wait()
        return
    os.setsid()
    if os.fork() == 0:
        time.sleep(LONG_S)
    os._exit(0)


def print_much():
    for _ in range(100):
        sys.stdout.write(("x" * 1023 + "\n") * 1024)


def print_bytes():
    sys.stdout.buffer.write(bytes(range(256)) * 100)
    sys.stdout.flush()


def change_folder():
    os.chdir("/")


def replace_stdout():
    sys.stdout = sys.stderr = io.StringIO()


def close_stderr():
    sys.stderr.close()
    os.close(2)


def handle_signals():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda number, frame: None)


def block_signals():
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP})


def start_thread():
    threading.Thread(target=time.sleep, args=(LONG_S,)).start()


def hang_at_exit():
    atexit.register(time.sleep, LONG_S)


def clear_all():
    os.environ.clear()
    sys.argv[:] = ["other"]
    sys.path.clear()


def new_group():
    os.setpgid(0, 0)


def batches():
    while True:
        for (batch,) in loader:
            yield batch


def train(first, last):
    for step, batch in zip(range(first, last), batches(), strict=False):
        if step == 20 and how in globals():
            globals()[how]()
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()


if how == "never_steps":
    with torch.no_grad():
        print(model(next(iter(loader))[0]).mean().item())
    sys.exit(0)
if how == "more_ranks":
    need = 2 * world
    if world < need:
        raise RuntimeError(f"this model is split over {need} ranks, but WORLD_SIZE is {world}")
if world > 1:
    # Of more ranks than there are: waits for the others.
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2 * world if how == "wait_for_more" else world)
    model = torch.nn.parallel.DistributedDataParallel(model)

if how == "swallow":
    for done in range(0, steps, 30):
        try:
            train(done, done + 30)
        except BaseException as problem:
            print("restarting after", repr(problem))
elif how == "hang_in_finally":
    try:
        train(0, steps)
    finally:
        time.sleep(LONG_S)
elif how == "in_a_thread":
    trainer = threading.Thread(target=train, args=(0, steps))
    trainer.start()
    trainer.join()
else:
    train(0, steps)
print("done")
