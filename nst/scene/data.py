"""Turns picture files into the levels of the pyramid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from nst.errors import InputError, check_choice
from nst.machine import memory
from nst.pictures import color as colors
from nst.pictures import images
from nst.pictures.color import Color, Matching
from nst.pictures.decoding import MAX_PIXELS
from nst.pictures.geometry import fit, periodic
from nst.pictures.images import Picture
from nst.scene import samples
from nst.scene.levels import OVERHEAD, Level, LevelLoader, Start
from nst.scene.masks import mask_files, read_regions, read_style_mask
from nst.scene.scene import LoadedStyle, Scene
from nst.scene.styles import Region, Style, check_styles
from nst.types import InputPath, Pixels, Seconds

SMALLEST = 8
"""Shorter side, in pixels, below which a photograph or a painting has too little content and is refused."""

UNLIMITED = 10**6
"""Steps of a level that ends by the clock."""
FAR = 1.5
"""A level of at least so many times the size of `afar` is looked at from afar."""

SMALLEST_LEVEL = 32
"""Shorter side, in pixels, below which a level before the last is left out."""


class PictureData(LightningDataModule):
    """The photograph and the painting of one picture.

    Args:
        content: The photograph: a file, or a sample: `sample:rocket`, which is `sample`, `sample:chelsea`,
            `sample:astronaut` or `sample:coffee`.
        style: The painting: a file, or a sample: `sample:night`, which is `sample`, `sample:woodcut`, `sample:glass`,
            `sample:ink`, `sample:dots` or `sample:mosaic`; or a list of files, samples or entries
            `{image, weight, scale, layers, mask, region}`.
        size: Longer side of the result, in pixels.
        min_size: Longer side of the smallest level: the picture is made at this size first and grows from level to
            level. By default there is one level, at `size`.
        ratio: Ratio of a level's size to the size of the level before.
        steps: Optimiser steps at each level; a list gives the steps from the smallest level on, and its last number
            holds for all further levels.
        afar: Longer side, in pixels, to which every level of 1.5 times the size or more is scaled down and looked at as
            well: from afar, the picture then looks like a result of that size, where otherwise its composition drifts.
        budget: Time for the whole run, such as `60s` or `2min`. The levels share the time as their `steps` would, and
            make as many steps as their time allows. The number of steps, and so the result, depends on the machine.
        min_improvement: End a level when the mean objective of 20 steps is less than this share below the mean of the
            20 steps before; 0 for never.
        style_scale: Ratio of the painting's longer side to the result's: below 1 for finer strokes, above 1 for coarser
            strokes. A painting is never enlarged past its own pixels.
        color: Colours of the result: `style`, the painting's; `content`, the photograph's chroma and broad light and
            shade, so that only the lightness of strokes is painted; `match`, the painting recoloured to the mean and
            covariance of the photograph's colours; `histogram`, the painting recoloured to their whole distribution.
        color_match: Method of `match`: `symmetric`, which moves the colours least, `pca` or `cholesky`.
        style_weights: Weights of the styles in the order of `style`, in the place of the entries' own weights.
        regions: Parts of the photograph by name, each a mask or an entry `{mask, color, content_weight, keep, erode}`.
        max_pixels: Refuse larger files, which may be decompression bombs.
        init: Start of the optimisation: a picture file, which is read here, or a word, which the model interprets.
        tile: Whether the result is to tile; the photograph and a picture file in `init` are then made to tile first.

    Raises:
        InputError: If a number is out of range; `setup` checks the files.
    """

    def __init__(
        self,
        content: Literal["sample"] | InputPath = "sample",
        style: Literal["sample"] | InputPath | list[Literal["sample"] | InputPath | Style] = "sample",
        size: Pixels = Pixels(512),
        min_size: Pixels | None = None,
        ratio: float = 2**0.5,
        steps: int | list[int] = 500,
        afar: Pixels | None = None,
        budget: Seconds | None = None,
        min_improvement: float = 0.0,
        style_scale: float = 1.0,
        color: Color = "style",
        color_match: Matching = "symmetric",
        style_weights: list[float] | None = None,
        regions: dict[str, InputPath | Region] | None = None,
        max_pixels: int = MAX_PIXELS,
        init: Start | InputPath = "content",
        tile: bool = False,
    ) -> None:
        super().__init__()
        check_choice("data.color", color, Color)
        check_choice("data.color_match", color_match, Matching)
        if size < 1:
            raise InputError(f"Expected --data.size to be 1 pixel or more, but got {size}")
        if min_size is not None and min_size < 1:
            raise InputError(f"Expected --data.min_size to be 1 pixel or more, but got {min_size}")
        if not 1 < ratio < float("inf"):
            raise InputError(f"Expected --data.ratio to be above 1, but got {ratio}")
        if not steps or min(steps if isinstance(steps, list) else [steps]) < 1:
            raise InputError(f"Expected --data.steps to be 1 or more, but got {steps}")
        if afar is not None and afar < 1:
            raise InputError(f"Expected --data.afar to be 1 pixel or more, but got {afar}")
        if budget is not None and not 0 < budget < float("inf"):
            raise InputError(f"Expected --budget to be above 0 seconds, but got {budget}")
        if not 0 <= min_improvement < 1:
            raise InputError(f"Expected --data.min_improvement to be in [0, 1), but got {min_improvement}")
        if not 0 < style_scale < float("inf"):
            raise InputError(f"Expected --data.style_scale to be above 0, but got {style_scale}")
        self.content, self.init = content, init
        self.styles, self.regions = _styles(style, style_weights), _regions(regions)
        check_styles(self.styles, self.regions)
        self.size, self.min_size, self.ratio = size, min_size or size, ratio
        self.afar = afar
        self.steps = steps if isinstance(steps, list) else [steps]
        self.budget, self.min_improvement = budget, min_improvement
        self.style_scale, self.max_pixels = style_scale, max_pixels
        self.tile, self.color = tile, color
        self.color_match: Matching = color_match
        self.pictures: dict[str, Picture] = {}
        self.files: dict[str, Path] = {}
        self.levels: list[Level] = []
        self.plan: list[tuple[int, int, float | None]] = []
        self.alpha: Tensor | None = None
        self.lab: Tensor | None = None
        self.protected: Tensor | None = None

    def setup(self, stage: str | None = None) -> None:
        """Reads the files and makes the levels, once."""
        if self.levels:
            return
        self._make_levels()

    def change(self, at: int, size: int | None = None, color: Color | None = None) -> None:
        """Makes the levels anew, as a run that goes on with other settings needs them.

        Args:
            at: Index of the level that the run is at; it and those before it keep their sizes and steps.
            size: Longer side of the result, in pixels; the levels after `at` are those of a result of this size.
            color: Colours of the result.

        Raises:
            InputError: If the size is not above that of the level, or the levels end by the clock.
        """
        if size is not None:
            now, steps, seconds = self.plan[at]
            if seconds is not None:
                raise InputError("Expected a size that stays with --budget, whose time is shared out; leave one out")
            if size <= now:
                raise InputError(f"Expected a size above that of the level, {now} pixels, but got {size}; raise it")
            self.size = Pixels(size)
            sizes = self._sizes(self.pictures["content"])
            later = [x for x in zip(sizes, *self._plan(sizes), strict=True) if x[0] >= now * self.ratio**0.5]
            self.plan = [*self.plan[: at + 1], *(later or [(size, steps, None)])]
        self.color = color or self.color
        self._make_levels()

    def _make_levels(self) -> None:
        """Reads the files that have not been read, and makes a level of each entry of the plan."""
        self.levels, self.lab, self.protected = [], None, None
        content = self._picture("content", self.content)
        styles = [self._loaded(i, style) for i, style in enumerate(self.styles)]
        init = self._picture("init", self.init) if _is_file(self.init) else None
        self._check(*fit(content.height, content.width, self.size), content)
        masks = read_regions(self.regions, content, self.max_pixels)
        self.files |= mask_files(self.styles, self.regions)
        if self.tile:
            content = content.resized(*fit(content.height, content.width, self.size))
            content = replace(content, rgb=periodic(content.rgb))
            init = replace(init, rgb=periodic(init.rgb)) if init else None
        scene = Scene(content, styles, self.regions, masks, self.size, self.style_scale, self.color, self.color_match)
        if not self.plan:
            sizes = self._sizes(content)
            self.plan = [*zip(sizes, *self._plan(sizes), strict=True)]
        small = None if self.afar is None else Level(0, 1, **scene.at(self.afar))
        for index, (size, steps, seconds) in enumerate(self.plan):
            level = Level(index, steps, **scene.at(size), seconds=seconds, min_improvement=self.min_improvement)
            if init and index == 0:
                level = replace(level, init=init.resized(level.height, level.width).rgb)
            if self._is_seen_from_afar(size):
                level = replace(level, coarse=small)
            self.levels.append(level)
        self.alpha = scene.photograph.alpha
        if self.color == "content":
            self.lab = colors.to_lab(scene.photograph.rgb)
        if scene.keep_mask is not None:
            self.protected = torch.cat([scene.photograph.rgb, scene.keep_mask], dim=1)

    def train_dataloader(self) -> LevelLoader:
        epoch = self.trainer.current_epoch if self.trainer is not None else 0
        return LevelLoader(self.levels[min(epoch, len(self.levels) - 1)])

    def finished(self, picture: Tensor) -> Tensor:
        """Returns the picture, (1, 3, H, W) in [0, 1], with the photograph's colours and kept regions where wanted."""
        return colors.finished(picture, self.lab, self.protected)

    def state_dict(self) -> dict[str, Any]:
        """Opacity as bytes, the photograph in L*a*b* and the kept pixels, so that a checkpoint can be exported."""
        state = {} if self.alpha is None else {"alpha": (self.alpha * 255).round().to(torch.uint8)}
        return state | {key: x for key, x in (("lab", self.lab), ("kept", self.protected)) if x is not None}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores nothing: `setup` computes the whole state from the photograph."""

    def _picture(self, role: str, source: str) -> Picture:
        if role not in self.pictures:
            key = "model.init" if role == "init" else f"data.{role}"
            path = str(samples.path(source, key)) if samples.is_name(source) else source
            self.pictures[role] = images.load(path, key, self.max_pixels)
            self.files[key] = Path(path)
        return self.pictures[role]

    def role(self, i: int) -> str:
        """Returns the name of the i-th style: `style`, or `style[i]` where there are several styles."""
        return f"style[{i}]" if len(self.styles) > 1 else "style"

    def _loaded(self, i: int, style: Style) -> LoadedStyle:
        """Reads a style's files."""
        role = self.role(i)
        picture = self._picture(role, style.image)
        if min(picture.height, picture.width) < SMALLEST:
            raise InputError(
                f"Expected --data.{role} to be at least {SMALLEST}×{SMALLEST} pixels, "
                f"but {picture.name} is {picture.width}×{picture.height}"
            )
        if style.mask is None:
            return LoadedStyle(style, picture, None)
        return LoadedStyle(style, picture, read_style_mask(i, style, self.regions, picture, self.max_pixels))

    @property
    def names(self) -> tuple[str, str]:
        """The photograph's name, and the paintings' names, for people."""
        styles = [picture.name for role, picture in self.pictures.items() if role.startswith("style")]
        return self.pictures["content"].name, " and ".join(dict.fromkeys(styles))

    def _sizes(self, content: Picture) -> list[int]:
        """Returns the levels' longer sides, ascending; a level too narrow for a network to see anything is left out."""
        sizes: list[int] = [self.size]
        while (smaller := round(self.size / self.ratio ** len(sizes))) >= self.min_size:
            if min(fit(content.height, content.width, smaller)) < SMALLEST_LEVEL:
                break
            sizes.append(smaller)
        return sizes[::-1]

    def _is_seen_from_afar(self, size: int) -> bool:
        """Whether a level has a coarse view: one that is hardly larger than the view keeps its composition without."""
        return self.afar is not None and size >= FAR * self.afar

    def _plan(self, sizes: list[int]) -> tuple[list[int], list[float | None]]:
        """Returns the maximum of steps, and the seconds, of each level."""
        steps = [self.steps[min(index, len(self.steps) - 1)] for index in range(len(sizes))]
        if self.budget is None:
            return steps, [None] * len(sizes)
        afar = (self.afar or 0) ** 2 + OVERHEAD
        looks = [size**2 + OVERHEAD + (afar if self._is_seen_from_afar(size) else 0) for size in sizes]
        costs = [count * look for count, look in zip(steps, looks, strict=True)]
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


def _styles(style: str | Sequence[str | Style], weights: Sequence[float] | None) -> list[Style]:
    """Returns the styles of the settings `style` and `style_weights`."""
    given: Sequence[str | Style] = [style] if isinstance(style, str) else style
    entries = [x if isinstance(x, Style) else Style(InputPath(x)) for x in given]
    if weights is None:
        return entries
    if len(weights) != len(entries):
        raise InputError(
            f"Expected --data.style_weights to have a weight for each of {len(entries)} styles, but got {len(weights)}"
        )
    return [replace(entry, weight=weight) for entry, weight in zip(entries, weights, strict=True)]


def _regions(regions: Mapping[str, str | Region] | None) -> dict[str, Region]:
    return {name: x if isinstance(x, Region) else Region(InputPath(x)) for name, x in (regions or {}).items()}


def _is_file(init: str) -> bool:
    return init not in get_args(Start)
