"""Checkpoint files: read without running code in them, written whole or not at all, with a format number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from nst.errors import InputError, RunError
from nst.network import weights
from nst.optimise.resume import FORMAT
from nst.pictures import files
from nst.run import record
from nst.run.record import Record


class CheckpointFiles(TorchCheckpointIO):
    """Writes a checkpoint straight into its file, without Lightning's copy in memory; reads only plain values."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomically(path, lambda file: torch.save(checkpoint, file))

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: Any = None) -> dict[str, Any]:
        return read(Path(path))


def read(path: Path) -> dict[str, Any]:
    """Reads a checkpoint of nst, without running any code in the file.

    Raises:
        InputError: If there is no such file, or the file is not a checkpoint of nst, or has a later format.
    """
    if not path.is_file():
        raise InputError(f"Expected --ckpt_path to be a checkpoint, but {path} is not a file")
    try:
        checkpoint = weights.read_torch(path, "ckpt_path")
    except InputError:
        checkpoint = None
    made = checkpoint.get("nst") if isinstance(checkpoint, dict) else None
    if not isinstance(checkpoint, dict) or not isinstance(made, dict) or "bleed" not in made:
        raise InputError(f"Expected --ckpt_path to be a checkpoint of nst, but {path} is not")
    number = made.get("format", 1)
    if number not in range(1, FORMAT + 1):
        raise InputError(
            f"Expected --ckpt_path to be a checkpoint of format {FORMAT} or an earlier one, but {path} has format "
            f"{number}; read it with the version of nst that wrote it"
        )
    return checkpoint


@contextmanager
def intact(path: Path | None, before_steps: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Turns the errors that a damaged checkpoint causes into an InputError.

    Args:
        path: The checkpoint; None for none.
        before_steps: Returns whether the run has not begun its steps, so that the checkpoint may have caused an error.
    """
    try:
        yield
    except (InputError, RunError, OSError, MemoryError):
        raise
    except Exception as error:  # a value of another type may raise any error
        if path is None or not before_steps():
            raise
        raise InputError(
            f"Expected --ckpt_path to be a checkpoint as nst wrote it, but {path} cannot be gone on from "
            f"({type(error).__name__}: {error}); take an earlier one, or start anew without it"
        ) from None


def changes(checkpoint: dict[str, Any], now: Record) -> list[str]:
    """Returns the differences between the run that made a checkpoint and a run that is to resume from it.

    A checkpoint without a record, as Python code may write it, has no differences.
    """
    text = checkpoint.get("record")
    if not isinstance(text, str):
        return []
    try:
        return record.changes(record.parse(text), now)
    except ValueError:
        return []


def check_same(checkpoint: dict[str, Any], now: Record) -> None:
    """Raises an InputError if a run is to resume from a checkpoint of other pictures or settings."""
    found = changes(checkpoint, now)
    if found:
        more = [f"{len(found) - 4} more"] if len(found) > 4 else []
        raise InputError(
            f"Expected --ckpt_path to be of a run with the same pictures and settings, but it was made with other "
            f"{', '.join(found[:4] + more)}; start anew without it, or go on all the same with --allow_changes true"
        )
