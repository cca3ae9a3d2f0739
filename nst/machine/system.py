"""What Linux reports of this process: its files of figures, and the control groups that limit it."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PROC, GROUPS, CPUS = Path("/proc"), Path("/sys/fs/cgroup"), Path("/sys/devices/system/cpu")
"""Folders in which Linux reports its processes, the limits of control groups, such as a container's, and processors."""


@cache
def processor() -> str:
    """Returns the processor's name, as Linux or else Python reports it."""
    parts = (line.partition(":") for line in lines(PROC / "cpuinfo"))
    names = (value.strip() for name, _, value in parts if name.strip() == "model name")
    return next(names, platform.processor() or platform.machine() or "unknown")


def groups(controller: str) -> Iterator[tuple[Path, bool]]:
    """Yields the folders of this process's control groups, and of those around them, in both versions of cgroups.

    Args:
        controller: Such as `memory` or `cpu`.

    Yields:
        The folder, and whether it is of version 2, where one folder has the limits of all controllers.
    """
    for line in lines(PROC / "self" / "cgroup"):
        _, controllers, own = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = GROUPS / controller if controllers else GROUPS
        inner = Path(own.strip("/"))  # relative to the host's root, of which a container may see only a part
        yield from ((group, not controllers) for group in sorted({top / x for x in (inner, *inner.parents)}))


def number(path: Path) -> int | None:
    """Returns the number in a file; None for a missing file, or for a word such as `max`."""
    text = "".join(lines(path)).strip()
    return int(text) if text.isdecimal() else None


def lines(path: Path) -> list[str]:
    """Returns the lines of a file; none of a missing file."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # another system, or another version of Linux
        return []
