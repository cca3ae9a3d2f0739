"""The types that sums are taken in, whatever a device has and autocast would do."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

SINGLE = ("mps",)
"""Kinds of devices without float64."""


def exact(x: Tensor) -> Tensor:
    """Returns a tensor in float64: where it is, or on the CPU if its device has no float64."""
    return (x.cpu() if x.device.type in SINGLE else x).double()


def plain(device: torch.device) -> AbstractContextManager[Any]:
    """Returns the context in which a device calculates in the types that it is given."""
    kind = device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()
