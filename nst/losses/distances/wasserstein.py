"""The distance of means and covariances, as the distance of two Gaussians."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from nst.losses import functional as F
from nst.losses.distances.moments import MomentsDistance
from nst.losses.statistics import Moments
from nst.machine.numerics import exact, plain

LEAST_VARIANCE = 2e-3
"""Lower bound of a target's variance, as a share of the target's energy. Paintings have a share of 0.05 or more, two
grays with a difference of 2% have 0.01; for one flat colour, rounding leaves a share of up to 0.0003 in float32 and
0.0014 in bfloat16, of either sign."""


def factor(covariance: Tensor) -> Tensor:
    """Factors a covariance matrix T, (C, C), as A Aᵀ: returns A, (C, r), with the numerical rank r of T, at least 1."""
    values, vectors = F.eigh(exact(covariance))
    kept = values > 1e-7 * values[-1]  # smaller eigenvalues are the rounding of float32 sums
    kept[-1] = True  # the largest eigenvalue, even of a covariance of 0
    root: Tensor = vectors[:, kept] * values[kept].clamp(min=0).sqrt()
    return root.to(covariance)


class _TraceOfRoot(torch.autograd.Function):
    """tr M^½ of a symmetric positive semi-definite matrix, whose gradient is M^(-½) / 2."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        values, vectors = F.eigh(matrix)
        values = values.clamp(min=0)  # rounding leaves small negative eigenvalues
        ctx.save_for_backward(values, vectors)
        trace: Tensor = values.sqrt().sum()
        return trace

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        values, vectors = ctx.saved_tensors
        # Where M is singular, its root has no gradient. But M = Fᵀ F, with F the centred features times A, and the
        # gradient of F is 0 there, whatever finite number stands in for the root's gradient. So eigenvalues are raised
        # to the smallest number that rounding leaves meaningful.
        floor = values[-1] * torch.finfo(values.dtype).eps * 4 + torch.finfo(values.dtype).tiny
        inverse: Tensor = (vectors * values.clamp(min=floor).rsqrt()) @ vectors.T
        return gradients[0] * 0.5 * inverse


def wasserstein_distance(statistics: Moments, target: Moments, root: Tensor | None = None) -> Tensor:
    """Squared 2-Wasserstein distance of the Gaussians with two sets of moments, relative to the target's variance.

        (|m - m_t|² + tr S + tr T - 2 tr (Aᵀ S A)^½) / tr T     with T = A Aᵀ

    The mean and the covariance are m and S for the picture, m_t and T for the target. The variance tr T of a target
    that hardly varies, such as one flat colour, is raised to LEAST_VARIANCE of its energy, as it is mostly rounding.

    Args:
        statistics: Moments of the picture's features.
        target: Moments of the style image's features.
        root: `factor(target.covariance)`; None to compute it.

    Returns:
        The distance, a scalar, 0 or more; 0 where the moments agree.

    Source:
        Olkin and Pukelsheim, "The distance between two random vectors with given dispersion matrices" (1982); as a
        style loss in style-transfer-pytorch. A, (C, r), has the target's own rank r, so that the trace is cheap for a
        target of few positions.
    """
    a = factor(target.covariance) if root is None else root
    with plain(a.device):
        covariance = statistics.covariance
        cross: Tensor = _TraceOfRoot.apply(a.T @ covariance @ a)
        variance = target.covariance.trace()
        shift = (statistics.mean - target.mean).square().sum()
        least = F.scale(torch.maximum(variance, LEAST_VARIANCE * target.gram.trace()))
        return ((shift + covariance.trace() + variance - 2 * cross) / least).clamp(min=0)  # rounding may go below


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
