"""Callbacks, which may be removed without changing a pixel: the screen, TensorBoard, checkpoints, the result file."""

from __future__ import annotations

import io
import logging
import signal
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
from lightning.pytorch.loggers import TensorBoardLogger

from nst.errors import InputError, RunError
from nst.optimise.loop import is_complete, level_over
from nst.pictures import files, images
from nst.run import record
from nst.run.folders import folder_of
from nst.run.record import Record
from nst.run.stopping import Stop
from nst.scene.levels import Level

log = logging.getLogger(__name__)


def _boards(trainer: pl.Trainer) -> list[Any]:
    return [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


def _data(trainer: pl.Trainer) -> Any:
    """Returns the PictureData of a run."""
    return trainer.datamodule  # type: ignore[attr-defined]  # set by fit, and not declared


def _level_name(trainer: pl.Trainer, level: Level) -> str:
    return f"level {level.index + 1}/{len(_data(trainer).levels)}, {level.width}×{level.height}"


class Checkpoints(Checkpoint):
    """Keeps `checkpoints/last.ckpt` in the run's folder: every N steps, at the end, and when the run is told to stop.

    Args:
        every_n_steps: Steps between two checkpoints; a machine that dies loses at most this many steps.
    """

    def __init__(self, every_n_steps: int = 50) -> None:
        if every_n_steps < 1:
            raise InputError(f"Expected --checkpoints.every_n_steps to be 1 or more, but got {every_n_steps}")
        self.every_n_steps = every_n_steps

    def path(self, trainer: pl.Trainer) -> Path:
        """Returns where the checkpoint of a run is."""
        return folder_of(trainer) / "checkpoints" / "last.ckpt"

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if level_over(trainer) or trainer.should_stop or trainer.global_step % self.every_n_steps == 0:
            self.save(trainer)

    def save(self, trainer: pl.Trainer) -> None:
        """Writes the checkpoint of a run."""
        trainer.save_checkpoint(self.path(trainer))


class Result(Callback):
    """Writes the picture at the end, also of a run that was stopped or failed: into the run's folder and to `output`.

    Args:
        output: File for the picture besides the file in the run's folder; the suffix sets the format.

    Attributes:
        record: The record of how the picture is made; if it is set, every picture and every checkpoint contains it.
    """

    def __init__(self, output: str | None = None) -> None:
        if output is not None:
            files.check_output(output)
        self.output = output
        self.record: Record | None = None

    def paths(self, trainer: pl.Trainer) -> list[Path]:
        """Returns the files of the picture; the file that matters most to the user comes first."""
        return [*([Path(self.output)] if self.output else []), folder_of(trainer) / "result.png"]

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        failures = self._save(trainer, pl_module) if trainer.is_global_zero else {}
        if failures:
            kept = [str(path) for path in self.paths(trainer) if path not in failures]
            where = f"; the picture is in {kept[0]}" if kept else ""
            raise RunError(f"{next(iter(failures.values()))}{where}")

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        if trainer.global_step > 0 and trainer.is_global_zero:
            for failure in self._save(trainer, pl_module).values():
                log.info(failure)  # the error that ended the run is shown last

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint["record"] = self.text(trainer)

    def text(self, trainer: pl.Trainer) -> str | None:
        """Returns the record, with the number of steps that were made, as YAML."""
        if self.record is None:
            return None
        return record.dump(self.record, trainer.global_step, complete=is_complete(trainer, _data(trainer).levels))

    def _save(self, trainer: pl.Trainer, module: Any) -> dict[Path, Exception]:
        """Writes the picture to every file, and returns the errors of the files that could not be written."""
        data, failures = _data(trainer), dict[Path, Exception]()
        picture = data.finished(module.shown)
        for path in self.paths(trainer):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                images.save(picture, path, data.alpha, self.text(trainer))
            except (RunError, OSError) as error:
                failures[path] = error
        return failures


class StopAfterStep(Callback):
    """Ends a run after the step in which a signal came, so that the checkpoint and the picture are complete.

    Args:
        stop: The listener for signals.
    """

    def __init__(self, stop: Stop) -> None:
        self.stop = stop

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.stop.stepping = True
        if trainer.world_size > 1:
            self.stop.listen_again()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        number = pl_module.processes.largest(self.stop.number or 0)  # a signal to one process stops them all
        self.stop.number = signal.Signals(int(number)) if number else None
        trainer.should_stop = trainer.should_stop or self.stop.number is not None


class Snapshots(Callback):
    """Shows the picture in TensorBoard as it grows, with the photograph, the paintings and the steps per second.

    Args:
        every_n_steps: Steps between two pictures.
    """

    def __init__(self, every_n_steps: int = 50) -> None:
        if every_n_steps < 1:
            raise InputError(f"Expected --snapshots.every_n_steps to be 1 or more, but got {every_n_steps}")
        self.every_n_steps = every_n_steps
        self._mark = (0, 0.0)

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        level = trainer.datamodule.levels[-1]  # type: ignore[attr-defined]  # our data module has them
        styles = {f"style_{i}" if i else "style": x.picture for i, x in enumerate(level.paintings)}
        self._show(trainer, {"content": level.content, **styles})
        self._mark = (trainer.global_step, time.monotonic())

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Level, batch_idx: int) -> None:
        if batch_idx == 0:
            for board in _boards(trainer):
                board.add_text("level", _level_name(trainer, batch), trainer.global_step)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        if level_over(trainer) or trainer.global_step % self.every_n_steps == 0:
            finished = trainer.datamodule.finished(pl_module.shown)  # type: ignore[attr-defined]  # of our data module
            self._show(trainer, {"picture": finished})
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # the Trainer has it
        if every > 0 and trainer.global_step % every == 0:
            (step, then), now = self._mark, time.monotonic()
            pl_module.log("steps_per_second", (trainer.global_step - step) / (now - then))
            self._mark = (trainer.global_step, now)

    def _show(self, trainer: pl.Trainer, pictures: dict[str, torch.Tensor]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary  # which a run without a logger does not need

        for board in _boards(trainer) if trainer.is_global_zero else ():
            for name, picture in pictures.items():
                # as add_image does, without its four copies in float32
                image, file = images.encode(picture), io.BytesIO()
                image.save(file, "PNG")
                shown = Summary.Image(
                    height=image.height, width=image.width, colorspace=3, encoded_image_string=file.getvalue()
                )
                board.file_writer.add_summary(
                    Summary(value=[Summary.Value(tag=name, image=shown)]), trainer.global_step
                )


class Lines:
    """A text file into which each state of a progress bar is written as a line, as nothing moves back in a log.

    Args:
        file: The file.
    """

    def __init__(self, file: TextIO) -> None:
        self.file = file

    def write(self, text: str) -> None:
        if line := text.strip():
            self.file.write(f"{line}\n")

    def flush(self) -> None:
        self.file.flush()


class Progress(TQDMProgressBar):
    """Prints what the run makes, then shows the step, its band of rows, the rate, the time left over all levels and the
    losses."""

    BAR_FORMAT = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}, {rate_noinv_fmt}{postfix}]"
    LINE_FORMAT = "{desc}: {n_fmt}/{total_fmt} [{elapsed}, {rate_noinv_fmt}{postfix}]"

    def __init__(self) -> None:
        super().__init__()
        self._moves = sys.stdout.isatty()  # else it is a log file, or another program
        self._pause = 0.2 if self._moves else 10.0
        self._shown = self._moved = 0.0
        self._first: tuple[int, float] | None = None  # the level's first step here, and when it was done
        self._left: dict[str, str] = {}
        self._level: Level | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        pl_module.scanner.on_band = self._band
        if not trainer.is_global_zero:
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]  # set by fit, and not declared
        (photograph, paintings), level = data.names, data.levels[-1]
        times = [f"{x.steps}" if x.seconds is None else f"{x.seconds:.1f} s" for x in data.levels]
        steps = " + ".join(f"{time} at {max(x.width, x.height)}" for time, x in zip(times, data.levels, strict=True))
        print(f"{photograph} in the style of {paintings}, {level.width}×{level.height} pixels")
        print(f"{'steps' if level.seconds is None else 'time'}: {steps} pixels")
        print(
            f"{pl_module.features.name} on {pl_module.device}, {trainer.precision}, into {folder_of(trainer)}",
            flush=True,
        )

    def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Opens no bar: the first step does, as a resumed run may begin in the middle of a level."""

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch is not self._level:
            self._level, self._first = batch, None
            shape: dict[str, Any] = {"file": sys.stdout, "bar_format": self.BAR_FORMAT}
            if not self._moves:
                shape = {"file": Lines(sys.stdout), "bar_format": self.LINE_FORMAT}
            steps = batch.steps if batch.seconds is None else None  # a time budget allows an unknown number of steps
            self.train_progress_bar = Tqdm(
                desc=_level_name(trainer, batch),
                total=steps,
                initial=batch_idx,
                dynamic_ncols=True,
                leave=True,
                disable=self.is_disabled,
                **shape,
            )

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        now, bar = time.monotonic(), self.train_progress_bar
        self._first = self._first or (batch_idx, now)  # it has the level's targets to make as well
        if now - self._shown >= self._pause or level_over(trainer):
            self._shown, self._moved, bar.n = now, now, batch_idx + 1
            if batch_idx > self._first[0]:
                step = (now - self._first[1]) / (batch_idx - self._first[0])
                self._left = {"left": Tqdm.format_interval(pl_module.pace.left(batch, batch_idx + 1, step))}
            shows = self._moves or not level_over(trainer)  # closing the bar shows it as well
            bar.set_postfix(self.get_metrics(trainer, pl_module), refresh=shows)

    def _band(self, done: int, of: int) -> None:
        """Shows the progress within a long step: the network runs on a large picture in bands."""
        now = time.monotonic()
        if now - self._moved >= self._pause:
            self._moved = now
            metrics = self.get_metrics(self.trainer, self.trainer.lightning_module)
            self.train_progress_bar.set_postfix({"band": f"{done}/{of}", **metrics})

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.train_progress_bar.close()

    def on_train_end(self, *_: Any) -> None:
        """Does nothing: the bar was closed at the end of the level."""

    def get_metrics(self, trainer: pl.Trainer, pl_module: Any) -> dict[str, Any]:
        logged = trainer.callback_metrics
        losses = {name: f"{float(logged[name]):.4g}" for name in ("total", "content", "style") if name in logged}
        return self._left | losses
