"""The temporal term of clips: the picture against earlier results that the motion has brought to its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nst.losses.objective import Scan, Term, check_weight
from nst.pictures.geometry import resize
from nst.scene.levels import Level


class TemporalTerm(Term):
    """Weighted mean squared difference from warped results (Ruder et al., arXiv:1604.08610, sections 4.2, 4.3).

    Args:
        warped: Earlier results, warped to the frame, each (1, 3, H, W) in [0, 1].
        trust: Weight of each pixel of these, each (1, 1, H, W) in [0, 1].
        weight: Weight of the term, 0 or more.

    Raises:
        InputError: If the weight is negative or not finite.
    """

    name = "temporal"
    flag = "--video.temporal_weight"

    def __init__(self, warped: Sequence[Tensor], trust: Sequence[Tensor], weight: float) -> None:
        check_weight(self.flag.removeprefix("--"), weight)
        self.weights = {self.name: weight} if weight > 0 else {}
        self.warped, self.trust = list(warped), list(trust)
        self.targets: list[tuple[Tensor, Tensor]] = []

    def set_targets(self, level: Level, scan: Scan) -> None:
        size = (level.height, level.width)
        pairs = zip(self.warped, self.trust, strict=True)
        self.targets = [(scan.extended(resize(x, *size)), scan.extended(resize(c, *size))) for x, c in pairs]

    def values(self, statistics: Mapping[str, Any], picture: Tensor) -> dict[str, Tensor]:
        errors = [(c.to(picture) * (picture - x.to(picture)).square()).mean() for x, c in self.targets]
        return {self.name: torch.stack(errors).sum()}
