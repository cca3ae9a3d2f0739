"""The picture seen from afar: scaled down, it is to look as a small picture would, so that coarse structure stays."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nst.losses.losses import Objective
from nst.optimise.targets import Targets
from nst.pictures.geometry import extend, shrink
from nst.scene.levels import Level

SHARE = 1 / 3
"""Of the small picture in the objective. With a third, style and content of a picture of 1024 pixels, seen at 256, stay
within a tenth of those of one made there (benchmarks.sizes); with a half no closer, and strokes get less clean."""


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
