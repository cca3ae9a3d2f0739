"""`nst studio`: the page on which pictures are made, on this machine."""

from __future__ import annotations

import logging
import os
import types
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch
import yaml

from nst.cli import presets
from nst.cli.explain import Parser
from nst.cli.settings import DEFAULT, KNOWN, JobCLI
from nst.cli.studio.loading import without_stubs
from nst.errors import InputError
from nst.machine.loading import without_collection
from nst.optimise.module import StyleTransfer
from nst.run.replay import LEFT, Replay
from nst.run.stopping import Stop
from nst.scene.data import PictureData
from nst.studio.asked import Limits, Setting
from nst.studio.folder import Folder
from nst.studio.orders import FILES
from nst.studio.queue import Queue
from nst.studio.worker import work
from nst.types import Bytes, Pixels, Seconds

log = logging.getLogger(__name__)

LOCAL = ("127.0.0.1", "localhost", "::1")
"""Hosts that nobody but this machine reaches."""

PORT = 7860

AUTH = "NST_STUDIO_AUTH"
"""The variable that holds name and password, where they are not to be seen on the command line."""


def studio(args: Sequence[str], stop: Stop) -> int:
    """Opens a page in the browser on which pictures are made, watched while they grow, and steered."""
    parser = Parser("nst studio", description=studio.__doc__, allow_abbrev=False)
    add, limits = parser.add_argument, Limits()
    add("--studio.port", type=int, help=f"The port; {PORT} by default, or the next that is free.")
    add("--studio.host", default=LOCAL[0], help="Where to listen; by default nobody but this machine gets in.")
    add("--studio.auth", help=f"NAME:PASSWORD that browsers are asked for; or in the variable {AUTH}.")
    add("--studio.folder", type=Path, default=Path.home() / ".cache" / "nst" / "studio", help="Where all files are.")
    add("--studio.max_age", type=Seconds.parse, default=Seconds(86400), help="Files older than this are removed.")
    add("--studio.max_disk", type=Bytes.parse, default=Bytes(4 << 30), help="The oldest files go above this size.")
    add("--studio.max_size", type=int, default=limits.size, help="The longer side of a picture, in pixels, at most.")
    add("--studio.max_time", type=Seconds.parse, default=Seconds(limits.time), help="Time of one picture, at most.")
    add("--studio.alone", type=Seconds.parse, default=Seconds(limits.alone), help="Time until a run ends unwatched.")
    add("--studio.max_upload", type=Bytes.parse, default=Bytes(64 << 20), help="Bytes of a file that is sent, at most.")
    add("--studio.max_pixels", type=int, default=limits.pixels, help="Pixels of a picture that is sent, at most.")
    add("--studio.queue", type=int, default=limits.queue, help="Pictures that may wait, at most.")
    add("--api-only", action="store_true", help="Only the API, without the page.")
    given = vars(parser.parse_args(list(args)))
    options = {name.removeprefix("studio."): value for name, value in given.items()}
    auth = options["auth"] or os.environ.get(AUTH)
    _check(options, auth)
    try:
        with without_collection(), without_stubs():
            from nst.studio.web.server import Options, serve
    except ModuleNotFoundError as error:
        raise InputError(
            f"Expected the packages of the studio, but {error.name} is not installed; give python3 -m pip install "
            "'nst[studio]'"
        ) from None
    limits = Limits(
        options["max_size"],
        float(options["max_time"]),
        options["queue"],
        float(options["alone"]),
        options["max_pixels"],
    )
    folder = Folder(options["folder"], float(options["max_age"]), int(options["max_disk"]))
    queue = Queue(paint, devices(), folder, limits)
    where = Options(options["host"], options["port"], auth, int(options["max_upload"]), options["api_only"])
    return serve(where, Words(), queue)


def paint(pipe: Connection) -> None:
    """Makes one picture, in a process of its own."""
    work(pipe, lambda args: JobCLI(args, "nst fit", ""))


