"""Progress in Python: in a notebook the picture grows in its cell, elsewhere there is a bar."""

from __future__ import annotations

import io
import sys
import time
from importlib import import_module
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from nst.optimise.loop import level_over
from nst.pictures import images

PAUSE = 1.0
"""Seconds between two pictures in a notebook."""


def display() -> Any:
    """Returns the function that shows things in a notebook's cell; None elsewhere, as in IPython's terminal."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return import_module("IPython.display").display if shell is not None and shell.has_trait("kernel") else None


class Cell:
    """The picture so far, as wide as it will be, and a line about it, in the output of a notebook's cell.

    Args:
        display: What `display` returns.
    """

    def __init__(self, display: Any) -> None:
        self.display = display
        self.names: dict[str, str] = {}
        self.then = 0.0

    def show(self, trainer: Any, module: Any, line: str) -> None:
        over = level_over(trainer)
        if not over and time.monotonic() - self.then < PAUSE:
            return
        data, file = trainer.datamodule, io.BytesIO()
        picture = data.finished(module.shown)
        whole = data.alpha is not None and data.alpha.shape[2:] == picture.shape[2:]  # at the last level
        images.encode(picture, data.alpha if whole else None).save(file, "PNG", compress_level=1)
        self._put("image/png", file.getvalue(), width=data.levels[-1].width)
        self._put("text/plain", line)
        self.then = time.monotonic()

    def close(self, done: bool) -> None:
        """Does nothing: the last picture stays."""

    def _put(self, kind: str, data: bytes | str, **metadata: Any) -> None:
        there = kind in self.names
        name = self.names.setdefault(kind, f"nst-{id(self)}-{time.monotonic_ns()}")
        self.display({kind: data}, metadata={kind: metadata}, raw=True, display_id=name, update=there)


class Bar:
    """A bar over the steps of all levels; their number is unknown where a time decides."""

    def __init__(self) -> None:
        self.bar: Any = None

    def show(self, trainer: Any, module: Any, line: str) -> None:
        levels = trainer.datamodule.levels
        if self.bar is None:
            from tqdm.auto import tqdm  # only here: in a notebook it warns where packages of its own are missing

            known = all(level.seconds is None for level in levels)
            self.bar = tqdm(total=sum(level.steps for level in levels) if known else None, unit="step")
        self.bar.set_description(line.partition(":")[0], refresh=False)
        self.bar.update(trainer.global_step - self.bar.n)

    def close(self, done: bool) -> None:
        if self.bar is not None:
            self.bar.total = self.bar.n if done else self.bar.total  # levels may end early
            self.bar.close()


class Live(Callback):
    """Shows a run as it goes on."""

    def __init__(self) -> None:
        found = display()
        self.view: Cell | Bar = Bar() if found is None else Cell(found)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.is_global_zero:
            count = len(trainer.datamodule.levels)  # type: ignore[attr-defined]  # our data module has them
            step = f"step {batch_idx + 1}" + (f" of {batch.steps}" if batch.seconds is None else "")
            line = f"level {batch.index + 1}/{count}, {batch.width}×{batch.height}: {step}"
            self.view.show(trainer, pl_module, line)

    def on_train_end(self, *_: Any) -> None:
        self.view.close(done=True)

    def on_exception(self, *_: Any) -> None:
        self.view.close(done=False)
