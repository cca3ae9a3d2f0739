"""Keeps from the screen what libraries say that a user can do nothing about."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_TALKERS = ("lightning", "lightning.pytorch", "lightning.fabric", "lightning_utilities")
_ASKED = "lightning.pytorch.profilers"
"""What speaks only where a user has asked for it."""


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Silences the libraries' notices, tips and warnings, and leaves everything as it was."""
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
