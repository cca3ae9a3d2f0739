"""The command line: parses, links, and says in one line what went wrong."""

from __future__ import annotations

import logging
import pickle
import re
import shlex
import signal
import sys
import tempfile
from argparse import ArgumentError
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import yaml
from jsonargparse import ArgumentParser
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard.summary import hparams

from nst import __version__, clock, images, precision, record, weights
from nst.callbacks import Checkpoints, Progress, Result, Snapshots
from nst.color import finished
from nst.data import PictureData
from nst.errors import InputError, RunError, nearest
from nst.guides import Region, Style
from nst.module import StyleTransfer, shown_picture
from nst.quiet import quiet_libraries
from nst.record import Record
from nst.types import WORDS, Seconds

log = logging.getLogger(__name__)

LOGS = "lightning_logs"
HELP = f"""nst {__version__}: neural style transfer

  nst fit      make a picture: nst fit --config configs/starry.yaml --data.content photo.jpg
  nst batch    make many: nst batch --config configs/starry.yaml --data.content 'photos/*.jpg' --output out/
  nst sweep    compare settings: nst sweep --config configs/starry.yaml --model.style_weight 1,10 --output sheet.png
  nst export   write the picture of a checkpoint: nst export --ckpt_path FILE --output picture.png

Each has --help."""


class SaveConfig(SaveConfigCallback):
    """Keeps the settings in the run's folder and shows them in TensorBoard."""

    def save_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        text = self.parser.dump(self.config, skip_none=False)
        settings = _flat(yaml.safe_load(text), ("model.", "data.", "trainer.precision", "seed"))
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_text("settings", f"```yaml\n{text}\n```")
                for summary in hparams(settings, {"total": None}):
                    logger.experiment.file_writer.add_summary(summary)


class CLI(LightningCLI):
    """Lightning's command line for one module and one data module, without subcommands."""

    model: StyleTransfer
    datamodule: PictureData

    def __init__(self, args: Sequence[str], prog: str, description: str) -> None:
        self.made_from: Record | None = None
        self.args = self._unpacked(args)
        super().__init__(
            StyleTransfer,
            PictureData,
            save_config_callback=SaveConfig,
            seed_everything_default=0,
            trainer_defaults={"enable_model_summary": False, "log_every_n_steps": 10},
            parser_kwargs={"prog": prog, "description": description, "exit_on_error": False},
            run=False,
            auto_configure_optimizers=False,
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        try:
            self.config = parser.parse_args(self.args)
        except ArgumentError as error:
            raise InputError(explain(str(error), parser.get_defaults().keys())) from None

    def _unpacked(self, args: Sequence[str]) -> list[str]:
        """Returns the arguments with the settings that a picture holds in the place of that picture's name."""
        words = [word for arg in args for word in (arg.split("=", 1) if arg.startswith("--config=") else [arg])]
        for i, word in enumerate(words[1:], 1):
            if words[i - 1] in ("-c", "--config") and word.lower().endswith(images.SUFFIXES):
                self.made_from = record.read(word)
                words[i] = yaml.safe_dump(self.made_from["config"])
        return words

    def record(self) -> Record:
        """Describes the run, once its network has been loaded."""
        files, numbers = dict(self.datamodule.files), weights.file(*self.model.source)
        if numbers is not None:
            files["model.weights"] = numbers
        assert self.model.features is not None
        return record.make(self.settings(), files, self.model.features.name)

    def settings(self) -> dict[str, Any]:
        """Returns the resolved settings as plain values."""
        settings = dict(yaml.safe_load(self.parser.dump(self.config, skip_none=False)))
        trainer = settings["trainer"]
        trainer["precision"] = trainer["precision"] or precision.fastest(trainer["accelerator"])
        return settings

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--output", type=str | None, help="Where to put the picture; the suffix sets the format.")
        parser.add_argument("--ckpt_path", type=str | None, help="Checkpoint to resume from; `last` for the newest.")
        parser.add_argument("--budget", type=Seconds | None, help="Time for the whole run, such as `60s` or `2min`.")
        parser.add_lightning_class_args(Checkpoints, "checkpoints")
        parser.add_lightning_class_args(Snapshots, "snapshots")
        parser.link_arguments("model.init", "data.init")
        parser.link_arguments("model.padding", "data.tile", compute_fn=lambda padding: padding == "circular")
        parser.link_arguments("budget", "data.budget")

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        settings = self.config_init.trainer
        if settings.accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
            raise InputError(
                f"Expected --trainer.accelerator to be one that this machine has, but got {settings.accelerator} "
                "and there is no CUDA device; use --trainer.accelerator cpu"
            )
        if settings.precision is None:
            kwargs["precision"] = precision.fastest(settings.accelerator)
        given = settings.callbacks or []
        callbacks: list[pl.Callback] = [*(given if isinstance(given, list) else [given]), Result(self.config.output)]
        logger, own = settings.logger, TensorBoardLogger(self.root, LOGS, default_hp_metric=False)
        if logger is None or logger is True:
            logger = own
        if logger is False:
            kwargs["default_root_dir"] = own.log_dir  # a run has a folder of its own, with or without curves
        else:
            callbacks.append(LearningRateMonitor("step"))
        if settings.enable_progress_bar is not False:
            callbacks.append(Progress())
        self.datamodule.setup()  # which finds out how many levels there are; each is an epoch
        levels = {"max_epochs": len(self.datamodule.levels), "reload_dataloaders_every_n_epochs": 1}
        return super().instantiate_trainer(callbacks=callbacks, logger=logger, **levels, **kwargs)

    @property
    def root(self) -> Path:
        """The folder below which runs are kept."""
        return Path(self.config.trainer.default_root_dir or ".")

    def check_root(self) -> None:
        """Raises an InputError unless runs can be kept."""
        try:
            (self.root / LOGS).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root / LOGS):
                pass
        except OSError as error:
            raise InputError(
                f"Expected --trainer.default_root_dir to be a folder that can be written, but {self.root} cannot "
                f"({error.strerror})"
            ) from None

    def checkpoint(self) -> Path | None:
        """Returns the checkpoint to resume from, once it has been found to fit.

        Raises:
            InputError: If there is none, or it is of another run.
        """
        if self.config.ckpt_path is None:
            return None
        path = Path(self.config.ckpt_path)
        if str(path) == "last":
            root = self.root / LOGS
            found = sorted(root.glob("*/checkpoints/last.ckpt"), key=lambda file: file.stat().st_mtime)
            if not found:
                raise InputError(f"Expected --ckpt_path last to find a checkpoint, but there is none below {root}")
            path = found[-1]
        self.model.on_load_checkpoint(read_checkpoint(path))
        return path


