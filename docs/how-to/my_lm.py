"""A small language model that learns to predict the next token."""

import torch
from torch import nn

from bench.workloads import TrainingWorkload


def model():
    block = nn.TransformerEncoderLayer(64, 4, 256, dropout=0.0, batch_first=True, norm_first=True)
    return nn.Sequential(nn.Embedding(1000, 64), nn.TransformerEncoder(block, 2), nn.Linear(64, 1000))


def loss(scores, targets):
    return nn.functional.cross_entropy(scores.flatten(0, 1), targets.flatten())


def data(seed):
    tokens = torch.randint(1000, (4096, 33), generator=torch.Generator().manual_seed(seed))
    return tokens[:, :-1], tokens[:, 1:]


def optimizer(parameters):
    return torch.optim.AdamW(parameters, lr=3e-4)


WORKLOAD = TrainingWorkload("lm", model, loss, data, optimizer, unit="tokens", accumulate=4, clip=1.0, precision="bf16")
