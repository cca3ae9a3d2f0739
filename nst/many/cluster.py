"""Many pictures side by side, by Ray: on this machine's cores, or on the machines of a cluster.

A picture is a task of Ray, which starts it where its resources are free and, if a worker or a machine is lost, again
elsewhere, TRIES times in all. A worker keeps its network from task to task. All machines see one file system: a task
reads the photograph there, keeps its checkpoint beside the picture to be, and goes on from a checkpoint that it finds.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import platform
import re
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

from nst.errors import InputError, RunError, one_line
from nst.machine.quiet import quiet_libraries
from nst.many.jobs import Job, JobRunner, Outcome
from nst.run.callbacks import Lines

TRIES = 3
"""How often a picture is begun whose worker is lost."""


@dataclass(frozen=True)
class Cluster:
    """Where pictures are made side by side.

    Attributes:
        address: `local` for this machine, `auto` for the cluster that it belongs to, `ray://host:port`, or `host:port`.
        cpus: Cores for a picture.
        gpus: GPUs for a picture; with a fraction, several pictures share one.

    Raises:
        InputError: If Ray is not installed, or a number is out of range.
    """

    address: str
    cpus: float = 1.0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.cpus) and self.cpus > 0):
            raise InputError(f"Expected --cluster.cpus to be above 0, but got {self.cpus:g}")
        if not (math.isfinite(self.gpus) and self.gpus >= 0) or (self.gpus > 1 and self.gpus != int(self.gpus)):
            raise InputError(f"Expected --cluster.gpus to be 0 to 1, or a whole number, but got {self.gpus:g}")
        try:
            import ray  # noqa: F401  # an extra that not everybody needs
        except ModuleNotFoundError:
            raise InputError(
                "Expected Ray to be installed for --cluster, but it is not; install it with "
                "`python3 -m pip install 'nst[cluster]'`, or leave --cluster out"
            ) from None

    def outcomes(
        self, jobs: Sequence[Job], maker: Callable[..., Any], args: Sequence[str]
    ) -> Iterator[tuple[Job, Outcome]]:
        """Makes pictures and yields what became of each, as they are done.

        Args:
            jobs: The pictures.
            maker: Returns a function as JobRunner takes, given `args`; called by the workers, which import it.
            args: The options that all pictures share.

        Raises:
            InputError: If the cluster cannot be reached.
            RunError: If the connection to the cluster is lost.
        """
        import ray

        with self._connected():
            task = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=TRIES - 1)(_make)
            waiting = {task.remote(maker, tuple(args), os.getcwd(), job): job for job in jobs}
            moves = sys.stdout.isatty()
            shape: dict[str, Any] = {"mininterval": 0.5}
            if not moves:
                left = "{n_fmt}/{total_fmt} done, {postfix} [{elapsed}, {remaining} left]"
                shape = {"mininterval": 10, "file": Lines(sys.stdout), "bar_format": left}
            bar = Tqdm(total=len(jobs), **{"file": sys.stdout, **shape})
            try:
                while waiting:
                    done, _ = ray.wait(list(waiting), timeout=1.0)
                    running = min(len(waiting), self._places())
                    bar.set_postfix({"running": running, "waiting": len(waiting) - running}, refresh=False)
                    bar.update(len(done))
                    bar.refresh() if moves else None
                    for reference in done:
                        job = waiting.pop(reference)
                        if moves:
                            bar.clear()
                        yield job, _outcome(reference, job)
            except ray.exceptions.RaySystemError as error:
                told = one_line(error, longest=300)
                raise RunError(f"Expected the cluster to go on, but it was lost: {told}") from None
            finally:
                bar.close()

    @contextmanager
    def _connected(self) -> Iterator[None]:
        import ray

        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        own: dict[str, Any] = {"include_dashboard": False} if self.address == "local" else {}
        began = not ray.is_initialized()
        if began:
            try:
                self._reach()
                ray.init(address=self.address, log_to_driver=False, logging_level=logging.ERROR, **own)
            except Exception as error:
                raise InputError(
                    f"Expected --cluster to be `local`, or a cluster that can be reached, but {self.address} cannot: "
                    f"{one_line(error, longest=300)}"
                ) from None
        try:
            yield
        finally:
            if began:
                ray.shutdown()  # which ends the tasks that are left

    def _reach(self) -> None:
        """Raises an OSError unless something listens at the address: Ray itself would wait for minutes."""
        if match := re.fullmatch(r"(?:ray://)?([^:/]+):(\d+)", self.address):
            socket.create_connection((match[1], int(match[2])), timeout=10).close()

    def _places(self) -> int:
        """Returns how many pictures the cluster can make at once."""
        import ray

        there = ray.cluster_resources()
        places = there.get("CPU", 0) / self.cpus
        return int(min(places, there.get("GPU", 0) / self.gpus) if self.gpus else places)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that say where many pictures are made side by side."""
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="Make the pictures side by side, by Ray: `local`, `auto` for the cluster that this machine belongs to, or "
        "`ray://host:port`. All its machines have to see the same files.",
    )
    parser.add_argument("--cluster.cpus", type=float, metavar="N", help="Cores for a picture; 1 by default.")
    parser.add_argument(
        "--cluster.gpus", type=float, metavar="N", help="GPUs for a picture, such as 0.25; 0 by default."
    )


def chosen(known: argparse.Namespace) -> Cluster | None:
    """Returns where pictures are made side by side; None for one after another in this process."""
    given = {name: getattr(known, f"cluster.{name}") for name in ("cpus", "gpus")}
    resources = {name: value for name, value in given.items() if value is not None}
    if known.cluster is not None:
        return Cluster(known.cluster, **resources)
    if resources:
        name = next(iter(resources))
        raise InputError(f"Expected --cluster with --cluster.{name}, but it was not given; add --cluster local")
    return None


def _outcome(reference: Any, job: Job) -> Outcome:
    import ray

    try:
        found: Outcome = ray.get(reference)
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError):
        return Outcome("failed", f"failed   {job.name}: the worker that made it was lost {TRIES} times")
    except ray.exceptions.RayTaskError as error:  # such as a version of nst without this task
        return Outcome("failed", f"failed   {job.name}: {one_line(error.cause, longest=300)}")
    return found


def _make(maker: Callable[..., Any], args: tuple[str, ...], folder: str, job: Job) -> Outcome:
    """Makes a picture in a worker, whose folder is that of the command."""
    try:
        os.chdir(folder)
    except OSError as error:
        told = f"Expected all machines to see the same files, but {platform.node()} has no {folder} ({error.strerror})"
        return Outcome("failed", f"failed   {job.name}: {told}")
    with quiet_libraries():
        return _runner(maker, args).outcome(job)


@cache
def _runner(maker: Callable[..., Any], args: tuple[str, ...]) -> JobRunner:
    """Returns the JobRunner of this worker, which has the network of the picture before."""
    return JobRunner(maker(args), keeps=True)