def fit(args: Sequence[str]) -> int:
    """Turns a photograph and a painting into a picture."""
    cli = CLI(args, "nst fit", fit.__doc__ or "")
    # whatever can be wrong is found here, before a run folder is made
    cli.model.pace.spent = clock.elapsed()
    with cli.trainer.precision_plugin.forward_context():
        cli.model.prepare(cli.datamodule.levels)
    path = cli.checkpoint()
    cli.check_root()
    trainer = cli.trainer
    checkpoints = next(x for x in trainer.checkpoint_callbacks if isinstance(x, Checkpoints))
    result = next(x for x in trainer.callbacks if isinstance(x, Result))  # type: ignore[attr-defined]  # it has
    result.record = cli.record()
    for line in record.differences(cli.made_from, result.record) if cli.made_from else ():
        log.info(line)
    try:
        trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=path)
    except SystemExit:  # Lightning's end of a second Ctrl-C
        checkpoints.stopped_by = checkpoints.stopped_by or signal.SIGINT
    checkpoint = checkpoints.path(trainer)
    folder = checkpoint.parent.parent
    resume = ["nst", "fit", "--config", str(folder / "config.yaml"), "--ckpt_path", str(checkpoint)]
    if checkpoints.stopped_by is not None or trainer.progress_bar_callback is not None:
        print(f"picture   {result.paths(trainer)[0]}")
        print(f"curves    tensorboard --logdir {shlex.quote(str(folder.parent))}")
        if checkpoint.exists():
            print(f"resume    {shlex.join(resume)}")
    return 0 if checkpoints.stopped_by is None else 128 + checkpoints.stopped_by


def export(args: Sequence[str]) -> int:
    """Writes the picture that a checkpoint holds."""
    parser = ArgumentParser(prog="nst export", description=export.__doc__, exit_on_error=False)
    parser.add_argument("--ckpt_path", type=str, required=True, help="A checkpoint of a run.")
    parser.add_argument("--output", type=str, required=True, help="Where to put it; the suffix sets the format.")
    try:
        settings = parser.parse_args(list(args))
    except ArgumentError as error:
        raise InputError(explain(str(error), ["ckpt_path", "output"])) from None
    images.check_output(settings.output)
    checkpoint = read_checkpoint(Path(settings.ckpt_path))
    alpha, lab, kept = (checkpoint.get("PictureData", {}).get(key) for key in ("alpha", "lab", "kept"))
    made = checkpoint["nst"]
    picture = shown_picture(checkpoint["state_dict"], made["average"], made["bleed"])
    picture = finished(picture, lab, kept)
    images.save(picture, settings.output, None if alpha is None else alpha / 255, checkpoint.get("record"))
    print(f"picture   {settings.output}")
    return 0


