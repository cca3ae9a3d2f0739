"""The coarse view: the picture, scaled down, is compared with a smaller level, so that its composition stays."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nst.losses.objective import Objective, Scan
from nst.losses.statistics import Gatherer
from nst.pictures.geometry import extend, shrink
from nst.scene.levels import Level

SHARE = 1 / 3
"""Share of the scaled-down picture in the objective. With a third, the style and content losses of a picture of 1024
pixels, scaled down to 256, stay within a tenth of the losses of a picture made at 256 (benchmarks.sizes); with a half
they come no closer, and strokes get less clean."""


class CoarseView:
    """Scales the picture down to a smaller level and compares it with that level's targets, by the same terms.

    The value of each term is blended with the value at the smaller level, so that the coarse view has no weight and no
    curve of its own. `data.afar` sets the smaller level; without it there is no coarse view.

    Args:
        objective: The same terms as for the picture itself, with separate targets.
        scanner: Runs the network on the scaled-down picture.
        bleed: Width of the scaled-down picture's margin, in pixels.
        wrap: Whether the picture tiles.
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
        """Blends a picture's values with the values of the picture, (1, 3, H, W) without its margin, scaled down."""
        if self.level is None:
            return dict(values)
        small = extend(shrink(picture, self.level.height, self.level.width, self.wrap), self.bleed)
        coarse = self.objective.values(self.scanner.statistics(small, self.objective), small)
        return {name: torch.lerp(value, coarse[name], SHARE) for name, value in values.items()}
