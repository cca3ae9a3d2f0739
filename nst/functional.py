"""The mathematics of the losses, as pure functions of additive statistics.

Every loss is a function of a sum over positions. So a sum may be gathered in one go, block by block, or on many
machines, and the loss and its gradient are the same.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Normalization = Literal["relative", "gatys"]
Norm = Literal["l1", "l2"]


class Moments(NamedTuple):
    """Raw moments of features, summed over positions; two of them are added field by field.

    Attributes:
        outer: Sum of the outer products of the feature vectors, the unnormalised Gram matrix, (C, C), float32.
        total: Sum of the feature vectors, (C,), float32.
        positions: Their number, a scalar.
    """

    outer: Tensor
    total: Tensor
    positions: Tensor

    @property
    def gram(self) -> Tensor:
        """The Gram matrix per position, (C, C)."""
        return self.outer / self.positions

    @property
    def mean(self) -> Tensor:
        """The mean feature vector, (C,)."""
        return self.total / self.positions

    @property
    def covariance(self) -> Tensor:
        """The covariance matrix of the features, (C, C)."""
        return self.gram - torch.outer(self.mean, self.mean)


def moments(features: Tensor) -> Moments:
    """Sums the first two raw moments of features over their positions.

    The sums are taken in float32 whatever the features' precision (in float16 they overflow), or in float64 for
    float64 features.

    Args:
        features: Activations, (N, C, H, W); the positions of all N are pooled.

    Returns:
        The moments of all N·H·W positions.
    """
    with torch.autocast(features.device.type, enabled=False):
        wide = features if features.dtype == torch.float64 else features.float()
        vectors = wide.transpose(0, 1).flatten(1)
        positions = torch.tensor(vectors.shape[1], dtype=wide.dtype, device=wide.device)
        return Moments(vectors @ vectors.T, vectors.sum(1), positions)


def gram_distance(statistics: Moments, target: Moments, normalization: Normalization = "relative") -> Tensor:
    """Compares two Gram matrices.

    Args:
        statistics: Moments of the picture's features.
        target: Moments of the style's features.
        normalization: `relative`: |G - A|² / |A|², with Gram matrices per position; dimensionless. `gatys`:
            |G - A|² / (4 N²) for N channels, the paper's 1 / (4 N² M²) with M taken into the Gram matrices.

    Returns:
        The distance, a scalar.

    Source:
        Gatys, Ecker and Bethge, arXiv:1508.06576, equations 3 and 4. We differ where the two pictures have unequal
        numbers of positions, which the paper does not treat: there each Gram matrix is divided by its own M.
    """
    difference = (statistics.gram - target.gram).square().sum()
    if normalization == "relative":
        return difference / target.gram.square().sum()
    return difference / (4 * statistics.outer.shape[0] ** 2)


def squared_error(features: Tensor, target: Tensor) -> Tensor:
    """Sums the squared differences of two activations of one shape, in float32, to a scalar."""
    with torch.autocast(features.device.type, enabled=False):
        wide = features if features.dtype == torch.float64 else features.float()
        return (wide - target).square().sum()


def content_distance(error: Tensor, energy: Tensor, normalization: Normalization = "relative") -> Tensor:
    """Turns a summed squared error into the content loss.

    Args:
        error: Sum over all values of (F - P)², a scalar.
        energy: Sum over all values of P², a scalar; P are the photograph's activations.
        normalization: `relative`: error / energy. `gatys`: error / 2 (arXiv:1508.06576, equation 1).

    Returns:
        The distance, a scalar.
    """
    return error / energy if normalization == "relative" else error / 2


def total_variation(picture: Tensor, norm: Norm = "l1") -> Tensor:
    """Sums the differences between neighbouring pixels, horizontal and vertical ones apart (anisotropic).

    Args:
        picture: (N, 3, H, W).
        norm: `l1` sums absolute differences, `l2` squared ones.

    Returns:
        The sum, a scalar; not divided by the number of values.
    """
    down, right = picture.diff(dim=2), picture.diff(dim=3)
    if norm == "l1":
        return down.abs().sum() + right.abs().sum()
    return down.square().sum() + right.square().sum()
