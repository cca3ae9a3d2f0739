"""The command line: its commands, their exit codes, and errors in one line."""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version

from nst.distributed.ranks import is_first, launched
from nst.errors import InputError, LostProcessError, RunError, nearest, one_line
from nst.machine import clock
from nst.machine.loading import without_collection
from nst.machine.quiet import quiet_libraries
from nst.run.stopping import Stop

log = logging.getLogger(__name__)

Command = Callable[[Sequence[str], Stop], int]

HELP = f"""nst {version("nst")}: neural style transfer

  nst fit      make a picture: nst fit --config starry --data.content photo.jpg
  nst batch    make many: nst batch --config starry --data.content 'photos/*.jpg' --output out/
  nst sweep    compare settings: nst sweep --config starry --model.style_weight 1,10 --output sheet.png
  nst video    paint a clip: nst video --config starry --data.content clip.mp4 --output painted.mp4
  nst export   write the picture of a checkpoint: nst export --ckpt_path FILE --output picture.png
  nst studio   a page in the browser on which all this is a drag, a slider or a brush
  nst presets  list the configs that come with nst, or print one: nst presets starry
  nst env      what this machine and this installation are, for a report of something that went wrong

Each has --help. A YAML config from a stranger is a program, as it may name any code; a picture is not."""


COMMANDS = {
    "fit": "nst.cli.fit.fit",
    "export": "nst.cli.export.export",
    "batch": "nst.cli.batch.batch",
    "sweep": "nst.cli.sweep.sweep",
    "video": "nst.cli.video.command.video",
    "studio": "nst.cli.studio.command.studio",
    "presets": "nst.cli.presets.show_presets",
    "env": "nst.cli.env.command.show",
}
"""The function of each command, which is imported when the command is given: torch takes seconds to load."""


def main(args: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        args: The words after `nst`; by default the words of the command line.

    Returns:
        The exit code: 0 for success, 2 for wrong input, 1 for a failure, 128 plus the signal's number for a signal.
    """
    if args is not None:
        clock.restart()
    command, *rest = list(sys.argv[1:] if args is None else args) or ["--help"]
    if command in ("-h", "--help", "--version"):
        print(version("nst") if command == "--version" else HELP)
        return 0
    for stream in (sys.stdout, sys.stderr):  # names of files may have characters that a terminal lacks
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    notices = logging.getLogger("nst")
    handler = logging.StreamHandler(sys.stdout)
    # type: ignore, as a format of one line needs no Formatter
    handler.format = lambda record: one_line(record.getMessage(), longest=4000)  # type: ignore[method-assign]
    notices.addHandler(handler)
    notices.setLevel(logging.INFO if is_first() else logging.WARNING)
    stop = Stop()
    try:
        if command not in COMMANDS:
            *names, last = COMMANDS
            known = f"{', '.join(names)} or {last}"
            raise InputError(f"Expected a command, {known}, but got {command}{nearest(command, COMMANDS)}")
        with stop:
            module, _, name = COMMANDS[command].rpartition(".")
            with without_collection():
                run: Command = getattr(import_module(module), name)
            with quiet_libraries():  # now, as libraries set their loggers' levels when they are loaded
                return run(rest, stop)
    except (InputError, ModuleNotFoundError) as error:  # a callback may need the missing one
        return _fail(2, error)
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except (RunError, OSError, MemoryError) as error:
        return _fail(1, error)
    except (KeyboardInterrupt, SystemExit) as error:
        if isinstance(error, SystemExit) and stop.number is None:  # such as after --help
            raise
        print(f"nst: stopped by {(stop.number or signal.SIGINT).name}", file=sys.stderr)
        return stop.code
    except Exception as error:
        code = _code_of_libraries(error)
        if code is None:
            raise
        return _fail(code, error)
    finally:
        notices.removeHandler(handler)


def _code_of_libraries(error: Exception) -> int | None:
    """Returns the exit code of an error that a library has for people; None for any other."""
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from torch import OutOfMemoryError

    return 2 if isinstance(error, MisconfigurationException) else 1 if isinstance(error, OutOfMemoryError) else None


def _fail(code: int, error: BaseException) -> int:
    if launched() and isinstance(error, LostProcessError):
        time.sleep(1)  # for the first process's end to be known: it says so, unless it is what was lost
    same = isinstance(error, InputError) and not is_first()  # each process finds what is wrong with the input
    if not same and not (launched() and isinstance(error, LostProcessError)):
        print(f"nst: error: {one_line(error, longest=2000) or type(error).__name__}", file=sys.stderr)
    return code
