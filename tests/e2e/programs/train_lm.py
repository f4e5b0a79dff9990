"""A character-level transformer language model.

python train_lm.py
torchrun --standalone --nproc-per-node=2 train_lm.py --steps 1000 --out-dir out
"""

import argparse
import contextlib
import math
import os
import time
from dataclasses import asdict
from pathlib import Path

import torch
from gpt import GPT, GPTConfig
from torch.distributed import destroy_process_group, init_process_group
from torch.nn.parallel import DistributedDataParallel

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=200)
parser.add_argument("--batch", type=int, default=4, help="sequences of a micro-batch on each rank")
parser.add_argument("--accumulate", type=int, default=2, help="micro-batches of a step")
parser.add_argument("--lr", type=float, default=1e-3)
parser.add_argument("--warmup", type=int, default=20, help="steps until the learning rate is reached")
parser.add_argument("--clip", type=float, default=1.0)
parser.add_argument("--log-every", type=int, default=10)
parser.add_argument("--checkpoint-every", type=int, default=50)
parser.add_argument("--out-dir", type=Path, default=Path("out"))
args = parser.parse_args()

ddp = int(os.environ.get("RANK", -1)) != -1
cuda = torch.cuda.is_available()
if ddp:
    init_process_group("nccl" if cuda else "gloo")
    rank, local_rank, world_size = (int(os.environ[name]) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"))
else:
    rank, local_rank, world_size = 0, 0, 1
master = rank == 0
device = f"cuda:{local_rank}" if cuda else "cpu"
torch.manual_seed(1337 + rank)

config = GPTConfig()
# The text: made from a seed, as there is nothing to download here.
text = torch.randint(0, config.vocab_size, (100_000,), generator=torch.Generator().manual_seed(0))


def get_batch():
    starts = torch.randint(len(text) - config.block_size - 1, (args.batch,))
    x = torch.stack([text[i : i + config.block_size] for i in starts])
    y = torch.stack([text[i + 1 : i + 1 + config.block_size] for i in starts])
    return x.to(device), y.to(device)


def learning_rate(step):
    if step < args.warmup:
        return args.lr * (step + 1) / args.warmup
    progress = min(1.0, (step - args.warmup) / max(1, args.steps - args.warmup))
    return args.lr * (0.1 + 0.45 * (1 + math.cos(math.pi * progress)))


model = GPT(config).to(device)
optimizer = model.configure_optimizers(weight_decay=0.1, learning_rate=args.lr)
raw_model = model
if ddp:
    model = DistributedDataParallel(model, device_ids=[local_rank] if cuda else None)
if master:
    args.out_dir.mkdir(parents=True, exist_ok=True)
    print(f"{sum(p.numel() for p in raw_model.parameters()) / 1e3:.1f}k parameters")

tokens_per_step = args.accumulate * args.batch * config.block_size * world_size
x, y = get_batch()
logged = time.perf_counter()
for step in range(1, args.steps + 1):
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step)
    for micro_step in range(args.accumulate):
        last = micro_step == args.accumulate - 1
        with model.no_sync() if ddp and not last else contextlib.nullcontext():
            with torch.autocast(device_type=device.split(":")[0], dtype=torch.bfloat16):
                loss = model(x, y) / args.accumulate
            x, y = get_batch()
            loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)

    if step % args.log_every == 0 and master:
        now = time.perf_counter()
        rate = args.log_every * tokens_per_step / (now - logged)
        print(f"step {step} | loss {loss.item() * args.accumulate:.4f} | {rate:.0f} tokens/s", flush=True)
        logged = now
    if step % args.checkpoint_every == 0 and master:
        checkpoint = {
            "model": raw_model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "config": asdict(config),
            "step": step,
        }
        torch.save(checkpoint, args.out_dir / "ckpt.pt")

if ddp:
    destroy_process_group()
