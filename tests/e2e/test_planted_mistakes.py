"""Backends with a mistake in them: the same-work check must take their numbers away."""

from __future__ import annotations

from tests.e2e.conftest import ROOT

BASE = '''
"""A backend with a planted mistake."""
from contextlib import contextmanager
from bench.plugins.backend import Backend
from bench.backends.ddp import DdpOptions, DdpSession
from bench.backends.torch_distributed import join_torch_distributed
from bench.core.case import Role

class Wrong(Backend):
    name = "{name}"
    summary = "makes a mistake"
    transports = {{"cpu": ("gloo",)}}

    def launch(self, case):
        return (Role(name="rank", count=case.ranks),)

    @contextmanager
    def session(self, case, me):
        make = lambda rank, world, device: DdpSession(rank, world, device, DdpOptions(), "gloo")
        with join_torch_distributed(case, me, "gloo", make) as session:
{mistake}
            yield session

BACKEND = Wrong()
'''
SUMMED = """
            def build_optimizer(model, make):
                optimizer = make(model.parameters())
                step = optimizer.step
                def summed():
                    for parameter in model.parameters():
                        parameter.grad.mul_(session.world)
                    step()
                optimizer.step = summed
                return optimizer
            session.build_optimizer = build_optimizer
"""
NOT_EXCHANGED = """
            session.parallelize = lambda model: model
"""
SEEDED_APART = """
            inner = session.parallelize
            def parallelize(model):
                import torch
                parallel = inner(model)
                if session.rank:
                    with torch.no_grad():
                        next(parallel.parameters()).add_(1e-4)
                return parallel
            session.parallelize = parallelize
"""
CLIPPED_FIRST = """
            inner = session.parallelize
            def parallelize(model):
                from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
                parallel = inner(model)
                def clip_and_send(group, bucket):
                    bucket.buffer().mul_(min(1.0, 0.1 / float(bucket.buffer().norm())))
                    return allreduce_hook(group, bucket)
                parallel.register_comm_hook(None, clip_and_send)
                return parallel
            session.parallelize = parallelize
"""
HONEST = {
    "optimizer": "adamw",
    "autocast": "bf16",
    "accumulate": "2",
    "clip": "0.1",
    "dropout": "0.1",
    "model": "transformer",
    "width": "32",
    "heads": "2",
    "layers": "1",
    "sequence": "8",
    "vocabulary": "50",
}
"""The options of a small language model, as people train one."""


MISTAKES = {
    "summed": (SUMMED, "gradient of"),
    "not_exchanged": (NOT_EXCHANGED, "rank 1 has different parameters from rank 0"),
    "seeded_apart": (SEEDED_APART, "before the first step rank 1 has different parameters"),
    "clipped_first": (CLIPPED_FIRST, "gradient of"),
}


def test_a_mistake_in_the_exchange_is_caught(planted):
    harness = planted(
        {
            f"bench/backends/{name}.py": BASE.format(name=name, mistake=mistake)
            for name, (mistake, _) in MISTAKES.items()
        }
    )
    backends = ",".join([*MISTAKES, "ddp", "fsdp", "horovod", "dask"])
    options = [word for name, value in HONEST.items() for word in ("--set", f"synthetic.{name}={value}")]
    options += ["--set", "backend.ddp.compression=none,fp16,powersgd"]
    document = harness.lean_sweep(
        "--backends", backends, "--workloads", "synthetic", "--ranks", "2", *options, status=4
    )
    cells = {cell["backend_options"].get("compression", cell["backend"]): cell for cell in document["cells"]}
    for name, (_, said) in MISTAKES.items():
        assert cells[name]["outcome"] == "invalid"
        assert cells[name]["throughput"] is None
        assert cells[name]["same_work"]["verdict"] == "different"
        assert said in cells[name]["reason"]
    for name in ("ddp", "fsdp", "horovod", "dask"):
        assert (cells[name]["outcome"], cells[name]["same_work"]["verdict"]) == ("ok", "same")
        assert cells[name]["same_work"]["label"] == "float32, rounding of bfloat16, without dropout"
    for name, bound in (("fp16", "float16 gradients"), ("powersgd", "float32, with what PowerSGD sends later")):
        assert (cells[name]["outcome"], cells[name]["same_work"]["verdict"]) == ("ok", "same")
        assert cells[name]["same_work"]["deviation"] > 0, "its exchange is lossy"
        assert cells[name]["same_work"]["label"].startswith(bound)


WRONG_SHARDS = (
    ("bench/workloads/training.py", "order[rank:usable:world]", "order[0:usable:world]"),
    ("bench/workloads/synthetic.py", "* global_batch + session.rank", "* global_batch"),
)
"""Of MNIST's samples, and of the synthetic ones."""


def test_a_rank_that_reads_another_s_shard_is_caught(planted):
    changed = {}
    for file, right, wrong in WRONG_SHARDS:
        text = (ROOT / file).read_text()
        assert text.count(right) == 1
        changed[file] = text.replace(right, wrong)
    harness = planted(changed)
    document = harness.lean_sweep("--backends", "ddp", "--workloads", "mnist,synthetic", "--ranks", "2", status=4)
    assert {cell["workload"] for cell in document["cells"]} == {"mnist", "synthetic"}
    for cell in document["cells"]:
        assert (cell["outcome"], cell["throughput"]) == ("invalid", None)
        assert "did not take the reference's samples" in cell["reason"]
