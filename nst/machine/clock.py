"""The time since the program began, from which a time budget counts, since loading torch alone takes seconds."""

from __future__ import annotations

import time

_start = time.monotonic()


def restart() -> None:
    """Restarts the clock, where one program runs several commands."""
    global _start
    _start = time.monotonic()


def elapsed() -> float:
    """Returns the seconds since the program began or the clock was restarted."""
    return time.monotonic() - _start
