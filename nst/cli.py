"""The command line: its commands, their exit codes, and in one line what went wrong."""

from __future__ import annotations

import io
import logging
import os
import shlex
import signal
import sys
from argparse import ArgumentError
from collections.abc import Sequence
from pathlib import Path

import torch
from jsonargparse import ArgumentParser
from lightning.fabric.utilities.exceptions import MisconfigurationException

from nst import __version__, checkpoints, clock, files, images, precision, presets, record
from nst.batch import Parser, batch
from nst.callbacks import Result
from nst.color import finished
from nst.errors import InputError, RunError, nearest
from nst.module import shown_picture
from nst.quiet import quiet_libraries
from nst.settings import CLI, explain
from nst.stopping import Stop
from nst.sweep import sweep

log = logging.getLogger(__name__)

HELP = f"""nst {__version__}: neural style transfer

  nst fit      make a picture: nst fit --config starry --data.content photo.jpg
  nst batch    make many: nst batch --config starry --data.content 'photos/*.jpg' --output out/
  nst sweep    compare settings: nst sweep --config starry --model.style_weight 1,10 --output sheet.png
  nst export   write the picture of a checkpoint: nst export --ckpt_path FILE --output picture.png
  nst presets  list the configs that come with nst, or print one: nst presets starry

Each has --help. A YAML config from a stranger is a program, as it may name any code; a picture is not."""


def fit(args: Sequence[str], stop: Stop) -> int:
    """Turns a photograph and a painting into a picture."""
    cli = CLI(args, "nst fit", fit.__doc__ or "", stop)
    # whatever can be wrong is found here, before a run folder is made
    for notice in cli.notices:
        log.info(notice)
    asked = cli.config.trainer.precision
    if asked is not None and precision.check(asked) != cli.precision:
        log.info(f"{asked} is not to be had on this machine, or only slowly: going on in {cli.precision}")
    if cli.config.output is not None:
        level = cli.datamodule.levels[-1]
        files.check_size(cli.config.output, level.height, level.width)
        files.check_overwrites(cli.config.output, cli.inputs)
    cli.model.pace.spent = clock.elapsed()
    with cli.trainer.precision_plugin.forward_context():
        cli.model.prepare(cli.datamodule.levels)
    now = cli.record()
    path = cli.checkpoint(now)
    cli.check_root()
    trainer = cli.trainer
    result = next(x for x in trainer.callbacks if isinstance(x, Result))  # type: ignore[attr-defined]  # it has
    result.record = now
    for line in record.differences(cli.made_from, now) if cli.made_from else ():
        log.info(line)
    try:
        with checkpoints.intact(path, lambda: not stop.stepping):
            trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=path)
    except SystemExit:  # Lightning's end of a second Ctrl-C, or of one before the first step
        if stop.number is None:
            raise
    finally:
        began, stop.stepping = stop.stepping, False
    if stop.number is not None and not began:
        raise KeyboardInterrupt
    folder = cli.folder.path
    checkpoint = folder / "checkpoints" / "last.ckpt"
    resume = ["nst", "fit", "--config", str(folder / "config.yaml"), "--ckpt_path", str(checkpoint)]
    if stop.number is not None or trainer.progress_bar_callback is not None:
        print(f"picture   {result.paths(trainer)[0]}")
        print(f"curves    tensorboard --logdir {shlex.quote(str(folder.parent))}")
        if checkpoint.exists():
            print(f"resume    {shlex.join(resume)}")
    return 0 if stop.number is None else stop.code


def export(args: Sequence[str], stop: Stop) -> int:
    """Writes the picture that a checkpoint holds."""
    parser = ArgumentParser(prog="nst export", description=export.__doc__, exit_on_error=False)
    parser.add_argument("--ckpt_path", type=str, required=True, help="A checkpoint of a run.")
    parser.add_argument("--output", type=str, required=True, help="Where to put it; the suffix sets the format.")
    try:
        settings = parser.parse_args(list(args))
    except ArgumentError as error:
        raise InputError(explain(str(error), ["ckpt_path", "output"])) from None
    files.check_output(settings.output)
    files.check_overwrites(settings.output, [settings.ckpt_path])
    path = Path(settings.ckpt_path)
    checkpoint = checkpoints.read(path)
    with checkpoints.intact(path):
        alpha, lab, kept = (checkpoint.get("PictureData", {}).get(key) for key in ("alpha", "lab", "kept"))
        made, text = checkpoint["nst"], checkpoint.get("record")
        picture = shown_picture(checkpoint["state_dict"], made["average"], made["bleed"])
        picture = finished(picture, lab, kept)
        alpha = None if alpha is None else alpha / 255
        images.encode(picture, alpha)  # whatever is wrong with them is found here
    files.check_size(settings.output, *picture.shape[2:])
    images.save(picture, settings.output, alpha, text if isinstance(text, str) else None)
    print(f"picture   {settings.output}")
    return 0


def show_presets(args: Sequence[str], stop: Stop) -> int:
    """Lists the configs that come with nst, a line each, or prints one."""
    parser = Parser("nst presets", description=show_presets.__doc__)
    parser.add_argument("name", nargs="?", help="The preset to print, to begin a config of your own with.")
    name, found = parser.parse_args(list(args)).name, presets.paths()
    if name is None:
        width = max(map(len, found))
        for preset, path in found.items():
            print(f"{preset:{width}}  {presets.line(path)}")
    elif name in found:
        print(found[name].read_text(encoding="utf-8"), end="")
    else:
        raise InputError(f"Expected a preset, one of {', '.join(found)}, but got {name}{nearest(name, found)}")
    return 0


COMMANDS = {"fit": fit, "export": export, "batch": batch, "sweep": sweep, "presets": show_presets}


def main(args: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        args: The words after `nst`; by default those of the command line.

    Returns:
        The exit code: 0, 2 for wrong input, 1 for a failure, 128 plus its number for a signal.
    """
    if args is not None:
        clock.restart()
    command, *rest = list(sys.argv[1:] if args is None else args) or ["--help"]
    if command in ("-h", "--help", "--version"):
        print(__version__ if command == "--version" else HELP)
        return 0
    for stream in (sys.stdout, sys.stderr):  # names of files may have what a terminal cannot show
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    notices = logging.getLogger("nst")
    handler = logging.StreamHandler(sys.stdout)
    handler.format = lambda record: files.one_line(record.getMessage(), longest=4000)  # type: ignore[method-assign]  # as it is to be
    notices.addHandler(handler)
    notices.setLevel(logging.INFO)
    stop = Stop()
    try:
        if command not in COMMANDS:
            *names, last = COMMANDS
            known = f"{', '.join(names)} or {last}"
            raise InputError(f"Expected a command, {known}, but got {command}{nearest(command, COMMANDS)}")
        with quiet_libraries(), stop:
            return COMMANDS[command](rest, stop)
    except (InputError, MisconfigurationException, ModuleNotFoundError) as error:  # the last of a callback's own needs
        return _fail(2, error)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except (RunError, OSError, MemoryError, torch.OutOfMemoryError) as error:
        return _fail(1, error)
    except (KeyboardInterrupt, SystemExit) as error:
        if isinstance(error, SystemExit) and stop.number is None:  # as after --help
            raise
        print(f"nst: stopped by {(stop.number or signal.SIGINT).name}", file=sys.stderr)
        return stop.code
    finally:
        notices.removeHandler(handler)


def _fail(code: int, error: BaseException) -> int:
    print(f"nst: error: {files.one_line(error, longest=2000) or type(error).__name__}", file=sys.stderr)
    return code
