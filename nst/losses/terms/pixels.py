"""The terms of pixels: total variation, and the seam of a picture that tiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from nst.errors import check_choice
from nst.losses import functional as F
from nst.losses.functional import Norm
from nst.losses.objective import PixelTerm
from nst.losses.statistics import Value

SEAM = 1e-4
"""Weight of the seam term over the sum of all other weights. Without the term, the seam is like any line, with
0.9 to 1.4 times the picture's mean gradient energy, and with the term it has 0.5 to 0.8 times; ten times the weight
makes the seam show as a line."""


class TotalVariation(PixelTerm):
    """Mean difference between neighbouring pixels (see `functional.total_variation`).

    Args:
        weight: Weight of the term.
        norm: `l1` or `l2`.
        wrap: Whether opposite borders are neighbours.

    Raises:
        InputError: If the weight is negative or not finite, or the norm is unknown.
    """

    name = "tv"
    flag = "--model.tv_weight"

    def __init__(self, weight: float, norm: Norm = "l1", wrap: bool = False) -> None:
        check_choice("model.tv_norm", norm, Norm)
        super().__init__(weight)
        self.norm: Norm = norm
        self.wrap = wrap

    def pixel_statistics(self, rows: Tensor, below: Tensor, last: bool) -> Value:
        return Value(F.total_variation(rows, self.norm, None if last and not self.wrap else below, self.wrap))

    def values(self, statistics: Mapping[str, Any], picture: Tensor) -> dict[str, Tensor]:
        return {self.name: statistics[self.name].value / picture.numel()}


class Seam(PixelTerm):
    """Keeps the seam of a picture that tiles no rougher than the rest of it (see `functional.seam_excess`)."""

    name = "seam"
    flag = "the weights"

    def pixel_statistics(self, rows: Tensor, below: Tensor, last: bool) -> F.SeamSums:
        return F.seam_sums(rows, below, last)

    def values(self, statistics: Mapping[str, Any], picture: Tensor) -> dict[str, Tensor]:
        return {self.name: F.seam_excess(statistics[self.name], *picture.shape[2:])}
