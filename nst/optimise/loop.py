"""The one place that knows the inside of Lightning's loop: an epoch is a level, and a batch of it is a step.

A module that is optimised level by level says what a level's beginning, a step's end and the end of a level mean;
whoever only watches asks `level_over` and `is_complete`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import torch

from nst.scene.levels import Level


class LevelModule(pl.LightningModule):
    """A LightningModule that works at one level after another.

    Attributes:
        level: The level that is worked at; None before the first.
        levels: All levels of the run.
    """

    level: Level | None
    levels: list[Level]

    @abstractmethod
    def begin_level(self, level: Level) -> None:
        """Brings the picture and all that belongs to it to a level, also where a run goes on in the middle of it."""

    @abstractmethod
    def begin_steps(self) -> None:
        """Begins the first step of a level."""

    @property
    @abstractmethod
    def ended_early(self) -> bool:
        """Whether the level is over, though it has steps left."""

    def transfer_batch_to_device(self, batch: Level, device: torch.device, dataloader_idx: int) -> Level:
        """Leaves the level where it is: it is brought to the device once, and not at every step."""
        return batch

    def on_train_batch_start(self, batch: Level, batch_idx: int) -> None:
        """Begins a level with the first of its steps that this run makes."""
        if batch is not self.level:
            self.begin_level(batch)
        if batch_idx == 0:
            self.begin_steps()

    def end_level(self) -> None:
        """Ends the level with the step that is being made."""
        self.trainer.fit_loop.epoch_loop.batch_progress.is_last_batch = True

    def logs_now(self, level: Level, position: int) -> bool:
        """Whether this step's losses are kept: at the logger's steps, and first and last in a level for the screen.

        Lightning takes milliseconds to take in a dozen values, which a small network's step is not much longer than.
        """
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]  # it has
        # a schedule that looks at the objective has to see the latest one
        watched = any(config.reduce_on_plateau for config in self.trainer.lr_scheduler_configs)
        return watched or position in (0, level.steps - 1) or (every > 0 and (self.global_step + 1) % every == 0)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Tells the loop where a run goes on.

        A run that had made all steps of a level goes on with it if it has been given more since. If it has not,
        Lightning looks at the next level's steps to see if this one is over: so its count is raised to the largest.
        """
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
        level = epochs["completed"]
        if epochs["processed"] > level:  # it was saved after the level, where Lightning knows
            return
        steps = [level.steps for level in self.levels]
        progress["is_last_batch"] = self.ended_early or progress["current"]["ready"] >= steps[level]
        if progress["is_last_batch"]:
            progress["current"] |= {"ready": max(steps), "started": max(steps), "processed": max(steps)}
            progress["current"]["completed"] = max(steps) - 1


def level_over(trainer: pl.Trainer) -> bool:
    """Whether the step that was just made is the last one of its level, or of the run."""
    last: bool = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
    return last or trainer.global_step == trainer.max_steps


def is_complete(trainer: pl.Trainer, levels: Sequence[Level]) -> bool:
    """Whether a run has made the last step of its last level, by what the loop says: a level may end early."""
    steps = trainer.fit_loop.epoch_loop.batch_progress
    ended: bool = steps.is_last_batch and steps.current.processed == steps.current.ready  # type: ignore[attr-defined]  # it has
    level = getattr(trainer.lightning_module, "level", None)  # None where a run that was at its end is resumed
    return ended and (trainer.current_epoch >= len(levels) if level is None else level is levels[-1])
