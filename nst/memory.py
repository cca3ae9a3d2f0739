"""How much memory there is, how to write it for people, and how to keep what was once taken."""

from __future__ import annotations

import ctypes
import gc
import math
import os
import platform
from pathlib import Path

import torch


def total(device: torch.device) -> int:
    """Returns the memory of a device in bytes; for the CPU, the machine's."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def free(device: torch.device) -> int:
    """Returns the memory of a device that is free, in bytes, as far as it can be known."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    rooms = [total(device)]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        rooms += [int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")]
        group = Path("/sys/fs/cgroup")  # a container's own limit
        rooms.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        pass  # not Linux, or no limit
    return max(0, min(rooms))


def held(device: torch.device) -> int:
    """Returns the bytes of all tensors that there are on a device."""
    gc.collect()
    storages = {}
    for found in gc.get_objects():
        if issubclass(type(found), torch.Tensor) and found.device == device and found.layout == torch.strided:
            storage = found.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def keep_heap() -> None:
    """Makes the C library keep freed memory for the next step instead of returning it to the system.

    Else each large activation is mapped anew at every step, and the system clears its pages again and again.
    """
    if platform.libc_ver()[0] == "glibc":
        trim, top_pad, mmap = -1, -2, -3  # of malloc.h
        libc = ctypes.CDLL(None)
        for option, value in ((trim, -1), (top_pad, 64 << 20), (mmap, 2**31 - 1)):
            libc.mallopt(option, value)


def return_heap() -> None:
    """Returns the freed memory that was kept after all, where the next step needs other sizes or there is none."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def readable(size: float) -> str:
    """Writes a number of bytes with a unit, as in `3.1 GiB`, never less than it is."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"):
        if size < 1024 or unit == "EiB":
            break
        size /= 1024
    return f"{math.ceil(10 * size) / 10:.1f} {unit}"
