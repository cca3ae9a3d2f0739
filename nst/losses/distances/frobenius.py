"""The distance of Gram matrices, as in the paper of Gatys et al."""

from __future__ import annotations

from torch import Tensor

from nst.losses import functional as F
from nst.losses.distance import Normalization
from nst.losses.distances.moments import MomentsDistance
from nst.losses.statistics import Moments


def gram_distance(statistics: Moments, target: Moments, normalization: Normalization = "relative") -> Tensor:
    """Compares two Gram matrices.

    Args:
        statistics: Moments of the picture's features.
        target: Moments of the style image's features.
        normalization: `relative`: |G - A|² / |A|², dimensionless, with the Gram matrices per position G of the picture
            and A of the style image. `gatys`: |G - A|² / (4 N²) for N channels, the paper's 1 / (4 N² M²), as G and A
            are already divided by the number of positions M.

    Returns:
        The distance, a scalar.

    Source:
        Gatys, Ecker and Bethge, arXiv:1508.06576, equations 3 and 4. The paper does not treat two pictures with
        unequal numbers of positions; we divide each Gram matrix by its own M.
    """
    difference = (statistics.gram - target.gram).square().sum()
    if normalization == "gatys":
        return difference / (4 * statistics.outer.shape[0] ** 2)
    if normalization != "relative":
        raise ValueError(f"Expected the normalization to be relative or gatys, but got {normalization}")
    return difference / F.scale(target.gram.square().sum())


class Frobenius(MomentsDistance):
    """The Gram matrices (Gatys)."""

    name = "frobenius"
    needs_mean = False

    def distance(self, statistics: Moments, prepared: Moments) -> Tensor:
        return gram_distance(statistics, prepared, self.normalization)
