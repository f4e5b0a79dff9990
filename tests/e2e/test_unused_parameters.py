"""A model with a parameter that a step does not use, under a real DistributedDataParallel of one process."""

from __future__ import annotations

import pytest

from bench.backends.ddp import DdpOptions, DdpSession, named_unused_parameters


@pytest.fixture(scope="module", autouse=True)
def process_group(tmp_path_factory):
    import torch.distributed as dist

    meeting = tmp_path_factory.mktemp("group") / "store"
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def train(options: DdpOptions) -> None:
    import torch

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)

        def forward(self, rows):
            return self.used(rows).sum()

    model = DdpSession(0, 1, "cpu", options, "gloo").parallelize(Model())
    for _ in range(2):
        model(torch.ones(3, 2)).backward()


def test_the_option_is_the_remedy_and_helps():
    with (
        pytest.raises(RuntimeError, match=r"--set ddp.find_unused_parameters=true$") as caught,
        named_unused_parameters(),
    ):
        train(DdpOptions())
    assert "\n" not in str(caught.value)
    with named_unused_parameters():
        train(DdpOptions(find_unused_parameters=True))


def test_another_error_stays_as_it_is():
    with pytest.raises(RuntimeError, match=r"^no memory$"), named_unused_parameters():
        raise RuntimeError("no memory")
