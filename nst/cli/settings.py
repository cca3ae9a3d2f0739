"""The settings of a run: parsed from flags, configs and pictures, and turned into module, data and Trainer."""

from __future__ import annotations

import re
import tempfile
from argparse import ArgumentError
from collections.abc import Callable, Iterator, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import yaml
from lightning.pytorch.callbacks import LearningRateMonitor, ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger

from nst.cli import presets
from nst.cli.explain import explain, explained
from nst.distributed.strategy import RowsStrategy
from nst.errors import InputError
from nst.machine import clock, precision
from nst.many import remote
from nst.network import weights
from nst.optimise.module import StyleTransfer
from nst.pictures import files
from nst.pictures.images import Picture
from nst.run import checkpoints, record
from nst.run import flags as trainer
from nst.run.callbacks import Checkpoints, Progress, Result, Snapshots, StopAfterStep
from nst.run.folders import LOGS, Curves, RunFolder, folder_of
from nst.run.record import Record
from nst.run.replay import Replay
from nst.run.steering.changes import Change
from nst.run.steering.steering import Steering
from nst.run.stopping import Stop
from nst.scene import samples
from nst.scene.data import PictureData
from nst.scene.styles import Region, Style
from nst.streaming import plan
from nst.types import Seconds

PICTURES = (*files.SUFFIXES, ".gif", ".bmp", ".tga", ".ico", ".jp2", ".pcx", ".dds", ".icns", ".avif", ".qoi", ".psd")
"""Suffixes of pictures: `--config` reads the record in such a file, and never reads the file as a config."""

DEFAULT = "starry"
"""The preset of a run without a `--config`."""

KNOWN = {
    group: {*signature(kind.__init__).parameters} - {"self"}
    for group, kind in (("model", StyleTransfer), ("data", PictureData), ("trainer", pl.Trainer))
}
"""The names of all settings, by group."""


class SaveConfig(SaveConfigCallback):
    """Keeps the settings in the run's folder and shows them in TensorBoard."""

    def save_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        text = self.parser.dump(self.config, skip_none=False)
        path = folder_of(trainer) / self.config_filename
        files.write_text(path, text)
        settings = _flat(yaml.safe_load(text), ("model.", "data.", "trainer.precision", "seed"))
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                from torch.utils.tensorboard.summary import hparams  # which the logger has loaded by now

                logger.experiment.add_text("settings", f"```yaml\n{text}\n```")
                for summary in hparams(settings, {"total": None}):
                    logger.experiment.file_writer.add_summary(summary)


