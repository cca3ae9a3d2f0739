"""A folder of its own for each run, whatever else writes there at the same time."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from nst.errors import RunError

LOGS = "lightning_logs"
"""The folder that holds all runs."""


class RunFolder(Callback):
    """The folder of a run: `lightning_logs/version_0`, `version_1`, ..., claimed when it is first asked for.

    A folder is claimed by being made, which the file system grants to one process alone.

    Args:
        root: The folder below which runs are kept.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def path(self) -> Path:
        """The folder.

        Raises:
            RunError: If it cannot be made.
        """
        logs = self.root / LOGS
        try:
            logs.mkdir(parents=True, exist_ok=True)
            matches = (re.fullmatch(r"version_(\d+)", entry.name) for entry in logs.iterdir())
            number = 1 + max((int(match[1]) for match in matches if match), default=-1)
            while True:
                try:
                    (logs / f"version_{number}").mkdir()
                    return logs / f"version_{number}"
                except FileExistsError:  # by another command, since we looked
                    number += 1
        except OSError as error:
            raise RunError(
                f"Expected to make a folder for the run in {logs}, but the system says: {error.strerror}; choose "
                "another place with --trainer.default_root_dir"
            ) from error

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        _ = self.path


class Curves(TensorBoardLogger):
    """TensorBoard's files in the run's folder."""

    def __init__(self, folder: RunFolder) -> None:
        super().__init__(folder.root, LOGS, default_hp_metric=False)
        self.folder = folder

    @property
    def version(self) -> str:
        return self.folder.path.name

    @property
    def log_dir(self) -> str:
        return str(self.folder.path)


def folder_of(trainer: pl.Trainer) -> Path:
    """Returns where a run keeps its files: its own folder, or where the Trainer's logger writes."""
    own = [callback.path for callback in trainer.callbacks if isinstance(callback, RunFolder)]  # type: ignore[attr-defined]  # it has
    return own[0] if own else Path(trainer.log_dir or trainer.default_root_dir)
