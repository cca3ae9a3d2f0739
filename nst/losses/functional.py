"""The mathematics that losses share, as pure functions: sums over positions and their gradients in closed form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from nst.losses.statistics import Moments, Statistics
from nst.machine.numerics import plain

Norm = Literal["l1", "l2"]

PART = 1 << 22
"""The number of values that are copied to float32 at once."""

LEAST_ROOT = 5e-4
"""Smallest root of an eigenvalue, over that of the matrix's norm, that `roots` finds whole; smaller ones come out too
small. From 1e-4 on, the rounding of float32 blows up."""

NO_ENERGY = 1e-12
"""Mean energy below which a target counts as one without energy, of which a distance cannot be a share."""


def moments(features: Tensor, first: bool = True, guide: Tensor | None = None) -> Moments:
    """Sums the first two raw moments of features over their positions.

    The sums are taken in float32 whatever the features' precision (in float16 they overflow), or in float64 for
    float64 features.

    Args:
        features: Activations, (N, C, H, W); the positions of all N are pooled.
        first: Whether to sum first moments too; if not, `total` is empty.
        guide: Weights of the positions, (N, 1, H, W); None for 1 everywhere.

    Returns:
        The moments of all N·H·W positions; with a guide, the number of positions is the sum of the weights.
    """
    if guide is not None:
        return _guided_moments(features, first, guide)
    with plain(features.device):
        wide = features if features.dtype in (torch.float64, torch.bfloat16) else features.float()
        # one row for each position: no copy where the channels come last in memory, as in the network's activations
        vectors = wide.permute(0, 2, 3, 1).flatten(0, 2)
        count, channels = vectors.shape
        # A product of bfloat16 matrices is summed in float32, but the result is rounded to bfloat16; so the product is
        # taken in parts, and the parts are summed in float32. Other types need no parts, and one matrix is multiplied
        # faster than a batch of one.
        fits = (n for n in (16, 8, 4, 2) if count % n == 0 and count // n >= 4 * channels)
        batch = next(fits, None) if wide.dtype == torch.bfloat16 else None
        parts = vectors if batch is None else vectors.unflatten(0, (batch, -1))
        exact = torch.float64 if wide.dtype == torch.float64 else torch.float32
        outer = (parts.mT @ parts).view(-1, channels, channels).sum(0, dtype=exact)
        total = outer.new_empty(0)
        if first:
            ones = parts.new_ones(*parts.shape[:-2], 1, parts.shape[-2])
            total = (ones @ parts).view(-1, channels).sum(0, dtype=exact)
        return Moments(outer.new_full((), count), outer, total)


def _guided_moments(features: Tensor, first: bool, guide: Tensor) -> Moments:
    """As `moments`: a feature vector of weight g is multiplied by √g, so that the outer product stays symmetric."""
    with plain(features.device):
        exact = torch.float64 if features.dtype == torch.float64 else torch.float32
        found = []
        for rows in parts_of(features):
            wide, weights = features[:, :, rows].to(exact), guide[:, :, rows].to(exact)
            part = moments(wide * weights.sqrt(), False)
            total = torch.einsum("nchw,nhw->c", wide, weights[:, 0]) if first else part.total
            found.append(Moments(weights.sum(), part.outer, total))
        return Moments(*(torch.stack(field).sum(0) for field in zip(*(x.flatten() for x in found), strict=True)))


def parts_of(features: Tensor) -> Iterator[slice]:
    """Yields slices of the rows of activations, (N, C, H, W), each of at most PART values or a single row.

    There is one slice at least, so that what is summed over no rows has a shape.
    """
    height = features.shape[2]
    rows = max(1, PART * height // max(1, features.numel()))
    for top in range(0, max(1, height), rows):
        yield slice(top, min(top + rows, height))


def add_moments_gradient(
    gradient: Tensor, features: Tensor, outer: Tensor | None, total: Tensor | None, guide: Tensor | None = None
) -> None:
    """Adds the gradient that flows back through `moments` to the gradient of the features, in place.

    Args:
        gradient: The gradient of the features so far, (N, C, H, W), changed.
        features: The features that the moments were taken of, (N, C, H, W), in the same layout in memory.
        outer: Gradient of `Moments.outer`, (C, C); None for 0.
        total: Gradient of `Moments.total`, (C,); None for 0.
        guide: Weights of the positions, (N, 1, H, W); None for 1 everywhere.
    """
    if guide is not None:
        for rows in parts_of(features):
            part = torch.zeros_like(gradient[:, :, rows])
            add_moments_gradient(part, features[:, :, rows], outer, total)
            gradient[:, :, rows] += part * guide[:, :, rows].to(part)
        return
    for into, picture in zip(gradient, features, strict=True):
        if into.stride(2) == 1 < len(into):  # planar: one channel after another
            if outer is not None:
                into.view(len(into), -1).addmm_((outer + outer.T).to(into.dtype), picture.flatten(1))
            if total is not None:
                into += total.to(into.dtype)[:, None, None]
            continue
        rows = into.permute(1, 2, 0).view(-1, len(into))
        if outer is not None:
            vectors, symmetric = picture.permute(1, 2, 0).flatten(0, 1), outer + outer.T
            if rows.dtype == torch.float16:  # the range of float16 is too small for the factors
                rows += vectors.float() @ symmetric
            else:
                rows.addmm_(vectors, symmetric.to(rows.dtype))
        if total is not None:  # to whole rows of the picture, as adding a few channels at a time is slow
            rows.view(into.shape[1], -1).add_(total.to(rows.dtype).repeat(into.shape[2]))


def scale(energy: Tensor, count: Tensor | int = 1) -> Tensor:
    """Returns the divisor that makes a distance a share of its target's energy, a scalar.

    For a target without energy, such as a layer where nothing is active, the divisor is the number of values.

    Args:
        energy: The target's energy, a scalar.
        count: Number of the values that the energy is a sum over; 1 for a mean.
    """
    return torch.where(
        energy > NO_ENERGY * count, energy, count if isinstance(count, Tensor) else torch.full_like(energy, count)
    )


def eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the eigenvalues, ascending, and the eigenvectors of a symmetric matrix; NaN for a matrix that has NaN.

    Where the device lacks this decomposition, or the decomposition does not converge, the CPU makes it in float64.
    """
    try:
        values, vectors = torch.linalg.eigh(matrix)
    except RuntimeError:  # a LinAlgError or a NotImplementedError
        if matrix.isfinite().all():
            values, vectors = torch.linalg.eigh(matrix.cpu().double())
        else:
            values, vectors = torch.full_like(matrix[0], torch.nan), torch.full_like(matrix, torch.nan)
    return values.to(matrix), vectors.to(matrix)


