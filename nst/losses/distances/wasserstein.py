"""Means and covariances, by the distance of two Gaussians."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from nst.losses import functional as F
from nst.losses.moments import MomentsDistance
from nst.losses.statistics import Moments
from nst.machine.numerics import exact, plain

LEAST_VARIANCE = 2e-3
"""Share of a target's energy that its variance counts as at least. Paintings have 0.05 or more, two grays of 2%
difference 0.01; of one flat colour, rounding leaves up to 0.0003 in float32 and 0.0014 in bfloat16, of either sign."""


def factor(covariance: Tensor) -> Tensor:
    """Factors a covariance matrix T, (C, C), as A Aᵀ with A, (C, r), of its numerical rank r or 1."""
    values, vectors = F.eigh(exact(covariance))
    kept = values > 1e-7 * values[-1]  # what is below is the rounding of float32 sums
    kept[-1] = True  # also where there is no variance
    root: Tensor = vectors[:, kept] * values[kept].clamp(min=0).sqrt()
    return root.to(covariance)


class _TraceOfRoot(torch.autograd.Function):
    """tr M^½ of a symmetric positive semi-definite matrix, whose gradient is M^(-½) / 2."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        values, vectors = F.eigh(matrix)
        values = values.clamp(min=0)  # rounding
        ctx.save_for_backward(values, vectors)
        trace: Tensor = values.sqrt().sum()
        return trace

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        values, vectors = ctx.saved_tensors
        # Where M is singular its root has no gradient; but M = Fᵀ...F, and the gradient of F is 0 there. So any finite
        # number serves, and the smallest one that rounding leaves meaningful is used.
        floor = values[-1] * torch.finfo(values.dtype).eps * 4 + torch.finfo(values.dtype).tiny
        inverse: Tensor = (vectors * values.clamp(min=floor).rsqrt()) @ vectors.T
        return gradients[0] * 0.5 * inverse


def wasserstein_distance(statistics: Moments, target: Moments, root: Tensor | None = None) -> Tensor:
    """Squared 2-Wasserstein distance of the Gaussians with two sets of moments, relative to the target's variance.

        (|m - m_t|² + tr S + tr T - 2 tr (Aᵀ S A)^½) / tr T     with T = A Aᵀ

    A target that hardly varies, as of one flat colour, counts as one whose variance is a small share of its energy:
    what rounding leaves of a variance is no measure.

    Args:
        statistics: Moments of the picture's features.
        target: Moments of the style's features.
        root: `factor(target.covariance)`, where it is at hand.

    Returns:
        The distance, a scalar, 0 or more; 0 where the moments agree.

    Source:
        Olkin and Pukelsheim, "The distance between two random vectors with given dispersion matrices" (1982); as a
        style loss in style-transfer-pytorch. The trace is over A (C, r) of the target's own rank, so that few positions
        make it cheap.
    """
    a = factor(target.covariance) if root is None else root
    with plain(a.device):
        covariance = statistics.covariance
        cross: Tensor = _TraceOfRoot.apply(a.T @ covariance @ a)
        variance = target.covariance.trace()
        shift = (statistics.mean - target.mean).square().sum()
        least = F.scale(torch.maximum(variance, LEAST_VARIANCE * target.gram.trace()))
        return ((shift + covariance.trace() + variance - 2 * cross) / least).clamp(min=0)  # below it is rounding


class Prepared(NamedTuple):
    """A style's moments, and the factor of their covariance."""

    moments: Moments
    root: Tensor


class Wasserstein(MomentsDistance):
    """The Gaussians with the layer's mean and covariance."""

    name = "wasserstein"

    def prepare(self, target: Moments) -> Prepared:
        return Prepared(target, factor(target.covariance))

    def distance(self, statistics: Moments, prepared: Prepared) -> Tensor:
        return wasserstein_distance(statistics, *prepared)
