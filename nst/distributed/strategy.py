"""Lightning's strategy for processes that share the rows of a picture.

Lightning starts the processes, or finds those that torchrun, SLURM or Kubernetes have started. We differ from its DDP
in one thing: the module is not wrapped, as its gradient is complete when a step has been taken backward (see
`processes.py`), and as DistributedDataParallel takes no parameter whose size changes from level to level.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from torch import nn

from nst.distributed.processes import Processes, lost, lost_message
from nst.distributed.ranks import LAUNCHER, launched
from nst.machine import threads

LOOK, PATIENCE = 0.5, 8.0
"""Seconds between two looks at whether the other processes of this machine are there, and seconds in which a process
that has lost another one may come to its end by itself."""


TIMEOUT = timedelta(hours=2)
"""How long processes wait for each other: steps of large pictures take long, and so does writing them."""


class RowsStrategy(DDPStrategy):
    """Processes that each answer for a share of the rows of a picture.

    Args:
        timeout: How long processes wait for each other.
        **settings: See DDPStrategy.

    Raises:
        LostProcessError: If another process is lost.
    """

    def __init__(self, timeout: timedelta = TIMEOUT, **settings: Any) -> None:
        super().__init__(timeout=timeout, **settings)

    def _configure_launcher(self) -> None:
        super()._configure_launcher()
        if isinstance(self._launcher, _SubprocessScriptLauncher):
            assert self.cluster_environment is not None
            self._launcher = _Launcher(self.cluster_environment, self.num_processes, self.num_nodes)

    def setup_environment(self) -> None:
        super().setup_environment()
        if self.root_device.type == "cpu" and torch.get_num_threads() == threads.cores():
            torch.set_num_threads(max(1, threads.cores() // self.num_processes))

    def _setup_model(self, model: nn.Module) -> Any:
        return model

    def _register_ddp_hooks(self) -> None:
        """Does nothing: there is no DistributedDataParallel to hook."""

    def barrier(self, *args: Any, **kwargs: Any) -> None:
        with lost():
            super().barrier(*args, **kwargs)

    def broadcast(self, obj: Any, src: int = 0) -> Any:
        with lost():
            return super().broadcast(obj, src)


def processes_of(trainer: pl.Trainer) -> Processes:
    """Returns the processes of a Trainer's run, before they are started or after."""
    if not isinstance(trainer.strategy, RowsStrategy):
        return Processes()
    return Processes(trainer.global_rank, trainer.world_size, trainer.num_devices)


class _Launcher(_SubprocessScriptLauncher):
    """Starts the other processes of this machine, and ends what is left of them where one is killed.

    Lightning's own observer kills the first process as well, which then can neither keep its picture nor say why.
    """

    def launch(self, function: Callable[..., Any], *args: Any, trainer: pl.Trainer | None = None, **kwargs: Any) -> Any:
        if self.cluster_environment.creates_processes_externally:
            if launched():
                _watch(lambda: not launched(), threading.Event())
            return super().launch(function, *args, trainer=trainer, **kwargs)
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        os.environ[LAUNCHER] = str(os.getpid())
        self._call_children_scripts()
        over = threading.Event()
        _watch(lambda: any(map(_failed, self.procs)), over, self._kill)
        try:
            result = function(*args, **kwargs)
            self._wait(PATIENCE)
        finally:
            over.set()
            self.kill(signal.SIGTERM)  # of those that are left, after an error
            self._wait(PATIENCE / 2)
            self._kill()
            for name in (LAUNCHER, "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
                os.environ.pop(name, None)
        return result

    def _wait(self, seconds: float) -> None:
        """Waits until all processes have ended, but not for longer than some seconds."""
        until = time.monotonic() + seconds
        for process in self.procs:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, until - time.monotonic()))

    def _kill(self) -> None:
        for process in self.procs:
            process.kill()


def _failed(process: subprocess.Popen[Any]) -> bool:
    """Whether a process has ended otherwise than well, or as a signal asked it to, which then all of them do."""
    code = process.poll()
    return code is not None and code != 0 and code < 128


def _watch(is_lost: Callable[[], bool], over: threading.Event, end: Callable[[], None] = lambda: None) -> None:
    """Ends this process where another one is lost and PATIENCE has passed: it may be in a step that takes an hour.

    Args:
        is_lost: Returns whether another process was lost.
        over: Set when the run has ended, and this process may live on.
        end: Called before this process ends.
    """

    def run() -> None:
        while not is_lost():
            if over.wait(LOOK):
                return
        if over.wait(PATIENCE):  # the error of the next message has ended the run, and its picture is kept
            return
        print(f"nst: error: {lost_message()}", file=sys.stderr, flush=True)
        end()
        os._exit(1)

    threading.Thread(target=run, daemon=True, name="other processes").start()
