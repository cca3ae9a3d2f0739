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
"""Values that are copied in float32 at once."""

NO_ENERGY = 1e-12
"""Energy of a target, per position, below which there is nothing that a distance could be a share of."""


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
        return Moments(outer.new_full((), count), outer, total)


def _guided_moments(features: Tensor, first: bool, guide: Tensor) -> Moments:
    """As `moments`: a vector of weight g counts as √g times itself, so that the outer product stays symmetric."""
    with plain(features.device):
        exact = torch.float64 if features.dtype == torch.float64 else torch.float32
        found = []
        for rows in _parts(features):
            wide, weights = features[:, :, rows].to(exact), guide[:, :, rows].to(exact)
            part = moments(wide * weights.sqrt(), False)
            total = torch.einsum("nchw,nhw->c", wide, weights[:, 0]) if first else part.total
            found.append(Moments(weights.sum(), part.outer, total))
        return Moments(*(torch.stack(field).sum(0) for field in zip(*(x.flatten() for x in found), strict=True)))


def _parts(features: Tensor) -> Iterator[slice]:
    """Yields rows of activations, (N, C, H, W), so many that their copy in float32 is never large."""
    height = features.shape[2]
    rows = max(1, PART * height // max(1, features.numel()))
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))


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


@dataclass(frozen=True)
class SeamSums(Statistics):
    """Squared differences of neighbouring pixels, summed; each a scalar.

    Attributes:
        down: Of rows, within the picture.
        right: Of columns, within the picture.
        across_rows: Of the last row and the first.
        across_columns: Of the last column and the first.
    """

    down: Tensor
    right: Tensor
    across_rows: Tensor
    across_columns: Tensor


def seam_sums(rows: Tensor, below: Tensor, last: bool) -> SeamSums:
    """Sums what `seam_excess` compares.

    Args:
        rows: Rows of a picture, (N, 3, h, W).
        below: The row under them, (N, 3, 1, W); under the last ones, the picture's first row.
        last: Whether these are the last rows.
    """
    down = rows.diff(dim=2, append=below).square()
    within, across = (down[:, :, :-1], down[:, :, -1:]) if last else (down, down[:, :, :0])
    columns = rows[..., :1] - rows[..., -1:]
    return SeamSums(within.sum(), rows.diff(dim=3).square().sum(), across.sum(), columns.square().sum())


def seam_excess(sums: SeamSums, height: int, width: int) -> Tensor:
    """Measures how much rougher a picture is across its opposite borders than within.

    Args:
        sums: Of the picture.
        height: The picture's, in pixels.
        width: The picture's, in pixels.

    Returns:
        For rows and columns, the mean squared difference across the border over nine tenths of the mean within, less 1
        and at least 0; their sum, a scalar. The mean within is that of the smoother direction, and has no gradient.
    """
    means = sums.down.detach() / (height - 1) / width, sums.right.detach() / (width - 1) / height
    within = torch.minimum(*means)
    across = torch.stack([sums.across_rows / width, sums.across_columns / height])
    return (across / (0.9 * within).clamp(min=1e-12) - 1).relu().sum()
