"""The mathematics of the losses, as pure functions of additive statistics.

Every loss is a function of a sum over positions. So a sum may be gathered in one go, block by block, or on many
machines, and the loss and its gradient are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from nst.machine.numerics import exact, plain

Normalization = Literal["relative", "gatys"]
Norm = Literal["l1", "l2"]
Distance = Literal["frobenius", "wasserstein", "mean_std"]

PART = 1 << 22
"""Values that are copied in float32 at once."""

NO_ENERGY = 1e-12
"""Energy of a target, per position, below which there is nothing that a distance could be a share of."""

LEAST_VARIANCE = 2e-3
"""Share of a target's energy that its variance counts as at least. Paintings have 0.05 or more, two grays of 2%
difference 0.01; of one flat colour, rounding leaves up to 0.0003 in float32 and 0.0014 in bfloat16, of either sign."""


class Moments(NamedTuple):
    """Raw moments of features, summed over positions; two of them are added field by field.

    Attributes:
        outer: Sum of the outer products of the feature vectors, the unnormalised Gram matrix, (C, C), float32.
        total: Sum of the feature vectors, (C,), float32; (0,) where it was not asked for.
        positions: Their number, or the sum of their weights, a scalar.
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


def moments(features: Tensor, first: bool = True, guide: Tensor | None = None) -> Moments:
    """Sums the first two raw moments of features over their positions.

    The sums are taken in float32 whatever the features' precision (in float16 they overflow), or in float64 for
    float64 features.

    Args:
        features: Activations, (N, C, H, W); the positions of all N are pooled.
        first: Whether first moments are wanted too; if not, `total` is empty.
        guide: Weights of the positions, (N, 1, H, W); None for 1 everywhere.

    Returns:
        The moments of all N·H·W positions, whose number is then the sum of the weights.
    """
    if guide is not None:
        return _guided_moments(features, first, guide)
    with plain(features.device):
        wide = features if features.dtype in (torch.float64, torch.bfloat16) else features.float()
        # one row for each position: no copy where the channels come last in memory, as the network leaves them
        vectors = wide.permute(0, 2, 3, 1).flatten(0, 2)
        count, channels = vectors.shape
        # A product of bfloat16 is summed in float32 but rounded to bfloat16 at its end; so it is taken in parts, whose
        # sum is float32. Other types need no parts, and one matrix is multiplied faster than a batch of one.
        fits = (n for n in (16, 8, 4, 2) if count % n == 0 and count // n >= 4 * channels)
        batch = next(fits, None) if wide.dtype == torch.bfloat16 else None
        parts = vectors if batch is None else vectors.unflatten(0, (batch, -1))
        exact = torch.float64 if wide.dtype == torch.float64 else torch.float32
        outer = (parts.mT @ parts).view(-1, channels, channels).sum(0, dtype=exact)
        total = outer.new_empty(0)
        if first:
            ones = parts.new_ones(*parts.shape[:-2], 1, parts.shape[-2])
            total = (ones @ parts).view(-1, channels).sum(0, dtype=exact)
        return Moments(outer, total, outer.new_full((), count))


def _guided_moments(features: Tensor, first: bool, guide: Tensor) -> Moments:
    """As `moments`: a vector of weight g counts as √g times itself, so that the outer product stays symmetric."""
    with plain(features.device):
        exact = torch.float64 if features.dtype == torch.float64 else torch.float32
        found = []
        for rows in _parts(features):
            wide, weights = features[:, :, rows].to(exact), guide[:, :, rows].to(exact)
            part = moments(wide * weights.sqrt(), False)
            total = torch.einsum("nchw,nhw->c", wide, weights[:, 0]) if first else part.total
            found.append(Moments(part.outer, total, weights.sum()))
        return Moments(*(torch.stack(field).sum(0) for field in zip(*found, strict=True)))


def _parts(features: Tensor) -> Iterator[slice]:
    """Yields rows of activations, (N, C, H, W), so many that their copy in float32 is never large."""
    height = features.shape[2]
    rows = max(1, PART * height // max(1, features.numel()))
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))


def blend(parts: Sequence[Moments], weights: Sequence[float]) -> Moments:
    """Returns moments per position, mixed by weights that sum to 1: those of pictures that are laid side by side.

    Args:
        parts: Moments of one layer.
        weights: Their weights.

    Returns:
        The mixture, as of one position; of one part, that part.
    """
    if len(parts) == 1:
        return parts[0]
    outer = torch.stack([weight * part.gram for part, weight in zip(parts, weights, strict=True)]).sum(0)
    total = torch.stack([weight * part.mean for part, weight in zip(parts, weights, strict=True)]).sum(0)
    return Moments(outer, total, torch.ones_like(parts[0].positions))


