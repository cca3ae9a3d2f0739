"""Signals that ask a command to stop: at once, or while a run takes steps, after the step that is being made."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Ctrl-C, the polite end that systems and schedulers send, and a terminal that is closed."""


class Stop:
    """Listens for signals as long as a command runs, and puts back the handlers that were there before.

    A signal raises a KeyboardInterrupt; while `stepping`, the first one is only noted. A signal that the program was
    started to ignore, as by `nohup`, stays ignored.

    Attributes:
        number: The first signal that came, or None.
        stepping: Whether the run looks at `number` after each step.
    """

    def __init__(self) -> None:
        self.number: signal.Signals | None = None
        self.stepping = False
        self._before: dict[int, Any] = {}
        self._terminals: list[int] = []

    def __enter__(self) -> Stop:
        self._terminals = [stream.fileno() for stream in (sys.stdout, sys.stderr) if stream.isatty()]
        if threading.current_thread() is threading.main_thread():  # in others Python does not hand out signals
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

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
        print("\nstopping after this step (once more: at once)", file=sys.stderr, flush=True)

    def _leave_terminal(self) -> None:
        """Sends to nowhere what is printed from now on: a closed terminal takes no line, and a run would fail."""
        for stream in self._terminals:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream)
            os.close(nowhere)


class StopAfterStep(Callback):
    """Ends a run after the step in which a signal came, so that what is kept is whole.

    Args:
        stop: What listens for signals.
    """

    def __init__(self, stop: Stop) -> None:
        self.stop = stop

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.stop.stepping = True

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        trainer.should_stop = trainer.should_stop or self.stop.number is not None
