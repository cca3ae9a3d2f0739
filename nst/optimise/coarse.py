"""The coarse view: the picture scaled down is to look as a small picture would, so that its composition stays."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nst.losses.objective import Objective, Scan
from nst.losses.statistics import Gatherer
from nst.pictures.geometry import extend, shrink
from nst.scene.levels import Level

SHARE = 1 / 3
"""Of the small picture in the objective. With a third, style and content of a picture of 1024 pixels, seen at 256, stay
within a tenth of those of one made there (benchmarks.sizes); with a half no closer, and strokes get less clean."""


class CoarseView:
    """Scales the picture down to a smaller level and compares it with that level's targets, by the same terms.

    It shares in each term's value, so that it has no weight, and no curve, of its own; `data.afar` takes it away.

    Args:
        objective: The same terms as of the picture itself, with targets of their own.
        scanner: What looks at the small picture.
        bleed: Width of its margin, in pixels.
        wrap: Whether it tiles.
    """

    def __init__(self, objective: Objective, scanner: Gatherer, bleed: int, wrap: bool) -> None:
        self.objective, self.scanner, self.bleed, self.wrap = objective, scanner, bleed, wrap
        self.level: Level | None = None

    def set_level(self, level: Level | None, scan: Scan) -> None:
        """Sets the smaller level; None for no coarse view."""
        if level is not None and level is not self.level:
            self.objective.set_targets(level, scan)
        self.level = level

    def blend(self, values: Mapping[str, Tensor], picture: Tensor) -> dict[str, Tensor]:
        """Returns values that share with those of the picture, (1, 3, H, W) without its margin, scaled down."""
        if self.level is None:
            return dict(values)
        small = extend(shrink(picture, self.level.height, self.level.width, self.wrap), self.bleed)
        coarse = self.objective.values(self.scanner.statistics(small, self.objective), small)
        return {name: torch.lerp(value, coarse[name], SHARE) for name, value in values.items()}