def add_moments_gradient(
    gradient: Tensor, features: Tensor, outer: Tensor | None, total: Tensor | None, guide: Tensor | None = None
) -> None:
    """Adds the gradient of `moments` to one that is there, in place.

    Args:
        gradient: That of the features, (N, C, H, W), changed; the channels come last in memory.
        features: What the moments were taken of, likewise.
        outer: Gradient of `Moments.outer`, (C, C); None for 0.
        total: Gradient of `Moments.total`, (C,); None for 0.
        guide: Weights of the positions, (N, 1, H, W); None for 1 everywhere.
    """
    if guide is not None:
        for rows in _parts(features):
            part = torch.zeros_like(gradient[:, :, rows], memory_format=torch.channels_last)
            add_moments_gradient(part, features[:, :, rows], outer, total)
            gradient[:, :, rows] += part * guide[:, :, rows].to(part)
        return
    for into, picture in zip(gradient, features, strict=True):
        rows = into.permute(1, 2, 0).view(-1, len(into))
        if outer is not None:
            vectors, symmetric = picture.permute(1, 2, 0).flatten(0, 1), outer + outer.T
            if rows.dtype == torch.float16:  # whose range is too small for the factors
                rows += vectors.float() @ symmetric
            else:
                rows.addmm_(vectors, symmetric.to(rows.dtype))
        if total is not None:  # along whole rows of the picture, as sums of few channels at a time are slow
            rows.view(into.shape[1], -1).add_(total.to(rows.dtype).repeat(into.shape[2]))


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
    if normalization == "gatys":
        return difference / (4 * statistics.outer.shape[0] ** 2)
    if normalization != "relative":
        raise ValueError(f"Expected the normalization to be relative or gatys, but got {normalization}")
    return difference / scale(target.gram.square().sum())


def scale(energy: Tensor, count: int = 1) -> Tensor:
    """Returns what a distance is divided by to be a share of its target's energy, a scalar.

    A target without any, as of a layer where nothing is active, leaves the distance as it is: divided by their number.

    Args:
        energy: That of the target, a scalar.
        count: Number of the values that it is the sum of; 1 for a mean.
    """
    return torch.where(energy > NO_ENERGY * count, energy, torch.full_like(energy, count))


def eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Returns eigenvalues, ascending, and eigenvectors of a symmetric matrix; not-a-numbers for one that has them.

    Where the device has no such decomposition, or it does not converge, it is made in float64 on the CPU.
    """
    try:
        values, vectors = torch.linalg.eigh(matrix)
    except RuntimeError:  # a LinAlgError or a NotImplementedError
        if matrix.isfinite().all():
            values, vectors = torch.linalg.eigh(matrix.cpu().double())
        else:
            values, vectors = torch.full_like(matrix[0], torch.nan), torch.full_like(matrix, torch.nan)
    return values.to(matrix), vectors.to(matrix)


def factor(covariance: Tensor) -> Tensor:
    """Factors a covariance matrix T, (C, C), as A Aᵀ with A, (C, r), of its numerical rank r or 1."""
    values, vectors = eigh(exact(covariance))
    kept = values > 1e-7 * values[-1]  # what is below is the rounding of float32 sums
    kept[-1] = True  # also where there is no variance
    root: Tensor = vectors[:, kept] * values[kept].clamp(min=0).sqrt()
    return root.to(covariance)


class _TraceOfRoot(torch.autograd.Function):
    """tr M^½ of a symmetric positive semi-definite matrix, whose gradient is M^(-½) / 2."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        values, vectors = eigh(matrix)
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
        least = scale(torch.maximum(variance, LEAST_VARIANCE * target.gram.trace()))
        return ((shift + covariance.trace() + variance - 2 * cross) / least).clamp(min=0)  # below it is rounding