def batch(args: Sequence[str]) -> int:
    """Makes one picture after another in the same manner."""
    from nst import batch  # which is built on this module

    return batch.batch(args)


def sweep(args: Sequence[str]) -> int:
    """Makes a sheet of pictures with different settings."""
    from nst import sweep

    return sweep.sweep(args)


COMMANDS = {"fit": fit, "export": export, "batch": batch, "sweep": sweep}


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
    notices = logging.getLogger("nst")
    handler = logging.StreamHandler(sys.stdout)
    notices.addHandler(handler)
    notices.setLevel(logging.INFO)
    try:
        if command not in COMMANDS:
            *names, last = COMMANDS
            known = f"{', '.join(names)} or {last}"
            raise InputError(f"Expected a command, {known}, but got {command}{nearest(command, COMMANDS)}")
        with quiet_libraries():
            return COMMANDS[command](rest)
    except (InputError, MisconfigurationException) as error:
        return _fail(2, error)
    except (RunError, OSError, MemoryError, torch.OutOfMemoryError) as error:
        return _fail(1, error)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    finally:
        notices.removeHandler(handler)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint of ours, without running any code in it.

    Raises:
        InputError: If there is no such file or it is not a checkpoint of ours.
    """
    if not path.is_file():
        raise InputError(f"Expected --ckpt_path to be a checkpoint, but {path} is not a file")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError):
        checkpoint = None
    if not isinstance(checkpoint, dict) or "bleed" not in checkpoint.get("nst", {}):
        raise InputError(f"Expected --ckpt_path to be a checkpoint of nst, but {path} is not")
    return checkpoint


def explain(message: str, keys: Iterable[str]) -> str:
    """Makes one line of a parser's error, with the nearest of the known keys where one was misspelt."""
    text = " ".join(message.split()).replace("- ", "")
    if match := re.search(r"[Uu]nrecognized arguments: (\S+)", text):
        option = match[1].partition("=")[0]
        return f"Expected a known option, but got {option}{nearest(option, [f'--{key}' for key in keys])}"
    if match := re.search(r"Group '(\S+)' does not accept option '(\S+)'", text):
        key = f"{match[1]}.{match[2]}"
        return f"Expected a known key in the config, but got {key}{nearest(key, keys)}"
    if match := re.search(r"Option '(\S+)' is not accepted", text):
        known = [*keys, *(field.name for entry in (Style, Region) for field in fields(entry))]
        return f"Expected a known key in the config, but got {match[1]}{nearest(match[1], known)}"
    if match := re.search(r"arguments are required: (.*)", text):
        return f"Expected --{match[1].replace(', ', ' and --')}, but it was not given"
    text = re.sub(r"<class '([\w.]+)'>", lambda found: found[1].rpartition(".")[2], text)
    text = re.sub(r"typing\.Literal\[(.*?)\]", lambda found: f"one of {found[1]}", text)
    if match := re.search(r'Parser key "([\w.]+)"[^:]*: (.*)', text):
        key, reason = match[1], match[2]
        wrong = re.fullmatch(r"Expected an? (.*?)\. Got value: (.*)", reason)
        wrong = wrong or re.fullmatch(r".*Subtypes: \[(.*)\] Errors: .* Given value: (.*)", reason)
        if wrong:
            kinds = re.sub("|".join(WORDS), lambda found: WORDS[found[0]], wrong[1].removesuffix(", NoneType"))
            return f"Expected --{key} to be {kinds}, but got {wrong[2]}"
        return f"--{key}: {reason}"
    return text


def _fail(code: int, error: BaseException) -> int:
    print(f"nst: error: {' '.join(str(error).split()) or type(error).__name__}", file=sys.stderr)
    return code


def _flat(tree: dict[str, Any], prefixes: tuple[str, ...], path: str = "") -> dict[str, Any]:
    """Returns the leaves of nested settings that start with one of the prefixes, by dotted key, as plain values."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, prefixes, f"{path}{key}.")
        elif f"{path}{key}".startswith(prefixes):
            flat[f"{path}{key}"] = value if isinstance(value, (bool, int, float, str)) else str(value)
    return flat
