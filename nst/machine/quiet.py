"""Keeps library messages that a user can do nothing about off the screen."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_TALKERS = ("lightning", "lightning.pytorch", "lightning.fabric", "lightning_utilities")
_ASKED = "lightning.pytorch.profilers"
"""Logger that writes only where a user has asked for a profiler."""


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Silences the libraries' notices, tips and warnings, and restores log levels and warning filters at the end."""
    loggers = [logging.getLogger(name) for name in (*_TALKERS, _ASKED)]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(lightning|torch|jsonargparse|tensorboard)\b")
        for logger in loggers:
            logger.setLevel(logging.INFO if logger.name == _ASKED else logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
