"""The picture seen from afar: scaled down, it is to look as a small picture would, so that coarse structure stays."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import torch
from torch import Tensor

from nst.functional import plain
from nst.levels import Level
from nst.losses import Objective
from nst.optimizers import extend
from nst.targets import Targets

SHARE = 1 / 3
"""Of the small picture in the objective. With a third, style and content of a picture of 1024 pixels, seen at 256, stay
within a tenth of those of one made there (benchmarks.sizes); with a half no closer, and strokes get less clean."""

LOBES = 3
"""Of the Lanczos filter, as Pillow has it."""


class Afar:
    """Looks at the picture scaled down to a smaller level, and compares it with that level's targets.

    Args:
        objective: Like the one of the picture itself, with targets of its own.
        targets: What finds its targets.
    """

    def __init__(self, objective: Objective, targets: Targets) -> None:
        self.objective, self.targets = objective, targets
        self.level: Level | None = None

    def aim(self, level: Level | None) -> None:
        """Sets the level to be seen from afar; None for none."""
        if level is not None and level is not self.level:
            self.targets.aim(level)
        self.level = level

    def blend(self, terms: Mapping[str, Tensor], picture: Tensor) -> dict[str, Tensor]:
        """Returns terms that share with those of the picture, (1, 3, H, W) without its margin, seen from afar."""
        if self.level is None:
            return dict(terms)
        wrap = self.targets.features.padding == "circular"
        small = extend(shrink(picture, self.level.height, self.level.width, wrap), self.targets.bleed)
        far = self.objective(self.targets.eye.statistics(small, self.objective), small)
        return {name: torch.lerp(term, far[name], SHARE) for name, term in terms.items()}


def shrink(picture: Tensor, height: int, width: int, wrap: bool = False) -> Tensor:
    """Resamples (1, C, H, W) as `images.resize` does, so that the two are compared alike, but with a gradient.

    A softer filter than the photograph's and the painting's would have the picture drawn too sharp. Where the picture
    tiles, opposite borders are neighbours (`wrap`).
    """
    with plain(picture.device):
        rows, columns = lanczos(picture.shape[2], height, wrap), lanczos(picture.shape[3], width, wrap)
        return rows.to(picture) @ picture @ columns.to(picture).T


@lru_cache(maxsize=4)
def lanczos(size: int, smaller: int, wrap: bool = False) -> Tensor:
    """Returns the weights, (smaller, size), that an antialiased Lanczos filter gives to the values of a row."""
    scale = size / smaller
    centres = (torch.arange(smaller, dtype=torch.float64) + 0.5) * scale
    x = (torch.arange(size, dtype=torch.float64) + 0.5 - centres[:, None]) / scale
    x = (x + smaller / 2) % smaller - smaller / 2 if wrap else x
    weights = torch.sinc(x) * torch.sinc(x / LOBES) * (x.abs() < LOBES)
    return (weights / weights.sum(1, keepdim=True)).float()
