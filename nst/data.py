"""From picture files to levels: what the optimisation looks at, at one size."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as nnf
from lightning.pytorch import LightningDataModule
from torch import Tensor

from nst import color as colors
from nst import images, memory
from nst.color import Color, Matching
from nst.errors import InputError
from nst.images import MAX_PIXELS, Picture
from nst.types import InputPath, Pixels, Seconds

log = logging.getLogger(__name__)

Init = Literal["content", "noise", "gray", "style"]

SAMPLE_STYLE = Path(__file__).parent / "assets" / "night.jpg"
SMALLEST = 8
"""Pixels of the shorter side below which a photograph or a painting holds nothing to look at."""

UNLIMITED = 10**6
"""Steps of a level that ends by the clock."""
OVERHEAD = 100**2
"""Pixels that cost as much time as what a step costs at any size."""

SMALLEST_LEVEL = 32
"""Pixels of the shorter side below which a level on the way to the result is left out."""


@dataclass(frozen=True)
class Level:
    """One size of the optimisation.

    Attributes:
        index: Position in the order of levels, from 0.
        steps: Optimiser steps to take at this size, at the most.
        content: The photograph at the result's size, (1, 3, H, W), in [0, 1].
        style: The painting at its own shape, (1, 3, h, w), in [0, 1].
        init: The picture to start from, (1, 3, H, W), where a file was given.
        seconds: The level's share of the time budget, where there is one.
        min_improvement: See PictureData.
    """

    index: int
    steps: int
    content: Tensor
    style: Tensor
    init: Tensor | None = None
    seconds: float | None = None
    min_improvement: float = 0.0

    @property
    def height(self) -> int:
        return self.content.shape[2]

    @property
    def width(self) -> int:
        return self.content.shape[3]


class Steps:
    """A data loader whose batches are one level, once for each step; it resumes where a checkpoint left it."""

    def __init__(self, level: Level) -> None:
        self.level = level
        self.position = 0
        self._start = 0

    def __len__(self) -> int:
        return self.level.steps

    def __iter__(self) -> Iterator[Level]:
        start, self._start = self._start, 0
        for position in range(start, self.level.steps):
            self.position = position + 1
            yield self.level

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._start = state["position"]


class PictureData(LightningDataModule):
    """The photograph and the painting of one picture.

    Args:
        content: The photograph: a file, or `sample` for the one that comes with the package.
        style: The painting: a file, or `sample` for the one that comes with the package.
        size: Longer side of the result, in pixels.
        min_size: Longer side of the smallest level: the picture is made there first and grows from level to level.
            By default there is one level, at `size`.
        ratio: Size of a level over that of the level before.
        steps: Optimiser steps at each level; a list gives them from the smallest level on, and its last number holds
            for all further levels.
        budget: Time for the whole run, such as `60s` or `2min`. The levels share it as `steps` would, and make as many
            steps as they have time for. What a run makes of it depends on the machine.
        min_improvement: End a level when the mean objective of 20 steps is less than this share below that of the 20
            steps before; 0 for never.
        style_scale: Longer side of the painting over that of the result: below 1 for finer strokes, above for coarser.
            A painting is never enlarged past its own pixels.
        color: Whose colours the result wears: `style`, the painting's; `content`, the photograph's: its chroma and its
            broad light and shade, so that only the lightness of strokes is painted; `match`, the painting recoloured to
            the mean and covariance of the photograph's colours; `histogram`, recoloured to their whole distribution.
        color_match: How `match` does it: `symmetric` moves the colours least, `pca`, or `cholesky`.
        max_pixels: Refuse larger files, which may be decompression bombs.
        init: Where to start from: a file here is read and handed on, a word is the model's to interpret.
        tile: Whether the result is to tile; the photograph and a file to start from are then made to tile first.

    Raises:
        InputError: If a number is out of range; files are looked at in `setup`.
    """

    def __init__(
        self,
        content: Literal["sample"] | InputPath = "sample",
        style: Literal["sample"] | InputPath = "sample",
        size: Pixels = Pixels(512),
        min_size: Pixels | None = None,
        ratio: float = 2**0.5,
        steps: int | list[int] = 500,
        budget: Seconds | None = None,
        min_improvement: float = 0.0,
        style_scale: float = 1.0,
        color: Color = "style",
        color_match: Matching = "symmetric",
        max_pixels: int = MAX_PIXELS,
        init: Init | InputPath = "content",
        tile: bool = False,
    ) -> None:
        super().__init__()
        if size < 1:
            raise InputError(f"Expected --data.size to be 1 pixel or more, but got {size}")
        if min_size is not None and min_size < 1:
            raise InputError(f"Expected --data.min_size to be 1 pixel or more, but got {min_size}")
        if not 1 < ratio < float("inf"):
            raise InputError(f"Expected --data.ratio to be above 1, but got {ratio}")
        if not steps or min(steps if isinstance(steps, list) else [steps]) < 1:
            raise InputError(f"Expected --data.steps to be 1 or more, but got {steps}")
        if budget is not None and not 0 < budget < float("inf"):
            raise InputError(f"Expected --budget to be above 0 seconds, but got {budget}")
        if not 0 <= min_improvement < 1:
            raise InputError(f"Expected --data.min_improvement to be in [0, 1), but got {min_improvement}")
        if not 0 < style_scale < float("inf"):
            raise InputError(f"Expected --data.style_scale to be above 0, but got {style_scale}")
        self.content, self.style, self.init = content, style, init
        self.size, self.min_size, self.ratio = size, min_size or size, ratio
        self.steps = steps if isinstance(steps, list) else [steps]
        self.budget, self.min_improvement = budget, min_improvement
        self.style_scale, self.max_pixels = style_scale, max_pixels
        self.tile, self.color = tile, color
        self.color_match: Matching = color_match
        self.pictures: dict[str, Picture] = {}
        self.files: dict[str, Path] = {}
        self.levels: list[Level] = []
        self.alpha: Tensor | None = None
        self.lab: Tensor | None = None

    def setup(self, stage: str | None = None) -> None:
        """Reads the files and makes the levels, once."""
        if self.levels:
            return
        content = self._picture("content", self.content)
        style = self._picture("style", self.style)
        init = self._picture("init", self.init) if _is_file(self.init) else None
        self._check(*fit(content.height, content.width, self.size), content)
        if self.tile:
            content = content.resized(*fit(content.height, content.width, self.size))
            content = replace(content, rgb=images.periodic(content.rgb))
            init = replace(init, rgb=images.periodic(init.rgb)) if init else None
        if self.color != "style":
            content, style = self._colored(content, style)
        sizes = self._sizes(content)
        for index, (size, steps, seconds) in enumerate(zip(sizes, *self._plan(sizes), strict=True)):
            fitted = content.resized(*fit(content.height, content.width, size))
            start = init.resized(fitted.height, fitted.width).rgb if init and index == 0 else None
            painting = self._fit_style(style, size).rgb
            self.levels.append(Level(index, steps, fitted.rgb, painting, start, seconds, self.min_improvement))
        self.alpha = fitted.alpha

    def train_dataloader(self) -> Steps:
        epoch = self.trainer.current_epoch if self.trainer is not None else 0
        return Steps(self.levels[min(epoch, len(self.levels) - 1)])

    def finished(self, picture: Tensor) -> Tensor:
        """Returns the picture, (1, 3, H, W) in [0, 1], with the photograph's colours where they are asked for."""
        return picture if self.lab is None else finished(picture, self.lab)

    def state_dict(self) -> dict[str, Any]:
        """The opacity of the result, as bytes, and its colours, so that a checkpoint can be exported with them."""
        state = {} if self.alpha is None else {"alpha": (self.alpha * 255).round().to(torch.uint8)}
        return state if self.lab is None else {**state, "lab": self.lab}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to restore: opacity and colours come from the photograph."""

    def _picture(self, role: str, source: str) -> Picture:
        if role not in self.pictures:
            path = str(sample_path(role)) if source == "sample" else source
            key = "model.init" if role == "init" else f"data.{role}"
            self.pictures[role] = images.load(path, key, self.max_pixels)
            self.files[key] = Path(path)
        return self.pictures[role]

    def _colored(self, content: Picture, style: Picture) -> tuple[Picture, Picture]:
        """Returns photograph and painting at the result's size as the network is to see them."""
        fitted = content.resized(*fit(content.height, content.width, self.size))
        painting = style.resized(*fit(style.height, style.width, self._style_size(style, self.size)))
        if self.color == "content":
            self.lab = colors.to_lab(fitted.rgb)
        rgb, painted = colors.recolored(
            *(self.color, fitted.rgb, painting.rgb, self.color_match, fitted.alpha, painting.alpha)
        )
        return replace(fitted, rgb=rgb), replace(painting, rgb=painted)

    def _sizes(self, content: Picture) -> list[int]:
        """Returns the levels' longer sides, ascending; a level too narrow for a network to see anything is left out."""
        sizes: list[int] = [self.size]
        while (smaller := round(self.size / self.ratio ** len(sizes))) >= self.min_size:
            if min(fit(content.height, content.width, smaller)) < SMALLEST_LEVEL:
                break
            sizes.append(smaller)
        return sizes[::-1]

    def _plan(self, sizes: list[int]) -> tuple[list[int], list[float | None]]:
        """Returns the most steps, and the seconds, of each level."""
        steps = [self.steps[min(index, len(self.steps) - 1)] for index in range(len(sizes))]
        if self.budget is None:
            return steps, [None] * len(sizes)
        costs = [count * (size**2 + OVERHEAD) for count, size in zip(steps, sizes, strict=True)]
        return [UNLIMITED] * len(sizes), [self.budget * cost / sum(costs) for cost in costs]

    def _check(self, height: int, width: int, content: Picture) -> None:
        if min(content.height, content.width) < SMALLEST:
            raise InputError(
                f"Expected --data.content to be at least {SMALLEST}×{SMALLEST} pixels, "
                f"but {content.name} is {content.width}×{content.height}"
            )
        if min(height, width) < SMALLEST:
            raise InputError(
                f"Expected a result of at least {SMALLEST}×{SMALLEST} pixels, but {content.name} "
                f"({content.width}×{content.height}) becomes {width}×{height} at this size; "
                "raise --data.size or crop the picture"
            )
        # the picture, its gradient and Adam's two moments; the network comes on top
        needed, there = 4 * 12 * height * width, memory.total(torch.device("cpu"))
        if needed > there:
            raise InputError(
                f"Expected --data.size to fit into memory, but {width}×{height} pixels need more than "
                f"{memory.readable(needed)} and this machine has {memory.readable(there)}; lower --data.size"
            )

    def _fit_style(self, style: Picture, size: int) -> Picture:
        if min(style.height, style.width) < SMALLEST:
            raise InputError(
                f"Expected --data.style to be at least {SMALLEST}×{SMALLEST} pixels, "
                f"but {style.name} is {style.width}×{style.height}"
            )
        longer, wanted = self._style_size(style, size), round(size * self.style_scale)
        if longer < wanted and size == self.size:
            log.info(
                "The painting %s is %d×%d and is not enlarged to %d pixels: its strokes come out finer",
                *(style.name, style.width, style.height, wanted),
            )
        return style.resized(*fit(style.height, style.width, longer))

    def _style_size(self, style: Picture, size: int) -> int:
        """Returns the painting's longer side at a level of that size: never more than its own."""
        return min(max(1, round(size * self.style_scale)), max(style.height, style.width))


def finished(picture: Tensor, lab: Tensor) -> Tensor:
    """Gives a picture, (1, 3, H, W), the colours of the photograph at the result's size, in CIE L*a*b*."""
    size = picture.shape[2:]
    if lab.shape[2:] != size:  # while a run is on its way to the result
        lab = nnf.interpolate(lab, size, mode="bicubic", align_corners=False, antialias=True)
    return colors.with_colors(picture, lab.to(picture))


def fit(height: int, width: int, longer: int) -> tuple[int, int]:
    """Returns height and width of the same aspect whose longer side is `longer`, each at least 1."""
    scale = longer / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def sample_path(role: str) -> Path:
    """Returns the sample photograph (scikit-image's `rocket`, public domain) or painting (our own)."""
    if role == "style":
        return SAMPLE_STYLE
    package = find_spec("skimage")
    assert package is not None and package.origin is not None  # a dependency
    return Path(package.origin).parent / "data" / "rocket.jpg"


def _is_file(init: str) -> bool:
    return init not in ("content", "noise", "gray", "style")