def mean_std_distance(statistics: Moments, target: Moments) -> Tensor:
    """Squared differences of the channels' means and deviations, relative to the target's energy; a scalar.

    Source:
        Huang and Belongie, "Arbitrary style transfer in real-time with adaptive instance normalization",
        arXiv:1703.06868, equation 13, without its square roots and with our relative scale.
    """

    def deviation(moments: Moments) -> Tensor:
        return (moments.outer.diagonal() / moments.positions - moments.mean.square()).clamp(min=1e-12).sqrt()

    difference = (statistics.mean - target.mean).square() + (deviation(statistics) - deviation(target)).square()
    return difference.sum() / scale(target.gram.trace())


def squared_error(features: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Sums the squared differences of two activations of one shape, in float32, to a scalar.

    Args:
        features: (N, C, H, W).
        target: (N, C, H, W).
        weights: Weights of the positions, (N, 1, H, W); None for 1 everywhere.
    """
    with plain(features.device):
        exact = torch.float64 if features.dtype == torch.float64 else torch.float32
        sums = []
        for rows in _parts(features):
            squares = (features[:, :, rows].to(exact) - target[:, :, rows]).square()
            sums.append((squares if weights is None else squares * weights[:, :, rows]).sum())
        return torch.stack(sums).sum()


def add_squared_error_gradient(
    gradient: Tensor, features: Tensor, target: Tensor, error: Tensor, weights: Tensor | None = None
) -> None:
    """Adds the gradient of `squared_error` to one that is there, in place.

    Args:
        gradient: That of the features, changed.
        features: Of the gradient's shape.
        target: Of the gradient's shape.
        error: Gradient of the sum, a scalar.
        weights: Weights of the positions, (N, 1, H, W); None for 1 everywhere.
    """
    factor = 2 * error if weights is None else 2 * error * weights
    gradient.addcmul_((features - target).to(gradient.dtype), factor.to(gradient.dtype))


def content_distance(error: Tensor, energy: Tensor, normalization: Normalization = "relative") -> Tensor:
    """Turns a summed squared error into the content loss.

    Args:
        error: Sum over all values of (F - P)², a scalar.
        energy: Sum over all values of P², a scalar; P are the photograph's activations.
        normalization: `relative`: error / energy. `gatys`: error / 2 (arXiv:1508.06576, equation 1).

    Returns:
        The distance, a scalar.
    """
    if normalization == "gatys":
        return error / 2
    if normalization != "relative":
        raise ValueError(f"Expected the normalization to be relative or gatys, but got {normalization}")
    return error / energy


def total_variation(picture: Tensor, norm: Norm = "l1", below: Tensor | None = None, wrap: bool = False) -> Tensor:
    """Sums the differences between neighbouring pixels, horizontal and vertical ones apart (anisotropic).

    Args:
        picture: (N, 3, H, W).
        norm: `l1` sums absolute differences, `l2` squared ones.
        below: The row under these, (N, 3, 1, W), where they are a part of a picture.
        wrap: Whether the last row, unless one under it is given, is followed by the first, and the last column
            likewise, as in a picture that tiles.

    Returns:
        The sum, a scalar; not divided by the number of values.
    """
    below = picture[:, :, :1] if wrap and below is None else below
    down, right = picture.diff(dim=2, append=below), picture.diff(dim=3, append=picture[..., :1] if wrap else None)
    if norm == "l1":
        return down.abs().sum() + right.abs().sum()
    if norm != "l2":
        raise ValueError(f"Expected the norm to be l1 or l2, but got {norm}")
    return down.square().sum() + right.square().sum()


def seam_excess(picture: Tensor) -> Tensor:
    """Measures how much rougher a picture is across its opposite borders than within.

    Args:
        picture: (N, 3, H, W).

    Returns:
        For rows and columns, the mean squared difference across the border over nine tenths of the mean within, less 1
        and at least 0; their sum, a scalar. The mean within is that of the smoother direction, and has no gradient.
    """
    (height, width), fixed = picture.shape[2:], picture.detach()
    parts = [(fixed[:, :, rows.start : rows.stop + 1], fixed[:, :, rows]) for rows in _parts(fixed)]
    down = torch.stack([part.diff(dim=2).square().sum() for part, _ in parts]).sum()
    right = torch.stack([part.diff(dim=3).square().sum() for _, part in parts]).sum()
    lines = picture[:, :, :: height - 1], picture[..., :: width - 1].mT  # the first and the last one
    within = torch.minimum(down / (height - 1) / width, right / (width - 1) / height)
    across = torch.stack([pair.diff(dim=2).square().sum() / pair.shape[3] for pair in lines])
    return (across / (0.9 * within).clamp(min=1e-12) - 1).relu().sum()
