"""What is asked for: the settings that there are, a page's wish, the order of a worker, and the limits of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import yaml
from numpy.typing import NDArray


@dataclass(frozen=True)
class Brushed:
    """What a painted region is to become.

    Attributes:
        name: The region's name, a key of PALETTE.
        painting: Number of its painting, from 0; None to keep the photograph.
        content_weight: Factor on the photograph's weight inside the region.
    """

    name: str
    painting: int | None = None
    content_weight: float = 1.0


@dataclass(frozen=True)
class Setting:
    """A setting of the command line.

    Attributes:
        key: Its name, such as `model.style_weight`.
        help: What it does, as `--help` says it.
        kind: `bool`, `int`, `float`, `choice`, or `text` for what is written in YAML.
        choices: The values of a `choice`.
    """

    key: str
    help: str
    kind: str
    choices: tuple[str, ...] = ()


class Language(Protocol):
    """The command line's settings, of which the studio knows no more than this."""

    @property
    def settings(self) -> Sequence[Setting]:
        """The settings that a page may choose."""

    @property
    def presets(self) -> Mapping[str, str]:
        """The presets' names, the usual one first, each with a sentence on it."""

    def values(self, preset: str) -> dict[str, Any]:
        """Returns the values of all settings in a preset, plain values by key."""

    def parse(self, args: Sequence[str]) -> Any:
        """Returns the settings of a picture (a `settings.JobCLI`), or raises an InputError."""

    def taken(self, config: Mapping[str, Any], name: str) -> tuple[dict[str, Any], list[str]]:
        """Returns what may be taken of a stranger's settings, and the keys of what is left out."""


@dataclass(frozen=True)
class Wish:
    """What a page asks for.

    Attributes:
        preset: The preset that the settings change.
        settings: Settings by key, such as `model.style_weight`.
        content: The photograph that was sent; None for the sample.
        styles: The paintings that were sent; the sample where there are none.
        colors: The map of regions, (H, W, 3); None for no regions.
        brushed: What each region is to become.
        pinned: Whether the run goes on where nobody watches.
    """

    preset: str
    settings: Mapping[str, Any]
    content: object = None
    styles: Sequence[object] = ()
    colors: NDArray[np.uint8] | None = None
    brushed: Sequence[Brushed] = ()
    pinned: bool = False


@dataclass(frozen=True)
class Order:
    """A picture to make.

    Attributes:
        args: The settings, as arguments of `nst fit`.
        folder: The folder for the picture.
    """

    args: tuple[str, ...]
    folder: Path


@dataclass
class Limits:
    """What one picture, and all together, may take.

    Attributes:
        size: Longer side of a picture, in pixels.
        time: Seconds of a run from its first step, with its pauses.
        queue: Pictures that may wait.
        alone: Seconds after which a run ends that nobody watches.
        pixels: Pixels of a picture that is sent.
    """

    size: int = 2048
    time: float = 1800.0
    queue: int = 20
    alone: float = 60.0
    pixels: int = 50_000_000


def flow(value: Any) -> str:
    """Returns a value in YAML of one line."""
    if isinstance(value, str):
        return value
    return (
        yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**9)
        .removesuffix("\n")
        .removesuffix("\n...")
    )
