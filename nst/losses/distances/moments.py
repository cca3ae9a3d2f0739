"""The base of the distances that compare moments, which are gathered with a gradient in closed form."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from nst.losses import functional as F
from nst.losses.distance import StyleDistance
from nst.losses.statistics import Moments


class MomentsDistance(StyleDistance[Moments]):
    """A style distance that compares the first two moments of feature vectors; a subclass defines `distance`."""

    needs_mean: ClassVar[bool] = True
    """Whether the distance uses the first moment too."""

    def statistics(self, features: Tensor, guide: Tensor | None = None) -> Moments:
        return F.moments(features, self.needs_mean, guide)

    def add_gradient(self, gradient: Tensor, features: Tensor, cotangent: Moments, guide: Tensor | None = None) -> None:
        F.add_moments_gradient(gradient, features, cotangent.outer, cotangent.total, guide)
