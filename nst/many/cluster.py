"""Many pictures side by side, by Ray: on this machine's cores, or on the machines of a cluster.

A picture, or a scene of a clip, is a task of Ray, which starts it where its resources are free and, if a worker or a
machine is lost, again elsewhere, TRIES times in all. A worker keeps its network from task to task. All machines see one
file system, or files are named by addresses (see `remote`): a task reads the photograph there, keeps its checkpoint
beside the picture to be, and goes on from a checkpoint that it finds.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import platform
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import torch
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

from nst.errors import InputError, RunError, one_line
from nst.machine.quiet import quiet_libraries
from nst.many.jobs import Job, Outcome
from nst.run.callbacks import Lines
from nst.run.stopping import SIGNALS

log = logging.getLogger(__name__)

TRIES = 3
"""How often a picture is begun whose worker is lost."""


class Runner(Protocol):
    """Makes pictures, one after another, in a worker."""

    def outcome(self, job: Job) -> Outcome:
        """Makes a picture, and says what became of it, whatever that is."""


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
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # read when Ray is loaded: a worker that takes all memory would be started again for ever
        os.environ.setdefault("RAY_task_oom_retries", str(TRIES - 1))
        try:
            import ray  # noqa: F401  # an extra that not everybody needs
        except ModuleNotFoundError:
            raise InputError(
                "Expected Ray to be installed for --cluster, but it is not; install it with "
                "`python3 -m pip install 'nst[cluster]'`, or leave --cluster out"
            ) from None

    def outcomes(
        self, jobs: Sequence[Job], runner: Callable[[Sequence[str]], Runner], args: Sequence[str]
    ) -> Iterator[tuple[Job, Outcome]]:
        """Makes pictures and yields what became of each, as they are done.

        Args:
            jobs: The pictures.
            runner: Returns what makes the pictures, given `args`; called by each worker once, which imports it.
            args: The options that all pictures share.

        Raises:
            InputError: If the cluster cannot be reached, or this machine has not what a picture needs.
            RunError: If the connection to the cluster is lost.
        """
        import ray

        with self._connected():
            self._check_room()
            # without max_calls, Ray ends a worker that had a GPU after each task, and its network with it
            task = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=TRIES - 1, max_calls=0)(_make)
            threads, told = max(1, int(self.cpus)), set[str]()
            waiting = {task.remote(runner, tuple(args), os.getcwd(), threads, job): job for job in jobs}
            moves = sys.stdout.isatty()
            shape: dict[str, Any] = {"mininterval": 0.5}
            if not moves:
                left = "{n_fmt}/{total_fmt} done{postfix} [{elapsed}, {remaining} left]"
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
                        outcome, notices = _outcome(reference, job)
                        for notice in notices:
                            if notice not in told:  # each worker has it
                                log.info(notice)
                        told.update(notices)
                        yield job, outcome
            except ray.exceptions.RaySystemError as error:
                reason = one_line(error, longest=300)
                raise RunError(f"Expected the cluster to go on, but it was lost: {reason}") from None
            finally:
                bar.close()

    @contextmanager
    def _connected(self) -> Iterator[None]:
        import ray

        own: dict[str, Any] = {"include_dashboard": False} if self.address == "local" else {}
        began = not ray.is_initialized()
        if began:
            handlers = {number: signal.getsignal(number) for number in SIGNALS}
            try:
                self._reach()
                ray.init(address=self.address, log_to_driver=False, logging_level=logging.ERROR, **own)
            except Exception as error:
                raise InputError(
                    f"Expected --cluster to be `local`, or a cluster that can be reached, but {self.address} cannot: "
                    f"{one_line(error, longest=300)}"
                ) from None
            if threading.current_thread() is threading.main_thread():
                for number, handler in handlers.items():  # Ray takes SIGTERM, and would end with a dump of its stack
                    signal.signal(number, handler)
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
        """Returns how many pictures the cluster can make at once: each is made by one machine."""
        import ray

        needs = {"CPU": self.cpus, "GPU": self.gpus}
        machines = [machine["Resources"] for machine in ray.nodes() if machine["Alive"]]
        # 1 / 0.1 is a little less than 10 for a computer
        return sum(min(int(x.get(name, 0) / n + 1e-6) for name, n in needs.items() if n) for x in machines)

    def _check_room(self) -> None:
        """Raises an InputError if this machine can make no picture; says it of a cluster, which may grow."""
        if self._places() == 0:
            needs = f"{self.cpus:g} cores (--cluster.cpus) and {self.gpus:g} GPUs (--cluster.gpus)"
            if self.address == "local":
                raise InputError(f"Expected this machine to have {needs} for a picture, but it has not; give less")
            log.info(f"No machine of the cluster has {needs} for a picture: waiting for one")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that say where many pictures are made side by side."""
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="Make pictures, or a clip's scenes, side by side, by Ray: `local`, `auto` for this machine's cluster, or "
        "`ray://host:port`. All its machines have to see the same files, or addresses such as s3://bucket/photos/a.jpg.",
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


class _Notices(logging.Handler):
    """Keeps what is said while a picture is made, for the screen of the command."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def _outcome(reference: Any, job: Job) -> tuple[Outcome, list[str]]:
    """Returns what became of a picture, and what was said while it was made."""
    import ray

    try:
        found: tuple[Outcome, list[str]] = ray.get(reference)
        return found
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError):
        reason = f"the worker that made it was lost {TRIES} times"
    except ray.exceptions.RaySystemError:
        raise
    except ray.exceptions.RayTaskError as error:  # such as a version of nst without this task
        reason = one_line(error.cause, longest=300)
    except ray.exceptions.RayError as error:
        reason = one_line(error, longest=300)
    return Outcome("failed", f"failed   {job.name}: {reason}"), []


def _make(
    runner: Callable[[Sequence[str]], Runner], args: tuple[str, ...], folder: str, threads: int, job: Job
) -> tuple[Outcome, list[str]]:
    """Makes a picture in a worker, whose folder is that of the command."""
    torch.set_num_threads(threads)  # a worker may have the command's OMP_NUM_THREADS, which is for all cores
    try:
        os.chdir(folder)
    except OSError as error:
        if not job.address:  # else all that it needs may be elsewhere
            missing = f"{platform.node()} has no {folder} ({error.strerror})"
            told = f"Expected all machines to see the same files, but {missing}"
            return Outcome("failed", f"failed   {job.name}: {told}"), []
    said, ours = _Notices(), logging.getLogger("nst")
    ours.setLevel(logging.INFO)
    ours.addHandler(said)
    try:
        with quiet_libraries():
            return _kept(runner, args).outcome(job), said.texts
    finally:
        ours.removeHandler(said)


@cache
def _kept(runner: Callable[[Sequence[str]], Runner], args: tuple[str, ...]) -> Runner:
    """Returns the runner of this worker, which has the network of the picture before."""
    return runner(args)
