"""The machine that a figure is from, in words."""

from __future__ import annotations

import os

import torch

from nst.machine import precision, system


def described(device: str = "cpu") -> dict[str, str | int]:
    """Returns the processor, or the GPU, the instruction sets that count, the threads and torch's version."""
    found: dict[str, str | int] = {"processor": system.processor(), "instructions": instructions()}
    if device != "cpu" and torch.cuda.is_available():
        found["device"] = torch.cuda.get_device_name(device)
    return found | {"threads": torch.get_num_threads(), "torch": torch.__version__}


def instructions() -> str:
    """Returns the instruction sets that torch uses, with those of matrix units and bfloat16 where they are there."""
    found = [torch.backends.cpu.get_cpu_capability(), *precision.extensions()]
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA")
    return " ".join(found) + (f", oneDNN held to {limit}" if limit else "")


def types(device: str) -> list[torch.dtype]:
    """Returns the types that a device multiplies in by hardware: others are emulated, and take minutes."""
    has_bfloat16 = device != "cpu" or (precision.convolves_in_bfloat16() and bool(precision.extensions()))
    return [torch.float32] + ([torch.bfloat16] if has_bfloat16 else [])
