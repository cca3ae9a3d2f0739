"""The machine that a figure is from, in words."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

import torch

from nst.machine import precision


def described(device: str = "cpu") -> dict[str, str | int]:
    """Returns the processor, or the GPU, the instruction sets that count, the threads and torch's version."""
    found: dict[str, str | int] = {"processor": processor(), "instructions": instructions()}
    if device != "cpu" and torch.cuda.is_available():
        found["device"] = torch.cuda.get_device_name(device)
    return found | {"threads": torch.get_num_threads(), "torch": torch.__version__}


def processor() -> str:
    """Returns the processor's name; on other systems than Linux what Python knows of it."""
    lines = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*:\s*(.+)$", lines.read_text(), re.MULTILINE) if lines.exists() else []
    return names[0] if names else platform.processor() or platform.machine()


def instructions() -> str:
    """Returns the instruction sets that torch uses, with those of matrix units and bfloat16 where they are there."""
    found = [torch.backends.cpu.get_cpu_capability()]
    probes = {"AVX512-BF16": "_is_avx512_bf16_supported", "AMX": "_is_amx_tile_supported"}  # private to torch
    found += [name for name, probe in probes.items() if getattr(torch.cpu, probe, bool)()]
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA")
    return " ".join(found) + (f", oneDNN held to {limit}" if limit else "")


def types(device: str) -> list[torch.dtype]:
    """Returns the types that a device multiplies in by hardware: others are emulated, and take minutes."""
    return [torch.float32] + ([torch.bfloat16] if device != "cpu" or precision.fastest("cpu") != "32-true" else [])