def roots(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the root of a symmetric matrix, (r, r), and the root's inverse, by products of matrices alone.

    This is for devices that make no eigendecomposition, or a slow one that the host has to wait for. Roots of small
    eigenvalues (see LEAST_ROOT) come out too small and never too large, and their inverses as well; a negative
    eigenvalue, which is rounding, gives minus the root of its size.

    Source:
        The product form of Newton and Schulz's iteration, scaled for the smallest eigenvalue: Higham, "Functions of
        Matrices" (2008), section 6.7; Chen and Chow, "A stable scaling of Newton-Schulz" (2014). We take a step that is
        even in the eigenvalues, 5/4 - u²/4 for 3/2 - u/2, under which negative ones stay bounded.
    """
    largest = matrix.abs().amax().clamp(min=torch.finfo(matrix.dtype).tiny)
    norm = (matrix / largest).norm().clamp(min=1)  # below 1 for a matrix of 0 alone
    root, identity = matrix / largest / norm, torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    inverse, least = identity, LEAST_ROOT
    while least < 1 - 1e-6:  # all roots lie between this and 1, as far as they were no smaller than LEAST_ROOT
        a = (5 / (1 + least + least**2 + least**3 + least**4)) ** 0.25  # the least and the largest become equal
        product = inverse @ root
        step = torch.addmm(identity, product, product, beta=1.25 * a, alpha=-0.25 * a**5)
        root, inverse = root @ step, step @ inverse
        least = a * least * (5 - a**4 * least**4) / 4
    scale = norm.sqrt() * largest.sqrt()
    return root * scale, inverse / scale


def squared_error(features: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Sums the squared differences of two activations of one shape, in float32, to a scalar.

    Args:
        features: Activations, (N, C, H, W).
        target: The target's activations, (N, C, H, W).
        weights: Weights of the positions, (N, 1, H, W); None for 1 everywhere.
    """
    with plain(features.device):
        exact = torch.float64 if features.dtype == torch.float64 else torch.float32
        sums = []
        for rows in parts_of(features):
            squares = (features[:, :, rows].to(exact) - target[:, :, rows]).square()
            sums.append((squares if weights is None else squares * weights[:, :, rows]).sum())
        return torch.stack(sums).sum()


def add_squared_error_gradient(
    gradient: Tensor, features: Tensor, target: Tensor, error: Tensor, weights: Tensor | None = None
) -> None:
    """Adds the gradient that flows back through `squared_error` to the gradient of the features, in place.

    Args:
        gradient: The gradient of the features so far, (N, C, H, W), changed.
        features: Activations, (N, C, H, W).
        target: The target's activations, (N, C, H, W).
        error: The gradient of the loss with respect to the squared error, a scalar.
        weights: Weights of the positions, (N, 1, H, W); None for 1 everywhere.
    """
    factor = 2 * error if weights is None else 2 * error * weights
    gradient.addcmul_((features - target).to(gradient.dtype), factor.to(gradient.dtype))


def total_variation(picture: Tensor, norm: Norm = "l1", below: Tensor | None = None, wrap: bool = False) -> Tensor:
    """Sums the differences between horizontal and between vertical neighbours (anisotropic).

    Args:
        picture: (N, 3, H, W).
        norm: `l1` sums absolute differences, `l2` squared differences.
        below: The row under `picture`, (N, 3, 1, W), where `picture` is a band of rows.
        wrap: Whether the picture tiles: the first column then follows the last column, and the first row follows the
            last row unless `below` does.

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


@dataclass(frozen=True)
class SeamSums(Statistics):
    """Sums of the squared differences of neighbouring pixels; each a scalar.

    Attributes:
        down: The sum over neighbouring rows within the picture.
        right: The sum over neighbouring columns within the picture.
        across_rows: The sum over the last row and the first row.
        across_columns: The sum over the last column and the first column.
    """

    down: Tensor
    right: Tensor
    across_rows: Tensor
    across_columns: Tensor


def seam_sums(rows: Tensor, below: Tensor, last: bool) -> SeamSums:
    """Sums the squared differences that `seam_excess` compares.

    Args:
        rows: Rows of a picture, (N, 3, h, W).
        below: The row under `rows`, (N, 3, 1, W); the picture's first row if `rows` are the last rows.
        last: Whether `rows` are the picture's last rows.
    """
    down = rows.diff(dim=2, append=below).square()
    within, across = (down[:, :, :-1], down[:, :, -1:]) if last else (down, down[:, :, :0])
    columns = rows[..., :1] - rows[..., -1:]
    return SeamSums(within.sum(), rows.diff(dim=3).square().sum(), across.sum(), columns.square().sum())


def seam_excess(sums: SeamSums, height: int, width: int) -> Tensor:
    """Measures how much rougher a picture is across its opposite borders than within.

    Args:
        sums: The `seam_sums` of the whole picture.
        height: Height of the picture, in pixels.
        width: Width of the picture, in pixels.

    Returns:
        The sum over rows and columns of max(0, a / (0.9 b) - 1), a scalar: a is the mean squared difference across the
        border; b is the mean squared difference within the picture in the smoother direction, and has no gradient.
    """
    means = sums.down.detach() / (height - 1) / width, sums.right.detach() / (width - 1) / height
    within = torch.minimum(*means)
    across = torch.stack([sums.across_rows / width, sums.across_columns / height])
    return (across / (0.9 * within).clamp(min=1e-12) - 1).relu().sum()