def devices() -> list[list[str]]:
    """Returns arguments of `nst fit` for each device of this machine: one for each GPU, or one for all else."""
    count = torch.cuda.device_count()
    if count < 2:
        return [[]]
    return [["--trainer.accelerator=cuda", f"--trainer.devices=[{i}]"] for i in range(count)]


class Words:
    """The command line's settings, for the studio (see `asked.Language`)."""

    @cached_property
    def settings(self) -> list[Setting]:
        """The settings that a page may choose, in the order of `--help`."""
        helps = {x.dest: x.help or "" for x in _plain().parser._actions}
        found = [Setting("seed_everything", "Seed of the noise that a picture may start from.", "int")]
        found.append(Setting("budget", helps["budget"], "text"))
        for group, kind in (("model", StyleTransfer), ("data", PictureData)):
            hints = get_type_hints(kind.__init__)
            for name in hints:
                key = f"{group}.{name}"
                if name in KNOWN[group] - LEFT[group] and key not in FILES:
                    found.append(Setting(key, helps.get(key, ""), *_kind(hints[name])))
        return found

    @property
    def presets(self) -> Mapping[str, str]:
        """The presets' names, the usual one first, each with the first sentence of its file."""
        found = {name: presets.line(path) for name, path in presets.paths().items()}
        return {DEFAULT: found[DEFAULT], **found}

    def values(self, preset: str) -> dict[str, Any]:
        """Returns the values of all settings in a preset, plain values by key."""
        return dict(_values(preset))

    def parse(self, args: Sequence[str]) -> JobCLI:
        """Returns the settings of a picture, or raises an InputError."""
        return JobCLI(args, "nst fit", "")

    def taken(self, config: Mapping[str, Any], name: str) -> tuple[dict[str, Any], list[str]]:
        """Returns what may be taken of a stranger's settings, and the keys of what is left out."""
        parser = _plain().parser
        defaults = yaml.safe_load(parser.dump(parser.get_defaults(), skip_none=False))
        replay = Replay(config, defaults, KNOWN, name)
        return replay.config, replay.left_out


@cache
def _plain() -> JobCLI:
    return JobCLI(["--config", "{}"], "nst fit", "")


@cache
def _values(preset: str) -> dict[str, Any]:
    settings = JobCLI(["--config", preset], "nst fit", "").settings()
    keys = {f"{group}.{name}": x for group in ("model", "data") for name, x in settings[group].items()}
    return keys | {key: settings[key] for key in ("seed_everything", "budget")}


def _kind(hint: Any) -> tuple[str, tuple[str, ...]]:
    """Returns the kind of a setting, and its choices, by the type in its signature."""
    if get_origin(hint) in (Union, types.UnionType):
        words = [x for part in get_args(hint) if get_origin(part) is Literal for x in get_args(part)]
        others = [part for part in get_args(hint) if get_origin(part) is not Literal]
        # of a choice or a file, a page has the choice
        return ("choice", tuple(words)) if words and type(None) not in others else ("text", ())
    if get_origin(hint) is Literal:
        return "choice", tuple(map(str, get_args(hint)))
    for kind, name in ((bool, "bool"), (int, "int"), (float, "float")):
        if hint is kind or (name == "int" and hint is Pixels):
            return name, ()
    return "text", ()


def _check(options: Mapping[str, Any], auth: str | None) -> None:
    """Raises an InputError for options that cannot be."""
    port, host = options["port"], options["host"]
    if port is not None and not 1 <= port <= 65535:
        raise InputError(f"Expected --studio.port to be in [1, 65535], but got {port}")
    for name in ("max_size", "max_time", "max_age", "max_disk", "max_upload", "max_pixels", "queue", "alone"):
        if not options[name] > 0:
            raise InputError(f"Expected --studio.{name} to be above 0, but got {options[name]}")
    if auth is not None and not all(auth.partition(":")):
        raise InputError("Expected --studio.auth to be NAME:PASSWORD, but one of the two is missing")
    if host not in LOCAL and auth is None:
        raise InputError(
            f"Expected a password where others get in, but got --studio.host {host} without --studio.auth NAME:PASSWORD"
        )