class FitCLI(LightningCLI):
    """Lightning's command line for one module and one data module, without subcommands."""

    model: StyleTransfer
    datamodule: PictureData

    def __init__(self, args: Sequence[str], prog: str, description: str, stop: Stop | None = None) -> None:
        self.args, self.stop = list(args), stop or Stop()
        self.made_from: Record | None = None
        self.replayed: list[str] = []
        self.notices: list[str] = []
        with explained():
            super().__init__(
                StyleTransfer,
                PictureData,
                save_config_callback=SaveConfig,
                save_config_kwargs={"save_to_log_dir": False},
                seed_everything_default=0,
                trainer_defaults={"enable_model_summary": False, "log_every_n_steps": 10},
                parser_kwargs={"prog": prog, "description": description, "exit_on_error": False},
                run=False,
                auto_configure_optimizers=False,
            )

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        try:
            self.config = parser.parse_args(self._unpacked(parser))
        except ArgumentError as error:
            raise InputError(explain(str(error), parser.get_defaults().keys())) from None

    def _unpacked(self, parser: LightningArgumentParser) -> list[str]:
        """Returns the arguments with presets replaced by their files, and pictures by the settings of their records."""
        words: list[str] = []
        for arg in self.args:
            match = re.fullmatch(r"(--config)=(.*)|(-c)=?(.+)", arg, re.DOTALL)
            words += [arg] if match is None else [x for x in match.groups() if x is not None]
        if not {"-c", "--config"} & {*words}:
            words = ["--config", str(presets.paths()[DEFAULT]), *words]
        for i, word in enumerate(words[1:], 1):
            if words[i - 1] not in ("-c", "--config"):
                continue
            words[i] = presets.find(word)
            if word.lower().endswith(PICTURES):
                self.made_from = record.read(word)
                defaults = yaml.safe_load(parser.dump(parser.get_defaults(), skip_none=False))
                replay = Replay(self.made_from["config"], defaults, KNOWN, word)
                self.replayed.append(word)
                words[i] = yaml.safe_dump(replay.config)
                if replay.left_out:
                    self.notices.append(
                        f"Left out of the record of {word}: {', '.join(replay.left_out)}; give them as flags if you "
                        "want them"
                    )
        return words

    def before_instantiate_classes(self) -> None:
        optimizer = getattr(self.config.model.optimizer, "class_path", "")
        trainer.check(self.config.trainer.as_dict(), optimizer)

    def instantiate_classes(self) -> None:
        with explained():
            super().instantiate_classes()

    def record(self) -> Record:
        """Returns the record of the run, once the network has been loaded."""
        files, numbers = dict(self.datamodule.files), weights.file(*self.model.source)
        if numbers is not None:
            files["model.weights"] = numbers
        assert self.model.features is not None
        return record.make(self.settings(), files, self.model.features.name)

    def settings(self) -> dict[str, Any]:
        """Returns the resolved settings as plain values."""
        settings = dict(yaml.safe_load(self.parser.dump(self.config, skip_none=False)))
        settings["trainer"]["precision"] = self.precision
        settings["model"]["convolution"] = plan.usable(self.config.model.convolution)
        return settings

    @property
    def precision(self) -> str:
        """The precision that the network runs in on this machine."""
        asked, accelerator = self.config.trainer.precision, self.config.trainer.accelerator
        return precision.fastest(accelerator) if asked is None else precision.usable(str(asked), accelerator)

    @property
    def inputs(self) -> list[str]:
        """All texts in the settings that may name an input file of the picture."""
        config = self.config
        named = [config.data.as_dict(), config.model.init, config.model.weights, config.ckpt_path, self.replayed]
        return list(texts(named))

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--output", type=str | None, help="Where to put the picture; the suffix sets the format.")
        parser.add_argument("--ckpt_path", type=str | None, help="Checkpoint to resume from; `last` for the newest.")
        parser.add_argument(
            "--allow_changes",
            type=bool,
            default=False,
            help="Resume also where photograph, paintings, network or settings are others than the checkpoint's.",
        )
        parser.add_argument("--budget", type=Seconds | None, help="Time for the whole run, such as `60s` or `2min`.")
        parser.add_argument(
            "--changes",
            type=list[Change] | None,
            help="Changes of settings while the run goes on, entries `{step, ...}` as the studio writes them.",
        )
        parser.add_lightning_class_args(Checkpoints, "checkpoints")
        parser.add_lightning_class_args(Snapshots, "snapshots")
        parser.link_arguments("model.init", "data.init")
        parser.link_arguments("model.padding", "data.tile", compute_fn=lambda padding: padding == "circular")
        parser.link_arguments("budget", "data.budget")

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        settings = self.config_init.trainer
        self.folder = RunFolder(self.root)
        given = settings.callbacks or []
        callbacks: list[pl.Callback] = [*(given if isinstance(given, list) else [given]), self.folder]
        if self.config_init.changes:
            callbacks.append(Steering(self.config_init.changes))
        callbacks += [StopAfterStep(self.stop), Result(self.config.output)]
        logger = settings.logger
        if logger is None or logger is True:
            logger = Curves(self.folder)
        if logger is not False:
            callbacks.append(LearningRateMonitor("step"))
        if settings.enable_progress_bar is not False and not any(isinstance(x, ProgressBar) for x in callbacks):
            callbacks.append(Progress())
        if settings.devices == "auto":
            kwargs["devices"] = 1
        elif settings.num_nodes > 1 or trainer.several(settings.devices):
            kwargs["strategy"] = RowsStrategy()
        self.datamodule.setup()  # makes the levels; each level is an epoch
        levels = {"max_epochs": len(self.datamodule.levels), "reload_dataloaders_every_n_epochs": 1}
        files = {"plugins": [checkpoints.CheckpointFiles()], "precision": self.precision}
        return super().instantiate_trainer(callbacks=callbacks, logger=logger, **levels, **files, **kwargs)

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[pl.Callback]) -> pl.Trainer:
        if config.get("enable_checkpointing") is False:
            callbacks = [callback for callback in callbacks if not isinstance(callback, Checkpoints)]
        return super()._instantiate_trainer(config, callbacks)

    @property
    def root(self) -> Path:
        """The folder below which runs are kept."""
        return Path(self.config.trainer.default_root_dir or ".")

    def check_root(self) -> None:
        """Raises an InputError unless the folder of all runs can be written."""
        try:
            (self.root / LOGS).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root / LOGS):
                pass
        except OSError as error:
            raise InputError(
                f"Expected --trainer.default_root_dir to be a folder that can be written, but {self.root} cannot "
                f"({error.strerror})"
            ) from None

    def checkpoint(self, now: Record) -> Path | None:
        """Returns the file of the checkpoint to resume from, after a check that it fits; None to start anew.

        Args:
            now: The record of this run.

        Raises:
            InputError: If there is no such checkpoint, or the checkpoint is of another run.
        """
        if self.config.ckpt_path is None:
            return None
        if self.config.changes:
            raise InputError(
                "Expected a run without --changes to go on from --ckpt_path, but this one has some; start anew without "
                "--ckpt_path"
            )
        path = Path(self.config.ckpt_path)
        if str(path) == "last":
            root = self.root / LOGS
            found = sorted(root.glob("*/checkpoints/last.ckpt"), key=lambda file: file.stat().st_mtime)
            if not found:
                raise InputError(f"Expected --ckpt_path last to find a checkpoint, but there is none below {root}")
            path = found[-1]
        checkpoint = checkpoints.read(path)
        with checkpoints.intact(path):
            self.model.check_checkpoint(checkpoint)
            if self.config.allow_changes:
                self.model.changed = bool(checkpoints.changes(checkpoint, now))
            else:
                checkpoints.check_same(checkpoint, now)
        return path


