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


class Prepared(NamedTuple):
    """What the distance takes of a style: the mean, a factor of the covariance, its trace, and the divisor.

    Attributes:
        mean: The mean m_t, (C,).
        root: The factor A of the covariance T = A Aᵀ, (C, r).
        variance: tr T, a scalar.
        least: The variance that the distance is a share of, a scalar: a target that hardly varies, such as one flat
            colour, has mostly rounding, and its variance is raised to LEAST_VARIANCE of its energy.
    """

    mean: Tensor
    root: Tensor
    variance: Tensor
    least: Tensor


def prepared(target: Moments) -> Prepared:
    """Prepares the moments of a style image's features for `wasserstein_distance`."""
    with plain(target.outer.device):
        variance = target.covariance.trace()
        least = F.scale(torch.maximum(variance, LEAST_VARIANCE * target.gram.trace()))
        return Prepared(target.mean, factor(target.covariance), variance, least)


DECOMPOSES = ("cpu",)
"""Types of devices on which an eigendecomposition is fast, and waiting for it costs nothing."""


def mapped(a: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns tr M^½, and two matrices, (C, r), whose product L Rᵀ is A M^(-½) Aᵀ.

    Args:
        a: The factor A, (C, r).
        matrix: M, (r, r), symmetric.
    """
    if matrix.device.type not in DECOMPOSES:
        root, inverse = F.roots(matrix)
        return root.trace(), a @ inverse, a
    values, vectors = F.eigh(matrix)
    values = values.clamp(min=0)  # rounding leaves small negative eigenvalues
    # Where M is singular, its root has no gradient. But M = Fᵀ F, with F the centred features times A, and the gradient
    # of F is 0 there, whatever finite number stands in for the root's gradient. So eigenvalues are raised to the
    # smallest number that rounding leaves meaningful.
    floor = values[-1] * torch.finfo(values.dtype).eps * 4 + torch.finfo(values.dtype).tiny
    half = a @ (vectors * values.clamp(min=floor).pow(-0.25))
    return values.sqrt().sum(), half, half


class _Distance(torch.autograd.Function):
    """The autograd node of `wasserstein_distance`, with its gradient in closed form.

    With M = Aᵀ S A, the gradient of S is (I - A M^(-½) Aᵀ) / tr T.
    """

    @staticmethod
    def forward(ctx: Any, outer: Tensor, total: Tensor, positions: Tensor, style: Prepared) -> Tensor:
        mean, a = total / positions, style.root
        covariance = (outer / positions).addr_(mean, mean, alpha=-1)
        trace, left, right = mapped(a, a.T @ covariance @ a)
        shift = mean - style.mean
        distance = shift.dot(shift) + covariance.trace() + style.variance - 2 * trace
        ctx.save_for_backward(mean, shift, left, right, positions, distance)
        ctx.style = style
        value: Tensor = (distance / style.least).clamp(min=0)  # rounding may go below
        return value

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        mean, shift, left, right, positions, distance = ctx.saved_tensors
        style: Prepared = ctx.style
        factor = torch.where(distance >= 0, gradients[0] / (style.least * positions), 0)
        outer = (left @ right.T).mul_(-factor)
        outer.diagonal().add_(factor)
        total = 2 * (factor * shift - outer @ mean)
        return outer, total, None, None


def wasserstein_distance(statistics: Moments, target: Moments | Prepared) -> Tensor:
    """Squared 2-Wasserstein distance of the Gaussians with two sets of moments, relative to the target's variance.

        (|m - m_t|² + tr S + tr T - 2 tr (Aᵀ S A)^½) / tr T     with T = A Aᵀ

    The mean and the covariance are m and S for the picture, m_t and T for the target.

    Args:
        statistics: Moments of the picture's features.
        target: Moments of the style image's features, or what `prepared` returned for them.

    Returns:
        The distance, a scalar, 0 or more; 0 where the moments agree. On devices that do not decompose matrices (see
        DECOMPOSES) it is a bound from above, by up to a few thousandths, as the roots of small eigenvalues come out too
        small.

    Source:
        Olkin and Pukelsheim, "The distance between two random vectors with given dispersion matrices" (1982); as a
        style loss in style-transfer-pytorch. A, (C, r), has the target's own rank r, so that the trace is cheap for a
        target of few positions.
    """
    style = target if isinstance(target, Prepared) else prepared(target)
    with plain(statistics.outer.device):
        distance: Tensor = _Distance.apply(statistics.outer, statistics.total, statistics.positions, style)
        return distance


class Wasserstein(MomentsDistance):
    """The Gaussians with the layer's mean and covariance."""

    name = "wasserstein"

    def prepare(self, target: Moments) -> Prepared:
        return prepared(target)

    def distance(self, statistics: Moments, prepared: Prepared) -> Tensor:
        return wasserstein_distance(statistics, prepared)
