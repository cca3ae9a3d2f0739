"""Many pictures in one process, one after another, with one network."""

from __future__ import annotations

import gc
import hashlib
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl

from nst.errors import InputError, RunError, one_line, shown
from nst.many import remote
from nst.network.features import Features
from nst.optimise.targets import StyleCache
from nst.pictures import files, images
from nst.run import checkpoints, flags, record
from nst.run.callbacks import Checkpoints
from nst.run.record import Record

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A picture to make, or a scene of a clip to paint.

    Attributes:
        name: What distinguishes the picture from the others, for people.
        options: What distinguishes it for its runner: the command line's options of a picture, the frames of a scene.
        output: The file of the picture, or of the scene's first frame.
        address: Where the picture goes, if that is on another file system: `output` is then its copy (see `remote`).
    """

    name: str
    options: list[str]
    output: Path
    address: str = ""

    @property
    def place(self) -> str:
        """Where the picture goes, for people."""
        return self.address or str(self.output)


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        kind: `made`, `skipped` or `failed`.
        line: The same with what belongs to it, for people.
    """

    kind: Literal["made", "skipped", "failed"]
    line: str


def failure(job: Job, error: Exception) -> Outcome:
    """Returns what became of a job that an error has ended."""
    return Outcome("failed", f"failed   {job.name}: {one_line(error, longest=2000) or type(error).__name__}")


def told(outcomes: Iterable[tuple[Job, Outcome]], count: int) -> Iterator[tuple[Job, Outcome]]:
    """Prints a line for each of `count` outcomes as it comes, and passes it on."""
    for number, (job, found) in enumerate(outcomes, 1):
        print(f"{number}/{count}  {shown(found.line)}", flush=True)
        yield job, found


class JobRunner:
    """Makes pictures one after another; loads a network once, and computes a painting's statistics once at each size.

    Args:
        settings: Returns the settings of a picture (a `settings.JobCLI`) from the options of its Job; raises an
            InputError if the options are wrong.
        keeps: Whether an unfinished picture is kept beside its file, as a checkpoint from which it is gone on.
    """

    def __init__(self, settings: Callable[[Sequence[str]], Any], keeps: bool = False) -> None:
        self.settings, self.keeps = settings, keeps
        self.networks: dict[Hashable, tuple[Features, StyleCache]] = {}

    def begin(self, job: Any) -> None:
        """Reads the pictures of a job's settings, and makes its model ready with a network that is loaded once."""
        gc.collect()  # Trainer and module of the picture before hold each other, and all their tensors
        job.begin()
        model, data, trainer = job.model, job.datamodule, job.trainer
        layers, device = frozenset(model.objective.layers), str(trainer.strategy.root_device)
        key = (model.source, model.pooling, model.padding, layers, trainer.precision, device)
        if key in self.networks:
            model.features, model.style_cache = self.networks[key]
        with trainer.precision_plugin.forward_context():
            model.prepare(data.levels)
        assert model.features is not None
        self.networks[key] = (model.features, model.style_cache)

    def make(self, job: Any, output: Path, address: str = "") -> int:
        """Makes the picture of a job's settings, writes it to a file, and returns the step from which it was made.

        Args:
            job: The settings.
            output: The file.
            address: Where the file is sent, if that is on another file system.
        """
        self.begin(job)
        model, data, trainer = job.model, job.datamodule, job.trainer
        made_of = job.record()  # now, as a file may be gone when the picture is done
        level = data.levels[-1]
        files.check_size(output, level.height, level.width)
        every = job.config.checkpoints.every_n_steps
        unfinished = Unfinished(output, made_of, every, address) if self.keeps else None
        path = None
        if unfinished is not None:
            trainer.callbacks.append(unfinished)
            path = unfinished.usable(model)
        trainer.fit(model, datamodule=data, ckpt_path=path)
        if unfinished is not None and unfinished.resumed:
            made_of = {"resumed": unfinished.resumed, **made_of}
        images.save(data.finished(model.shown), output, data.alpha, record.dump(made_of, trainer.global_step, True))
        if address:
            remote.send(address, "output")
        if unfinished is not None:
            unfinished.remove()
        return int(made_of.get("resumed", 0))

    def outcome(self, job: Job) -> Outcome:
        """Makes a job's picture unless it exists; one picture's failure, whatever it is, must not end the others."""
        start = time.monotonic()
        try:
            files.check_output(job.output)
            settings = self.settings(job.options)
            if job.address:
                remote.follow(job.address, "output")
            if settings.is_made(job.output):
                text = f"skipped  {job.name}: {job.place} is made already, with these settings"
                return Outcome("skipped", text)
            resumed = self.make(settings, job.output, job.address)
        except Exception as error:
            return failure(job, error)
        more = f", gone on from step {resumed}" if resumed else ""
        return Outcome("made", f"made     {job.name}: {job.place}, {time.monotonic() - start:.1f} s{more}")

    def check(self, jobs: Sequence[Job]) -> None:
        """Checks what all pictures share, and makes their folders.

        Raises:
            InputError: If settings that all pictures share are wrong, or a picture would overwrite an input file.
        """
        first = self.settings(next((job for job in jobs if job.name.isprintable()), jobs[0]).options)
        for notice in first.notices:
            log.info(notice)
        trainer = first.config.trainer
        if trainer.num_nodes != 1 or flags.several(trainer.devices):
            raise InputError(
                f"Expected --trainer.devices to be 1 for many pictures, but got {trainer.devices}: with --cluster they "
                "are made side by side, each by one device"
            )
        check_inputs(jobs, first.inputs)
        for folder in {job.output.parent: None for job in jobs}:
            make_folder(folder)
        for place in {job.output.with_stem("picture"): None for job in jobs}:  # errors that a folder's pictures share
            files.check_output(place)

    def work(self, jobs: Sequence[Job], outcomes: Iterable[tuple[Job, Outcome]] | None = None) -> list[Job]:
        """Makes the pictures that do not exist yet, prints a line for each and a summary, and returns the failed jobs.

        Args:
            jobs: The pictures.
            outcomes: What becomes of them, in any order, where something else makes them.

        Raises:
            InputError: As `check` does.
        """
        self.check(jobs)
        kinds, failed = Counter[str](), []
        for job, found in told(outcomes or ((job, self.outcome(job)) for job in jobs), len(jobs)):
            kinds[found.kind] += 1
            if found.kind == "failed":
                failed.append(job)
        counts = ", ".join(f"{kinds[kind]} {kind}" for kind in ("made", "skipped", "failed"))
        print(f"{len(jobs)} pictures: {counts}", flush=True)
        return failed


