"""Signals that ask a command to stop: at once or, while a run makes steps, after the current step."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

from nst.distributed.ranks import launched

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""The signals of Ctrl-C, of a system or scheduler that asks a process to end, and of a closed terminal."""


class Stop:
    """Listens for signals as long as a command runs, and then restores the earlier signal handlers.

    A signal raises a KeyboardInterrupt; while `stepping`, the first signal is only noted. A signal that the program was
    started to ignore, as by `nohup`, stays ignored.

    Attributes:
        number: The first signal that came; None before.
        stepping: Whether the run checks `number` after each step.
    """

    def __init__(self) -> None:
        self.number: signal.Signals | None = None
        self.stepping = False
        self._before: dict[int, Any] = {}
        self._terminals: list[int] = []

    def __enter__(self) -> Stop:
        self._terminals = [stream.fileno() for stream in (sys.stdout, sys.stderr) if stream.isatty()]
        if threading.current_thread() is threading.main_thread():  # Python handles signals only there
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def listen_again(self) -> None:
        """Takes the signals back from Lightning, whose handler sends a message to all processes, which may hang."""
        for number in self._before:
            signal.signal(number, self._note)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def code(self) -> int:
        """The exit code that a shell expects: 128 plus the signal's number."""
        return 128 + (self.number or signal.SIGINT)

    def _note(self, number: int, frame: FrameType | None) -> None:
        first, self.number = self.number is None, self.number or signal.Signals(number)
        if self.number.name == "SIGHUP":
            self._leave_terminal()
        if not (self.stepping and first):
            raise KeyboardInterrupt
        if not launched():  # the process that has started this one says it
            print("\nstopping after this step (once more: at once)", file=sys.stderr, flush=True)

    def _leave_terminal(self) -> None:
        """Discards all later output: printing to a closed terminal is an error, and the run would fail."""
        for stream in self._terminals:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream)
            os.close(nowhere)
