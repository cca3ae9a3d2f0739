"""Memory: the total and free memory of a device, amounts for people, and a heap that is kept between steps."""

from __future__ import annotations

import ctypes
import gc
import math
import os
import platform
from collections.abc import Iterator

import torch

from nst.machine import system

UNKNOWN = 8 << 30
"""Bytes of memory assumed for a machine that does not report its memory."""


def total(device: torch.device) -> int:
    """Returns the memory of a device in bytes; for the CPU, the machine's."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    if device.type == "mps" and hasattr(torch.mps, "recommended_max_memory"):
        return int(torch.mps.recommended_max_memory())
    return _machine()[0]


def free(device: torch.device) -> int:
    """Returns the free memory of a device in bytes, as far as the system reports it."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # torch's cache, to be reused
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    rooms = [*_machine(), *_room_in_groups()]
    if device.type == "mps" and hasattr(torch.mps, "driver_allocated_memory"):  # MPS shares the machine's memory
        rooms.append(total(device) - int(torch.mps.driver_allocated_memory()))
    return max(0, min(rooms))


def _machine() -> tuple[int, int]:
    """Returns the machine's total and free memory in bytes; without a report of free memory, the total twice."""
    try:
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return _windows() or (UNKNOWN, UNKNOWN)
    lines = system.lines(system.PROC / "meminfo")
    return whole, next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), whole)


class _Status(ctypes.Structure):
    """MEMORYSTATUSEX of Windows."""

    _fields_ = (
        *((name, ctypes.c_uint32) for name in ("length", "load")),
        *((name, ctypes.c_uint64) for name in ("whole", "free", "paged", "unpaged", "virtual", "unused", "extended")),
    )


def _windows() -> tuple[int, int] | None:
    """Returns the total and free memory of a Windows machine in bytes; None on other systems."""
    library = getattr(ctypes, "windll", None)
    status = _Status(length=ctypes.sizeof(_Status))
    if library is None or not library.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        return None
    return int(status.whole), int(status.free)


def _room_in_groups() -> Iterator[int]:
    """Yields the bytes left under each memory limit of this process's control groups, in both versions of cgroups.

    Inactive file pages, which a group counts as used, count as free: the kernel frees them when memory is needed.
    """
    for group, unified in system.groups("memory"):
        if unified:
            limits, used, cache = ["memory.max", "memory.high"], "memory.current", "inactive_file"
        else:
            limits, used, cache = ["memory.limit_in_bytes"], "memory.usage_in_bytes", "total_inactive_file"
        taken = system.number(group / used)
        if taken is not None:
            stat = dict(line.split(" ", 1) for line in system.lines(group / "memory.stat") if " " in line)
            taken -= min(taken, int(stat.get(cache, 0)))
            yield from (limit - taken for x in limits if (limit := system.number(group / x)) is not None)


def held(device: torch.device) -> int:
    """Returns the bytes of all tensors on a device."""
    gc.collect()
    storages = {}
    for found in gc.get_objects():
        if issubclass(type(found), torch.Tensor) and found.device == device and found.layout == torch.strided:
            storage = found.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def keep_heap() -> None:
    """Makes the C library keep freed memory for the next step instead of returning it to the system.

    Otherwise each large activation is mapped anew at every step, and the system zeroes its pages each time.
    """
    if platform.libc_ver()[0] == "glibc":
        trim, top_pad, mmap = -1, -2, -3  # constants of malloc.h
        libc = ctypes.CDLL(None)
        for option, value in ((trim, -1), (top_pad, 64 << 20), (mmap, 2**31 - 1)):
            libc.mallopt(option, value)


def return_heap() -> None:
    """Returns the kept heap to the system, where the next step needs buffers of other sizes or no step follows."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def readable(size: float) -> str:
    """Writes a number of bytes with a unit, as in `3.1 GiB`, rounded up."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"):
        if size < 1024 or unit == "EiB":
            break
        size /= 1024
    return f"{math.ceil(10 * size) / 10:.1f} {unit}"
