"""Which of several processes this one is, by its environment: before torch is loaded."""

from __future__ import annotations

import os

LAUNCHER = "NST_LAUNCHER"
"""The environment variable in which a process tells those that it starts its own number."""


def is_first() -> bool:
    """Whether this is the first process, the one that prints, as far as Lightning or torchrun have said so."""
    rank = next((os.environ[name] for name in ("RANK", "LOCAL_RANK") if name in os.environ), "0")
    return rank == "0"


def launched() -> bool:
    """Whether this process was started by another one, for the same run, which is still there."""
    return os.environ.get(LAUNCHER) == str(os.getppid())
