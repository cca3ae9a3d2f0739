"""The only module that knows the inside of Lightning's loop: an epoch is a level, and a batch of the epoch is a step.

LevelModule turns the hooks of the loop into the beginning and the end of a level; callbacks, which only watch, ask
`level_over` and `is_complete`. A run that is steered may get other levels by `replan`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import lightning.pytorch as pl
import torch

from nst.scene.levels import Level


class LevelModule(pl.LightningModule):
    """A LightningModule that is optimised at one level after another.

    Attributes:
        level: The current level; None before the first level.
        levels: All levels of the run.
    """

    level: Level | None
    levels: list[Level]

    @abstractmethod
    def begin_level(self, level: Level) -> None:
        """Brings picture, optimiser state and targets to a level, also where a run resumes in the middle of it."""

    @abstractmethod
    def begin_steps(self) -> None:
        """Begins the first step of a level."""

    @property
    @abstractmethod
    def ended_early(self) -> bool:
        """Whether the level is over, though it has steps left."""

    def transfer_batch_to_device(self, batch: Level, device: torch.device, dataloader_idx: int) -> Level:
        """Leaves the level where it is: its pictures are moved to the device once, and not at every step."""
        return batch

    def on_train_batch_start(self, batch: Level, batch_idx: int) -> None:
        """Begins a level before the first of its steps that this run makes."""
        if batch is not self.level:
            self.begin_level(batch)
        if batch_idx == 0:
            self.begin_steps()

    def precision(self) -> AbstractContextManager[Any]:
        """Returns the context of the network's precision, for code outside of steps; Lightning enters it in steps."""
        trainer = self._trainer
        return nullcontext() if trainer is None else trainer.precision_plugin.forward_context()

    def end_level(self) -> None:
        """Ends the level after the current step."""
        self.trainer.fit_loop.epoch_loop.batch_progress.is_last_batch = True

    def logs_now(self, level: Level, position: int) -> bool:
        """Whether this step's losses are logged: at the logger's steps and, for the screen, a level's first and last.

        Lightning takes milliseconds to log a dozen values, and a step of a small network takes not much longer.
        """
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]  # the Trainer has it
        # a schedule that follows the objective has to get the latest objective
        watched = any(config.reduce_on_plateau for config in self.trainer.lr_scheduler_configs)
        return watched or position in (0, level.steps - 1) or (every > 0 and (self.global_step + 1) % every == 0)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Tells the loop at which step a run resumes.

        A run that had made all steps of a level resumes the level if the level has been given more steps since. If not,
        Lightning compares the count of the level's steps with the number of the next level's steps to see whether the
        level is over: so the count is raised to the largest number of steps of all levels.
        """
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
        level = epochs["completed"]
        if epochs["processed"] > level:  # the checkpoint was saved after the level, where Lightning needs no help
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


def replan(trainer: pl.Trainer, levels: Sequence[Level]) -> None:
    """Puts other levels in the place of a run's levels; the level that goes on has its index and its steps.

    The next batch is then a new Level, so that the module begins it: it computes the targets anew.
    """
    module: Any = trainer.lightning_module
    loader: Any = trainer.train_dataloader
    module.levels = module.pace.levels = [*levels]
    trainer.fit_loop.max_epochs = len(levels)
    loader.level = levels[module.level.index]


def is_complete(trainer: pl.Trainer, levels: Sequence[Level]) -> bool:
    """Whether a run has made the last step of its last level, as the loop knows it: a level may end early."""
    steps = trainer.fit_loop.epoch_loop.batch_progress
    current: Any = steps.current  # whose type does not declare what it counts
    ended: bool = steps.is_last_batch and current.processed == current.ready
    level = getattr(trainer.lightning_module, "level", None)  # None where a run that was at its end is resumed
    return ended and (trainer.current_epoch >= len(levels) if level is None else level.index == len(levels) - 1)
