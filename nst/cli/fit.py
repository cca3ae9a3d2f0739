"""`nst fit`: a picture from a photograph and a painting."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence

from nst.cli.settings import FitCLI
from nst.distributed.strategy import processes_of
from nst.machine import clock, precision
from nst.pictures import files
from nst.run import checkpoints, record
from nst.run.callbacks import Result
from nst.run.stopping import Stop
from nst.streaming import plan

log = logging.getLogger(__name__)


def fit(args: Sequence[str], stop: Stop) -> int:
    """Turns a photograph and a painting into a picture."""
    cli = FitCLI(args, "nst fit", fit.__doc__ or "", stop)
    # all wrong input is found before a run folder is made
    for notice in cli.notices:
        log.info(notice)
    asked = cli.config.trainer.precision
    if asked is not None and precision.check(asked) != cli.precision:
        log.info(f"{asked} is not to be had on this machine, or only slowly: going on in {cli.precision}")
    if cli.config.model.convolution == "winograd" != plan.usable("winograd"):
        log.info("winograd is not to be had on this machine: going on in direct, the same within rounding")
    if cli.config.output is not None:
        level = cli.datamodule.levels[-1]
        files.check_size(cli.config.output, level.height, level.width)
        files.check_overwrites(cli.config.output, cli.inputs)
    cli.model.pace.spent = clock.elapsed()
    cli.model.processes = processes_of(cli.trainer)
    with cli.trainer.precision_plugin.forward_context():
        cli.model.prepare(cli.datamodule.levels)
    now = cli.record()
    path = cli.checkpoint(now)
    cli.check_root()
    trainer = cli.trainer
    result = next(x for x in trainer.callbacks if isinstance(x, Result))  # type: ignore[attr-defined]  # the Trainer's
    result.record = now
    for line in record.differences(cli.made_from, now) if cli.made_from else ():
        log.info(line)
    try:
        with checkpoints.intact(path, lambda: not stop.stepping):
            trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=path)
    except SystemExit:  # Lightning exits after a second Ctrl-C, or one before the first step
        if stop.number is None:
            raise
    finally:
        began, stop.stepping = stop.stepping, False
    if stop.number is not None and not began:
        raise KeyboardInterrupt
    if not trainer.is_global_zero:
        return 0 if stop.number is None else stop.code
    folder = cli.folder.path
    checkpoint = folder / "checkpoints" / "last.ckpt"
    resume = ["nst", "fit", "--config", str(folder / "config.yaml"), "--ckpt_path", str(checkpoint)]
    if stop.number is not None or trainer.progress_bar_callback is not None:
        print(f"picture   {result.paths(trainer)[0]}")
        print(f"curves    tensorboard --logdir {shlex.quote(str(folder.parent))}")
        if checkpoint.exists():
            print(f"resume    {shlex.join(resume)}")
    return 0 if stop.number is None else stop.code
