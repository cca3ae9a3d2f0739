"""What a clip shows while it is painted: a line with the frame, the step and the time left, and curves over frames."""

from __future__ import annotations

import statistics
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

from nst.run.callbacks import Lines

CURVES = ("total", "content", "style", "temporal")
"""The curves in TensorBoard, a point for each frame: its losses at its last step."""


class ClipProgress(Callback):
    """Shows how far a clip is.

    Args:
        count: How many frames are to be made; 0 for unknown.
        folder: The folder of the frames, below which the curves are.
        quiet: Whether nothing is shown on the screen.
    """

    def __init__(self, count: int, folder: Path, quiet: bool = False) -> None:
        moves = sys.stdout.isatty()  # else it is a log file, or another program
        shape: dict[str, Any] = {"bar_format": "{desc}: {n_fmt}/{total_fmt}|{bar}| [{elapsed}{postfix}]"}
        if not moves:
            shape = {"file": Lines(sys.stdout), "bar_format": "{desc}: {n_fmt}/{total_fmt} [{elapsed}{postfix}]"}
        self.bar = Tqdm(**{"file": sys.stdout, **shape}, desc="frames", total=count or None, disable=quiet)
        self.bar.mininterval = self.pause = 0.2 if moves else 10.0
        self.shown, self.count = 0.0, count
        self.seconds: deque[float] = deque(maxlen=9)  # of the last frames
        self.folder, self.frame = folder / "curves", 0
        self.board: Any = None

    @contextmanager
    def making(self, frame: int, done: bool) -> Iterator[None]:
        """Counts a frame, and the time that it takes unless it is done already."""
        self.frame, begun = frame, time.monotonic()
        yield
        if not done:
            self.seconds.append(time.monotonic() - begun)
        self.bar.update()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        now = time.monotonic()
        if now - self.shown < self.pause:
            return
        self.shown = now
        steps = sum(level.steps for level in trainer.datamodule.levels)  # type: ignore[attr-defined]  # ours has them
        left = {}
        if self.count and self.seconds:
            left = {"left": Tqdm.format_interval(statistics.median(self.seconds) * (self.count - self.bar.n))}
        self.bar.set_postfix({"step": f"{trainer.global_step}/{steps}", **left})

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter  # which takes a second to load

        self.board = self.board or SummaryWriter(str(self.folder))
        for name in CURVES:
            if name in trainer.callback_metrics:
                self.board.add_scalar(name, float(trainer.callback_metrics[name]), self.frame)

    def close(self) -> None:
        """Ends the line, and writes the curves' last points."""
        self.bar.close()
        if self.board is not None:
            self.board.close()
