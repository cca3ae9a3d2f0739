"""Threads: as many as there are cores for this program, and none that keeps a core busy while it waits for work.

OpenMP reads its settings when torch is loaded, so they are made before. A program that imports nst has its own.
"""

from __future__ import annotations

import math
import os
from collections.abc import MutableMapping
from pathlib import Path

from nst.machine import system

SPIN = 1000
"""Turns that a thread waits for the next work before it sleeps, which is what GNU's OpenMP takes on a busy machine.

By default it waits 300,000 turns, a millisecond: two programs on two cores then starve each other. A thread that sleeps
at once is slow to wake. On two cores of an AMD EPYC a small picture took, alone and with another one beside it, 16 s
and 77 s by default, 25 s and 25 s without waiting, and 17 s and 31 s with these turns.
"""


def prepare(environment: MutableMapping[str, str] = os.environ) -> None:
    """Sets what OpenMP will read, except what the user has set."""
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & environment.keys():
        environment["GOMP_SPINCOUNT"] = str(SPIN)
    environment.setdefault("OMP_NUM_THREADS", str(cores()))


def cores() -> int:
    """Returns the number of physical cores that this process may use, by its affinity and by its groups' quotas."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    siblings = {"".join(system.lines(system.CPUS / f"cpu{n}/topology/thread_siblings_list")) or str(n) for n in usable}
    quotas = (_quota(*group) for group in system.groups("cpu"))
    return max(1, math.ceil(min((len(siblings), *(quota for quota in quotas if quota is not None)))))


def _quota(group: Path, unified: bool) -> float | None:
    """Returns the cores that a control group may use; None for all."""
    if unified:
        figures = "".join(system.lines(group / "cpu.max")).split()
    else:
        figures = ["".join(system.lines(group / f"cpu.cfs_{name}_us")) for name in ("quota", "period")]
    if len(figures) != 2 or not all(figure.isdecimal() for figure in figures):  # no such file, or `max`, or -1
        return None
    quota, period = map(int, figures)
    return quota / period
