"""Many pictures in one process, one after another, with one network."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nst.errors import InputError, one_line, shown
from nst.network.features import Features
from nst.optimise.targets import StyleCache
from nst.pictures import files, images
from nst.run import record

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A picture to make.

    Attributes:
        name: What distinguishes the picture from the others, for people.
        options: The command line's options that distinguish the picture from the others.
        output: The file of the picture.
    """

    name: str
    options: list[str]
    output: Path


class JobRunner:
    """Makes pictures one after another; loads a network once, and computes a painting's statistics once at each size.

    Args:
        settings: Returns the settings of a picture (a `settings.JobCLI`) from the options of its Job; raises an
            InputError if the options are wrong.
    """

    def __init__(self, settings: Callable[[Sequence[str]], Any]) -> None:
        self.settings = settings
        self.networks: dict[Hashable, tuple[Features, StyleCache]] = {}

    def make(self, job: Any, output: Path) -> None:
        """Makes the picture of a job's settings and writes it to a file."""
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
        made_of = job.record()  # now, as a file may be gone when the picture is done
        level = data.levels[-1]
        files.check_size(output, level.height, level.width)
        trainer.fit(model, datamodule=data)
        text = record.dump(made_of, trainer.global_step, complete=True)
        images.save(data.finished(model.shown), output, data.alpha, text)

    def work(self, jobs: Sequence[Job]) -> list[Job]:
        """Makes the pictures that do not exist yet, prints a line for each and a summary, and returns the failed jobs.

        Raises:
            InputError: If settings that all pictures share are wrong, or a picture would overwrite an input file.
        """
        first = self.settings(next((job for job in jobs if job.name.isprintable()), jobs[0]).options)
        for notice in first.notices:
            log.info(notice)
        check_inputs(jobs, first.inputs)
        for folder in {job.output.parent: None for job in jobs}:
            make_folder(folder)
        for place in {job.output.with_stem("picture"): None for job in jobs}:  # errors that a folder's pictures share
            files.check_output(place)
        failed, made = [], 0
        for number, job in enumerate(jobs, 1):
            start = time.monotonic()
            try:
                files.check_output(job.output)
                settings = self.settings(job.options)
                if settings.is_made(job.output):
                    line = f"skipped  {job.name}: {job.output} is made already, with these settings"
                else:
                    self.make(settings, job.output)
                    made += 1
                    line = f"made     {job.name}: {job.output}, {time.monotonic() - start:.1f} s"
            except Exception as error:  # one picture's failure, whatever it is, must not end the others
                failed.append(job)
                line = f"failed   {job.name}: {one_line(error, longest=2000) or type(error).__name__}"
            print(f"{number}/{len(jobs)}  {shown(line)}", flush=True)
        skipped = len(jobs) - made - len(failed)
        print(f"{len(jobs)} pictures: {made} made, {skipped} skipped, {len(failed)} failed", flush=True)
        return failed


def check_distinct(jobs: Sequence[Job]) -> None:
    """Raises an InputError if two pictures would be written to the same file."""
    places: dict[str, Job] = {}
    for job in jobs:
        # paths that are equal but for case are one file to some file systems: these are compared closely
        other = places.setdefault(os.path.realpath(job.output).casefold(), job)
        if other is not job and files.same_place(other.output, job.output):
            raise InputError(
                f"Expected --output to give each picture a place of its own, but {other.name} and {job.name} would "
                f"both be written to {job.output}; rename one, put {{name}} into --output, or make them in two batches"
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
    read = [*inputs, *(option.partition("=")[2] for job in jobs for option in job.options)]
    for job in jobs:
        files.check_overwrites(job.output, read)