def job_settings(args: Sequence[str]) -> Callable[[Sequence[str]], JobCLI]:
    """Returns what JobCLI.maker does, in a worker, which no signal asks to stop."""
    return JobCLI.maker(args, Stop())


def texts(tree: Any) -> Iterator[str]:
    """Yields all texts in nested settings, some of which may name files."""
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, (dict, list)):
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from texts(value)
    elif isinstance(tree, (Style, Region)) or hasattr(tree, "as_dict"):
        yield from texts(vars(tree))


def _flat(tree: dict[str, Any], prefixes: tuple[str, ...], path: str = "") -> dict[str, Any]:
    """Returns the leaves of nested settings as plain values by dotted key, for keys with one of the prefixes."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, prefixes, f"{path}{key}.")
        elif f"{path}{key}".startswith(prefixes):
            flat[f"{path}{key}"] = value if isinstance(value, (bool, int, float, str)) else str(value)
    return flat


class JobCLI(FitCLI):
    """The run of `nst fit` without a run folder; nothing but the settings is read before `begin`.

    Attributes:
        pictures: Pictures that are in memory already, by role: `content`, `style`, `style[1]`.
        trainer_objects: Settings of the Trainer that are objects, which no parser reads.
    """

    def __init__(self, args: Sequence[str], prog: str, description: str, stop: Stop | None = None) -> None:
        self.pictures: dict[str, Picture] = {}
        self.trainer_objects: dict[str, Any] = {}
        super().__init__(args, prog, description, stop)

    @classmethod
    def maker(cls, args: Sequence[str], stop: Stop) -> Callable[[Sequence[str]], JobCLI]:
        """Returns a function that makes a picture's JobCLI from its own options; `args` are the shared options.

        Files may lie on other file systems (see `many.remote`).
        """
        return lambda options: cls(remote.fetched([*args, *options]), "nst fit", "", stop)

    def instantiate_classes(self) -> None:
        """Does nothing before `begin`: the settings alone tell whether the picture has to be made."""

    def begin(self) -> None:
        """Reads the pictures and makes model and Trainer; the whole time budget is left."""
        clock.restart()
        super().instantiate_classes()
        self.model.pace.spent = clock.elapsed()

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        self.datamodule.pictures |= self.pictures
        # set here and not among the options, which the picture's record keeps
        self.config_init.trainer.logger = self.config_init.trainer.enable_progress_bar = False
        for name, value in self.trainer_objects.items():
            self.config_init.trainer[name] = value
        trainer = super().instantiate_trainer(**kwargs)
        left_out = (Checkpoints, Progress, Result, RunFolder, SaveConfig, Snapshots, StopAfterStep)
        kept = [x for x in trainer.callbacks if not isinstance(x, left_out)]  # type: ignore[attr-defined]  # it has them
        trainer.callbacks = kept  # type: ignore[attr-defined]  # the Trainer's
        return trainer

    def is_made(self, output: Path) -> bool:
        """Whether `output` is a picture that was made, to the end, with these settings from these files."""
        try:
            before = record.read(output)
        except InputError:
            return False
        numbers = weights.file(self.config.model.backbone, self.config.model.weights)
        source = before.get("files", {}).get("model.weights", {}).get("path")
        # a record may name any file: only files of this run are read
        ours = {*self.inputs, *samples.files(), str(numbers)}
        return (
            before["config"] == record.settings(self.settings())
            and source == (numbers and str(numbers))
            and before.get("complete") is True
            and record.unchanged(before, ours)
        )
