"""How long ago the program began; a time budget counts from there, and loading torch alone takes seconds."""

from __future__ import annotations

import time

_start = time.monotonic()


def restart() -> None:
    """Begins to count now, where a command is one of many in a program."""
    global _start
    _start = time.monotonic()


def elapsed() -> float:
    """Returns the seconds since the program, or the command, began."""
    return time.monotonic() - _start
