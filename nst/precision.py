"""The precision that the network runs in unless the user says otherwise."""

from __future__ import annotations

from typing import Literal

import torch


def fastest(accelerator: str = "auto") -> Literal["bf16-mixed", "32-true"]:
    """Returns bfloat16 where the hardware multiplies in it, else float32, as a precision of the Lightning Trainer.

    Only the network's activations are meant: the picture and all sums are float32 in either.

    Args:
        accelerator: That of the Trainer: `cpu`, `gpu`, `cuda` or `auto`; any other gets float32.
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.get_device_capability() >= (8, 0) else "32-true"
    if accelerator == "cpu" or (accelerator == "auto" and not torch.backends.mps.is_available()):
        names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # private, and not in every version
        return "bf16-mixed" if any(getattr(torch.cpu, name, bool)() for name in names) else "32-true"
    return "32-true"
