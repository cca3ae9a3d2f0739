"""The queue in which runs wait for a device, and the processes that make them.

A process is made ready before it is needed, makes one picture, and ends. So nothing of one run gets into another, and a
process that dies is a message on a page. A run ends that nobody has watched for a while, unless it is pinned.
"""

from __future__ import annotations

import logging
import multiprocessing
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from nst.errors import InputError
from nst.studio.asked import Limits, Order
from nst.studio.folder import Folder
from nst.studio.run import Run

log = logging.getLogger(__name__)

GRACE = 60.0
"""Seconds beyond `--studio.max_time` after which the process of a run that does not end by itself is ended."""


class Queue:
    """Gives each device one run after another.

    Args:
        work: What a process runs: `worker.work` with the settings.
        devices: Arguments of `nst fit` for each device.
        folder: The studio's folder, which is cleaned after each run.
        limits: What a run may take.
    """

    def __init__(
        self, work: Callable[[Connection], None], devices: Sequence[Sequence[str]], folder: Folder, limits: Limits
    ) -> None:
        self.work, self.folder, self.limits = work, folder, limits
        self.runs: dict[str, Run] = {}
        self.rate: float | None = None  # seconds for a unit of cost
        self.processes: dict[int, BaseProcess] = {}
        self._waiting: list[Run] = []
        self._change = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._serve, args=(i, tuple(args)), daemon=True) for i, args in enumerate(devices)
        ]

    def start(self) -> None:
        """Starts a process for each device, which gets ready in the background."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Ends all runs and processes."""
        with self._change:
            self._closed = True
            self._change.notify_all()
        for process in [*self.processes.values()]:
            process.terminate()
        for thread in self._threads:
            thread.join(5)

    def check_room(self) -> None:
        """Raises an InputError if as many wait as may."""
        if len(self._waiting) >= self.limits.queue:
            raise InputError(
                f"Expected a place in the queue, but {len(self._waiting)} wait already, the most that --studio.queue "
                "allows; try again later"
            )

    def submit(self, run: Run) -> None:
        """Puts a run at the end of the queue."""
        with self._change:
            self.check_room()
            self.runs[run.token] = run
            self._waiting.append(run)
            self._change.notify()

    def find(self, token: object) -> Run | None:
        """Returns a run by its name, and notes that somebody watches it."""
        run = self.runs.get(str(token))
        if run is not None:
            run.seen = time.monotonic()
        return run

    def stop(self, run: Run) -> None:
        """Ends a run after its step, with the picture so far; one that waits leaves the queue."""
        with self._change:
            if run in self._waiting:
                self._waiting.remove(run)
                run.end("stopped", "Taken out of the queue.")
                return
        run.change(end="now")

    def place(self, run: Run) -> int:
        """Returns how many runs wait before one; 0 where it is next, or does not wait."""
        return self._waiting.index(run) if run in self._waiting else 0

    def expected(self, run: Run) -> float | None:
        """Returns the seconds until a run is expected to be done; None where no run has taught how long one takes."""
        if run.state in ("painting", "paused"):
            left: float | None = run.figures.get("left")
            return left
        ahead = [x for x in [*self.runs.values()] if x.state in ("starting", "painting", "paused") and x is not run]
        before = [*self._waiting[: self.place(run)], run]
        if self.rate is None:
            return None
        busy = [x.figures.get("left") or x.cost * self.rate for x in ahead]
        return (sum(busy) + sum(x.cost for x in before) * self.rate) / len(self._threads)

    def counts(self) -> dict[str, int]:
        """Returns how many runs wait, how many are made, and how many processes are alive."""
        alive = sum(process.is_alive() for process in [*self.processes.values()])
        made = sum(not run.over for run in [*self.runs.values()]) - len(self._waiting)
        return {"waiting": len(self._waiting), "painting": made, "processes": alive}

    def _serve(self, device: int, args: tuple[str, ...]) -> None:
        while not self._closed:
            process, pipe = self._process(device)
            run = self._next(process)
            if run is not None:
                run.order = Order((*run.order.args, *args), run.order.folder)
                self._follow(run, process, pipe)
            process.kill()
            process.join()
            pipe.close()

    def _process(self, device: int) -> tuple[BaseProcess, Connection]:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=self.work, args=(theirs,), daemon=True)
        process.start()
        theirs.close()
        self.processes[device] = process
        return process, ours

    def _next(self, process: BaseProcess) -> Run | None:
        """Waits for a run; returns None where the studio closes, or the process that waits has died."""
        with self._change:
            while not self._closed and process.is_alive():
                self._let_go()
                if self._waiting:
                    run = self._waiting.pop(0)
                    run.state = "starting"
                    return run
                self._change.wait(1.0)
        return None

    def _follow(self, run: Run, process: BaseProcess, pipe: Connection) -> None:
        """Hears a worker out, and ends a run that takes too long or that nobody watches."""
        run.pipe, asked, overdue, given = pipe, False, "", time.monotonic()
        try:
            pipe.send(run.order)
            while not run.over:
                if pipe.poll(0.5):
                    run.hear(pipe.recv())
                with self._change:
                    self._let_go()
                if time.monotonic() - (run.begun or given) > self.limits.time + GRACE:  # it hears nothing any more
                    overdue = f"Ended, as it made no step for long after {self.limits.time:.0f} s (--studio.max_time)."
                    process.kill()
                if not asked and run.begun is not None:
                    if time.monotonic() - run.begun > self.limits.time:
                        run.reason = f"Stopped after {self.limits.time:.0f} s, the most that --studio.max_time allows."
                    elif self._abandoned(run):
                        run.reason = "Stopped, as its page was closed."
                    else:
                        continue
                    asked = True
                    run.change(end="now")
        except (EOFError, OSError):
            process.join(5)
            run.end("failed", overdue or _death(process.exitcode))
        if run.state == "done" and run.begun is not None and run.ended is not None:
            rate = (run.ended - run.begun) / run.cost
            self.rate = rate if self.rate is None else (self.rate + rate) / 2
        log.info("%s: %s %s", run.title, run.state, run.message)
        busy = {x.token for x in [*self.runs.values()] if not x.over}
        self.folder.clean(busy)
        for token in [x.token for x in [*self.runs.values()] if x.over and not (self.folder.runs / x.token).exists()]:
            del self.runs[token]

    def _let_go(self) -> None:
        """Takes runs out of the queue that nobody watches."""
        for run in [x for x in self._waiting if self._abandoned(x)]:
            self._waiting.remove(run)
            run.end("stopped", "Its page was closed.")

    def _abandoned(self, run: Run) -> bool:
        return not run.pinned and time.monotonic() - run.seen > self.limits.alone


def _death(code: int | None) -> str:
    how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
    return (
        f"Expected the process that paints to go on, but it ended ({how}), as it may where memory is short; paint "
        "again, or at a smaller size"
    )
