"""The distance of the channels' means and standard deviations, without their correlations."""

from __future__ import annotations

from torch import Tensor

from nst.losses import functional as F
from nst.losses.distances.moments import MomentsDistance
from nst.losses.statistics import Moments


def mean_std_distance(statistics: Moments, target: Moments) -> Tensor:
    """Returns the squared differences of means and standard deviations over the target's energy, a scalar.

    Source:
        Huang and Belongie, "Arbitrary style transfer in real-time with adaptive instance normalization",
        arXiv:1703.06868, equation 13, without its square roots and with our relative scale.
    """

    def deviation(moments: Moments) -> Tensor:
        return (moments.outer.diagonal() / moments.positions - moments.mean.square()).clamp(min=1e-12).sqrt()

    difference = (statistics.mean - target.mean).square() + (deviation(statistics) - deviation(target)).square()
    return difference.sum() / F.scale(target.gram.trace())


class MeanStd(MomentsDistance):
    """Means and deviations alone (AdaIN)."""

    name = "mean_std"

    def distance(self, statistics: Moments, prepared: Moments) -> Tensor:
        return mean_std_distance(statistics, prepared)