class Unfinished(Checkpoints):
    """The checkpoint of a picture that is being made, in a hidden file beside the picture's.

    Args:
        output: The file of the picture.
        made_of: The record of the picture.
        every_n_steps: Steps between two checkpoints.
        address: Where the picture goes, if that is on another file system; the checkpoint is kept beside it.

    Attributes:
        file: The file of the checkpoint.
        resumed: The step from which the picture is gone on; 0 if it is made from its beginning.
    """

    def __init__(self, output: Path, made_of: Record, every_n_steps: int, address: str = "") -> None:
        super().__init__(every_n_steps)
        name = f".{output.name}.ckpt"
        if len(os.fsencode(name)) > 255:  # the longest name of most file systems
            name = f".{hashlib.sha256(os.fsencode(output.name)).hexdigest()}.ckpt"
        self.file, self.made_of, self.resumed = output.with_name(name), made_of, 0
        self.address = address and f"{address.rpartition('/')[0]}/{name}"

    def save(self, trainer: pl.Trainer) -> None:
        super().save(trainer)
        if self.address:
            remote.send(self.address, "output")

    def remove(self) -> None:
        """Removes the checkpoint."""
        self.file.unlink(missing_ok=True)
        if self.address:
            remote.remove(self.address, "output")

    def path(self, trainer: pl.Trainer) -> Path:
        return self.file

    def usable(self, model: Any) -> Path | None:
        """Returns the checkpoint's file if the picture can be gone on from it; None to make it from its beginning."""
        try:
            if self.address:
                remote.follow(self.address, "output")
            found = checkpoints.read(self.file)
            with checkpoints.intact(self.file):
                model.check_checkpoint(found)
                checkpoints.check_same(found, self.made_of)
        except (InputError, RunError, OSError):
            return None
        return self.file

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.resumed = trainer.global_step

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint["record"] = record.dump(self.made_of, trainer.global_step, complete=False)


def check_distinct(jobs: Sequence[Job]) -> None:
    """Raises an InputError if two pictures would be written to the same file."""
    places: dict[str, Job] = {}
    for job in jobs:
        # paths that are equal but for case are one file to some file systems: these are compared closely
        other = places.setdefault(os.path.realpath(job.output).casefold(), job)
        if other is not job and files.same_place(other.output, job.output):
            raise InputError(
                f"Expected --output to give each picture a place of its own, but {other.name} and {job.name} would "
                f"both be written to {job.place}; rename one, put {{name}} into --output, or make them in two batches"
            )


def make_folder(path: Path) -> None:
    """Makes a folder where there is none, or raises an InputError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"Expected --output to be in a folder that can be made, but {path} cannot ({error.strerror})"
        ) from None


def check_inputs(jobs: Sequence[Job], inputs: Sequence[str]) -> None:
    """Raises an InputError if a picture would be written over a photograph, a painting or another file that is read."""
    given = (option.partition("=")[2] for job in jobs for option in job.options)
    read = [*inputs, *(remote.place(x) if remote.is_address(x) else x for x in given)]
    for job in jobs:
        files.check_overwrites(job.output, read)
