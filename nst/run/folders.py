"""A separate folder for each run, also if several commands start at the same time."""

from __future__ import annotations

import re
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from nst.distributed.ranks import is_first
from nst.errors import RunError

LOGS = "lightning_logs"
"""The folder that holds all runs."""


class RunFolder(Callback):
    """The folder of a run: `lightning_logs/version_0`, `version_1`, ..., claimed when `path` is first read.

    A process claims a folder by making it, which the file system grants to one process alone.

    Args:
        root: The folder below which runs are kept.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._path: Path | None = None

    @property
    def path(self) -> Path:
        """The folder; the folder of all runs for a process that has not been told yet what the first one has claimed.

        Raises:
            RunError: If the folder cannot be made.
        """
        if self._path is None and not is_first():
            return self.root / LOGS
        self._path = self._path or self._claimed()
        return self._path

    def _claimed(self) -> Path:
        logs = self.root / LOGS
        try:
            logs.mkdir(parents=True, exist_ok=True)
            matches = (re.fullmatch(r"version_(\d+)", entry.name) for entry in logs.iterdir())
            number = 1 + max((int(match[1]) for match in matches if match), default=-1)
            while True:
                try:
                    (logs / f"version_{number}").mkdir()
                    return logs / f"version_{number}"
                except FileExistsError:  # another command has made it since we looked
                    number += 1
        except OSError as error:
            raise RunError(
                f"Expected to make a folder for the run in {logs}, but the system says: {error.strerror}; choose "
                "another place with --trainer.default_root_dir"
            ) from error

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        own = str(self._path or self._claimed()) if trainer.is_global_zero else ""
        self._path = Path(trainer.strategy.broadcast(own))


class Curves(TensorBoardLogger):
    """A logger that writes TensorBoard's files into the run's folder."""

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
    """Returns the folder of a run's files: the path of its RunFolder, or else the folder of the Trainer's logger."""
    own = [
        callback.path
        for callback in trainer.callbacks  # type: ignore[attr-defined]  # the Trainer has them
        if isinstance(callback, RunFolder)
    ]
    return own[0] if own else Path(trainer.log_dir or trainer.default_root_dir)
