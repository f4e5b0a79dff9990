"""Stands for torch where only its hooks matter: how a rank sees and ends a program is tested without a framework."""

from torch.serialization import save

__version__ = "0.0"
__all__ = ["get_num_threads", "save"]


def get_num_threads():
    return 1
