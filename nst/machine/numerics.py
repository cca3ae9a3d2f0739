"""The dtypes of sums, independent of autocast and of whether a device has float64."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

SINGLE = ("mps",)
"""Types of devices without float64."""


def exact(x: Tensor) -> Tensor:
    """Returns a tensor in float64: on its own device, or on the CPU if its device has no float64."""
    return (x.cpu() if x.device.type in SINGLE else x).double()


def widest(x: Tensor) -> Tensor:
    """Returns a tensor in the widest type of its own device, float64 or float32, without waiting for the device."""
    return x if x.device.type in SINGLE else x.double()


def plain(device: torch.device) -> AbstractContextManager[Any]:
    """Returns a context without autocast, in which a device calculates in the dtypes of its inputs."""
    kind = device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()
