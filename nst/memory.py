"""How much memory there is, and how to write it for people."""

from __future__ import annotations

import os

import torch


def total(device: torch.device) -> int:
    """Returns the memory of a device in bytes; for the CPU, the machine's."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def readable(size: float) -> str:
    """Writes a number of bytes with a unit, as in `3.1 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"):
        if size < 1024 or unit == "EiB":
            break
        size /= 1024
    return f"{size:.1f} {unit}"
