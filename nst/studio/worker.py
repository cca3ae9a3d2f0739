"""The process that makes one picture: it takes an order, shows the picture as it grows, and obeys while it paints.

Each picture has a process of its own, so that a crash is a message to the studio, and all memory is given back.
"""

from __future__ import annotations

import io
import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as nnf
import yaml
from torch import Tensor

from nst.errors import InputError, RunError, one_line
from nst.machine.quiet import quiet_libraries
from nst.optimise.loop import is_complete, level_over
from nst.pictures import files, images
from nst.pictures.color import finished
from nst.pictures.geometry import fit
from nst.run import record
from nst.run.steering.changes import Change, written
from nst.run.steering.steering import Steering
from nst.scene.levels import Level
from nst.studio.asked import Order

PAUSE = 0.3
"""Seconds between two looks at the picture, and the step that goes on then: more than twice a second."""

LOOK = 640
"""Longer side, in pixels, of the copy that is shown of a picture that grows."""

FORMATS = ("png", "jpg", "webp", "tif")
"""The formats that a picture is written in; the PNG comes last, so that it is there when all are."""


class Live(Steering):
    """Sends the picture and its figures to the studio, and makes the changes that come from there.

    Args:
        plan: The changes that are known before.
        pipe: The way to the studio.
    """

    def __init__(self, plan: Sequence[Change], pipe: Connection) -> None:
        super().__init__(plan)
        self.pipe = pipe
        self.paused = False
        self._shown = 0.0
        self._first: tuple[Level | None, int, float] = (None, 0, 0.0)
        self._small: tuple[Any, ...] = ()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any = None, batch: Any = None, batch_idx: int = 0, *_: Any
    ) -> None:
        now = time.monotonic()
        if self._first[0] is not batch:  # its first step has the targets to make as well
            self._first = batch, batch_idx, now
        self.show(trainer, pl_module, batch, batch_idx + 1, now)
        super().on_train_batch_end(trainer, pl_module)
        self._obey(trainer, pl_module, batch, batch_idx + 1)

    def show(self, trainer: pl.Trainer, module: Any, level: Level, done: int, now: float, always: bool = False) -> None:
        """Sends the picture and where the run is, unless it was sent a moment ago."""
        if not (always or now - self._shown >= PAUSE or level_over(trainer)):
            return
        first = self._first[1] + 1
        step = (now - self._first[2]) / (done - first) if done > first else None
        metrics = trainer.callback_metrics
        self.pipe.send(
            {
                "kind": "state",
                "state": "paused" if self.paused else "painting",
                "step": trainer.global_step,
                "level": level.index + 1,
                "levels": len(module.levels),
                "width": level.width,
                "height": level.height,
                "done": _share(module, level, done),
                "left": None if step is None else module.pace.left(level, done, step),
                "losses": {x: float(metrics[x]) for x in ("total", "content", "style") if x in metrics},
                "preview": self._look(trainer, module),
            }
        )
        self._shown = now

    def _look(self, trainer: pl.Trainer, module: Any) -> bytes:
        """Returns a smaller copy of the picture with the result's colours, as JPEG."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]  # set by fit, and not declared
        picture = module.shown
        height, width = picture.shape[2:]
        height, width = fit(height, width, min(LOOK, max(height, width)))
        key = height, data.lab, data.protected
        if not self._small or any(x is not y for x, y in zip(self._small[0], key, strict=True)):
            self._small = key, *(x if x is None else _smaller(x, height, width) for x in key[1:])
        small = _smaller(picture, height, width).float().cpu()
        file = io.BytesIO()
        images.encode(finished(small, *self._small[1:])).save(file, "JPEG", quality=85)
        return file.getvalue()

    def _obey(self, trainer: pl.Trainer, module: Any, level: Level, done: int) -> None:
        """Does what the studio says; a paused run waits here for its word."""
        spent, waited = module.pace.spent, False
        while self.pipe.poll() or self.paused:
            word = self.pipe.recv()
            try:
                if word["kind"] == "pause":
                    self.paused, waited = True, True
                    self.show(trainer, module, level, done, time.monotonic(), always=True)
                elif word["kind"] == "change":
                    change = Change(step=trainer.global_step, **word["change"])
                    self.make(trainer, module, change)
                    self.pipe.send({"kind": "changed", "change": written(change)})
                    self.paused &= change.end != "now"
                else:
                    self.paused = False
            except InputError as error:
                self.pipe.send({"kind": "refused", "message": one_line(error)})
        if waited:
            module.pace.spent = spent  # a pause takes nothing off a budget
            self._first = None, 0, 0.0


def work(pipe: Connection, settings: Callable[[Sequence[str]], Any]) -> None:
    """Waits for an order and makes its picture; the end of the studio ends it too.

    Args:
        pipe: The way to the studio.
        settings: Returns the settings of a picture (a `settings.JobCLI`) from arguments of `nst fit`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the studio's, which then ends its workers
    try:
        with quiet_libraries():
            pipe.send({"kind": "ready"})
            order = pipe.recv()
            try:
                pipe.send({"kind": "done", **_paint(order, settings(list(order.args)), pipe)})
            except (InputError, RunError, OSError, MemoryError, torch.OutOfMemoryError) as error:
                if isinstance(error, (BrokenPipeError, ConnectionError)):
                    return
                pipe.send({"kind": "failed", "message": one_line(error, longest=2000) or type(error).__name__})
    except (EOFError, BrokenPipeError, ConnectionError):
        return


def _paint(order: Order, job: Any, pipe: Connection) -> dict[str, Any]:
    job.begin()
    model, data, trainer = job.model, job.datamodule, job.trainer
    with trainer.precision_plugin.forward_context():
        model.prepare(data.levels)
    made_of = job.record()
    level = data.levels[-1]
    images.save(level.content, order.folder / "before.jpg")
    pipe.send({"kind": "begun", "width": level.width, "height": level.height, "network": model.features.name})
    live = Live(job.config_init.changes or (), pipe)
    trainer.callbacks = [*(x for x in trainer.callbacks if not isinstance(x, Steering)), live]
    trainer.fit(model, datamodule=data)
    if live.made:
        made_of["config"]["changes"] = [written(x) for x in live.made]
    complete = is_complete(trainer, data.levels)
    text = record.dump(made_of, trainer.global_step, complete=complete)
    picture = data.finished(model.shown)
    files.write_text(order.folder / "settings.yaml", yaml.safe_dump(made_of["config"], sort_keys=False, width=120))
    for suffix in FORMATS[::-1]:  # the PNG is the last, and the sign that all are there
        images.save(picture, order.folder / f"picture.{suffix}", data.alpha, text)
    return {"width": picture.shape[3], "height": picture.shape[2], "steps": trainer.global_step, "complete": complete}


def _smaller(image: Tensor, height: int, width: int) -> Tensor:
    if image.shape[2:] == (height, width):
        return image
    return nnf.interpolate(image, (height, width), mode="bilinear", antialias=True, align_corners=False)


def _share(module: Any, level: Level, done: int) -> float:
    """Returns the share of the run's work that is done, in [0, 1]."""
    if level.seconds is not None:
        return min(1.0, float(module.pace.spent / sum(x.seconds for x in module.levels)))
    costs = [x.steps * x.cost for x in module.levels]
    return float((sum(costs[: level.index]) + done * level.cost) / sum(costs))
