"""The colours of the result: the painting's, or in several ways the photograph's.

Pictures are (1, 3, H, W), RGB, sRGB-encoded, in [0, 1]. Weights are (1, 1, H, W), 0 or more, such as a mask or an
opacity; a pixel of weight 0 takes no part in a statistic, but is recoloured like the other pixels.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as nnf
from numpy.typing import NDArray
from torch import Tensor

from nst.errors import InputError, check_choice
from nst.pictures.geometry import resample

Color = Literal["style", "content", "match", "histogram"]
Matching = Literal["symmetric", "pca", "cholesky"]

XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
"""Linear sRGB to CIE XYZ (ITU-R BT.709 primaries, D65)."""

SMALLEST_VARIANCE = 1e-8
"""Variance added to a covariance of colours before its inverse: a thousandth of an 8-bit step squared."""

ROUNDS = 10
SAMPLE = 1 << 16
"""Rotations in histogram matching, and the most pixels from which the transport along an axis is estimated."""

BROAD = 16
"""Longer side, in pixels, of the thumbnail that holds a picture's broad light and shade."""

_WHITE = torch.tensor(XYZ, dtype=torch.float64).sum(1)  # row sums of the matrix, so that a grey has no chroma at all
_EPSILON, _KAPPA = (6 / 29) ** 3, (29 / 6) ** 2 / 3


def to_lab(rgb: Tensor) -> Tensor:
    """Converts sRGB, (N, 3, H, W), to CIE L*a*b* under D65: L in [0, 100], a and b about [-128, 128]."""
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4)
    xyz = _mix(torch.tensor(XYZ, dtype=torch.float64) / _WHITE[:, None], linear)
    f = torch.where(xyz > _EPSILON, xyz.clamp(min=_EPSILON) ** (1 / 3), _KAPPA * xyz + 4 / 29)
    x, y, z = f.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def from_lab(lab: Tensor) -> Tensor:
    """Converts CIE L*a*b*, (N, 3, H, W), to sRGB; colours outside sRGB come out below 0 or above 1."""
    lightness, a, b = lab.unbind(1)
    y = (lightness + 16) / 116
    f = torch.stack([y + a / 500, y, y - b / 200], dim=1)
    xyz = torch.where(f > 6 / 29, f**3, (f - 4 / 29) / _KAPPA)
    linear = _mix(torch.linalg.inv(torch.tensor(XYZ, dtype=torch.float64)) * _WHITE, xyz)
    encoded = 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(linear <= 0.0031308, linear * 12.92, encoded)


def gray(rgb: Tensor) -> Tensor:
    """Returns the picture without chroma, (1, 3, H, W), each pixel's L* unchanged."""
    lab = to_lab(rgb)
    lab[:, 1:] = 0
    return from_lab(lab).clamp(0, 1)


def into_srgb(lab: Tensor) -> Tensor:
    """Converts CIE L*a*b*, (1, 3, H, W), to sRGB in [0, 1].

    A colour outside sRGB keeps its hue and lightness; its chroma is reduced until sRGB holds the colour.
    """
    rgb = from_lab(lab)
    outside = ((rgb < 0) | (rgb > 1)).any(dim=1)[0]
    colors = lab[0][:, outside][None, :, None]  # the pixels outside sRGB as one row
    low, high = torch.zeros_like(colors[:, :1]), torch.ones_like(colors[:, :1])
    for _ in range(12):  # halvings, which find the chroma to a part in 4,000
        middle = (low + high) / 2
        there = from_lab(torch.cat([colors[:, :1], middle * colors[:, 1:]], dim=1))
        inside = ((there >= 0) & (there <= 1)).all(dim=1, keepdim=True)
        low, high = torch.where(inside, middle, low), torch.where(inside, high, middle)
    rgb[0][:, outside] = from_lab(torch.cat([colors[:, :1], low * colors[:, 1:]], dim=1))[0, :, 0]
    return rgb.clamp(0, 1)


def with_colors(rgb: Tensor, photograph: Tensor) -> Tensor:
    """Gives a picture the chroma and the broad light and shade of a photograph; strokes keep their lightness.

    Gatys et al. (arXiv:1611.07865, section 5.2) restore the chroma alone. We add light and shade, since a blue sky
    painted dark is another colour from afar: seen from afar, the mean CIE ΔE2000 from the photograph is nearly halved.

    Args:
        rgb: The picture, (1, 3, H, W).
        photograph: The photograph in CIE L*a*b*, (1, 3, H, W).

    Returns:
        The recoloured picture, (1, 3, H, W), in [0, 1].
    """
    lightness, wanted = to_lab(rgb)[:, :1], photograph[:, :1]
    lightness = (lightness + _broad(wanted) - _broad(lightness)).clamp(0, 100)
    return into_srgb(torch.cat([lightness, photograph[:, 1:]], dim=1))


def mean_and_covariance(rgb: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Returns the mean colour, (3,), and the covariance of the colours, (3, 3), in float64.

    Raises:
        InputError: If no pixel has a weight above 0.
    """
    values, shares = _weighted(rgb, weights)
    mean = shares @ values
    centred = values - mean
    return mean, centred.T @ (shares[:, None] * centred)


def match(
    style: Tensor,
    content: Tensor,
    method: Matching = "symmetric",
    style_weights: Tensor | None = None,
    content_weights: Tensor | None = None,
) -> Tensor:
    """Recolours a painting linearly, so that the mean and covariance of its colours are the photograph's.

    Args:
        style: The painting, (1, 3, h, w).
        content: The photograph, (1, 3, H, W).
        method: `symmetric`, the map that moves the colours least (Monge and Kantorovich); `pca`, Σc^½ Σs^-½;
            `cholesky`, Lc Ls^-1.
        style_weights: Weights of the painting's pixels, (1, 1, h, w).
        content_weights: Weights of the photograph's pixels, (1, 1, H, W).

    Returns:
        The recoloured painting, (1, 3, h, w). Some values are outside [0, 1]: its mean and covariance are the
        photograph's only while these values are not clipped.

    Source:
        Gatys et al., "Controlling Perceptual Factors in Neural Style Transfer", arXiv:1611.07865, section 5.1; the
        symmetric map: Pitié and Kokaram, "The linear Monge-Kantorovitch linear colour mapping" (2007).

    Raises:
        InputError: If the method does not exist, or no pixel has a weight above 0.
    """
    check_choice("data.color_match", method, Matching)
    (mean, covariance), (wanted_mean, wanted) = (
        mean_and_covariance(style, style_weights),
        mean_and_covariance(content, content_weights),
    )
    covariance = covariance + SMALLEST_VARIANCE * torch.eye(3, dtype=torch.float64)  # a flat painting has no variance
    if method == "cholesky":
        factor = torch.linalg.cholesky(wanted + SMALLEST_VARIANCE * torch.eye(3, dtype=torch.float64))
        map_ = factor @ torch.linalg.inv(torch.linalg.cholesky(covariance))
    elif method == "pca":
        map_ = _root(wanted) @ torch.linalg.inv(_root(covariance))
    else:
        root = _root(covariance)
        inverse = torch.linalg.inv(root)
        map_ = inverse @ _root(root @ wanted @ root) @ inverse
    return (_mix(map_, style.double() - mean.view(1, 3, 1, 1)) + wanted_mean.view(1, 3, 1, 1)).to(style)


def match_luminance(
    style: Tensor, content: Tensor, style_weights: Tensor | None = None, content_weights: Tensor | None = None
) -> Tensor:
    """Makes a painting grey, with the mean and standard deviation of the photograph's L*; (1, 3, h, w) in [0, 1].

    Source:
        Gatys et al., arXiv:1611.07865, section 5.2, with L* in the place of their Y of YIQ.
    """
    lab = to_lab(style)
    (mean, variance), (wanted_mean, wanted) = (
        mean_and_covariance(lab, style_weights),
        mean_and_covariance(to_lab(content), content_weights),
    )
    scale = (wanted[0, 0] / variance[0, 0].clamp(min=SMALLEST_VARIANCE)).sqrt()
    lab[:, :1] = (scale * (lab[:, :1] - mean[0]) + wanted_mean[0]).clamp(0, 100).to(lab)
    lab[:, 1:] = 0
    return from_lab(lab).clamp(0, 1)


def match_histogram(
    style: Tensor, content: Tensor, style_weights: Tensor | None = None, content_weights: Tensor | None = None
) -> Tensor:
    """Recolours a painting so that the whole distribution of its colours is the photograph's.

    The colours are rotated and rotated back; in each rotation, the distribution along each axis is matched to the
    photograph's. The rotations are fixed, and the last is the identity: so every channel's histogram is the
    photograph's.

    Args:
        style: The painting, (1, 3, h, w).
        content: The photograph, (1, 3, H, W).
        style_weights: Weights of the painting's pixels, (1, 1, h, w).
        content_weights: Weights of the photograph's pixels, (1, 1, H, W).

    Returns:
        The recoloured painting, (1, 3, h, w), in [0, 1].

    Source:
        Pitié, Kokaram and Dahyot, "Automated colour grading using colour distribution transfer" (2007). We begin from
        `match`, so that few rotations are enough.
    """
    matched = match(style, content, "symmetric", style_weights, content_weights)
    pixels = matched[0].flatten(1).T.double().numpy()
    (chosen, shares), (seen, goal_shares) = _sample(style, style_weights), _sample(content, content_weights)
    goal = content[0].flatten(1).T.double().numpy()[seen]
    generator = torch.Generator().manual_seed(0)
    turns = [torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))[0] for _ in range(ROUNDS)]
    for turn in (x.numpy() for x in [*turns, torch.eye(3, dtype=torch.float64)]):  # the identity comes last
        pixels, turned = pixels @ turn, goal @ turn
        for axis in range(3):
            line = pixels[:, axis]
            pixels[:, axis] = np.interp(line, *_transport(line[chosen], shares, turned[:, axis], goal_shares))
        pixels = pixels @ turn.T
    return torch.from_numpy(pixels.T.copy()).view_as(style).clamp(0, 1).to(style)


def recolored(
    color: Color,
    content: Tensor,
    style: Tensor,
    method: Matching = "symmetric",
    content_weights: Tensor | None = None,
    style_weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Returns the photograph and the painting that the network sees, in [0, 1].

    Args:
        color: `style` changes neither; `content` makes both grey, the painting with the photograph's lightness (the
            photograph's colours are put back at the end, `with_colors`); `match` and `histogram` recolour the painting.
        content: The photograph, (1, 3, H, W).
        style: The painting, (1, 3, h, w).
        method: The method of `match`.
        content_weights: Weights of the photograph's pixels, (1, 1, H, W).
        style_weights: Weights of the painting's pixels, (1, 1, h, w).

    Raises:
        InputError: If the choice of colours or the method does not exist, or no pixel has a weight above 0.
    """
    check_choice("data.color", color, Color)
    if color == "content":
        return gray(content), match_luminance(style, content, style_weights, content_weights)
    if color == "match":
        return content, match(style, content, method, style_weights, content_weights).clamp(0, 1)
    if color == "histogram":
        return content, match_histogram(style, content, style_weights, content_weights)
    return content, style


def finished(picture: Tensor, lab: Tensor | None = None, protected: Tensor | None = None) -> Tensor:
    """Gives a picture the colours and the protected pixels of the photograph.

    Args:
        picture: The picture, (1, 3, H, W) in [0, 1].
        lab: The photograph at the result's size, (1, 3, h, w), in CIE L*a*b*; None to keep the picture's colours.
        protected: The photograph's RGB and the mask of its protected pixels, (1, 4, h, w) in [0, 1]; None for no mask.

    Returns:
        The picture, (1, 3, H, W) in [0, 1].
    """
    if lab is not None:
        picture = with_colors(picture, _fitted(lab, picture))
    if protected is None:
        return picture
    photograph = _fitted(protected, picture).clamp(0, 1)
    return torch.lerp(picture, photograph[:, :3], photograph[:, 3:])


def _fitted(image: Tensor, picture: Tensor) -> Tensor:
    """Resamples an image, (1, C, h, w), to a picture's size, which is smaller at every level but the last."""
    if image.shape[2:] != picture.shape[2:]:
        image = resample(image, (picture.shape[2], picture.shape[3]), "bicubic")
    return image.to(picture)


def _broad(channel: Tensor) -> Tensor:
    """Returns the low frequencies of a channel, (1, 1, H, W), by way of a thumbnail of BROAD pixels."""
    height, width = channel.shape[2:]
    rows, columns = (max(1, round(x * BROAD / max(height, width))) for x in (height, width))
    small = resample(channel, (rows, columns), "bilinear")
    return nnf.interpolate(small, (height, width), mode="bicubic", align_corners=False)


def _mix(matrix: Tensor, channels: Tensor) -> Tensor:
    return torch.einsum("ij,njhw->nihw", matrix.to(channels), channels)


def _root(covariance: Tensor) -> Tensor:
    """The symmetric square root of a covariance matrix."""
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root


def _weighted(rgb: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """Returns the values of the pixels that have a weight, (n, 3), and their shares, (n,), which sum to 1; float64."""
    values = rgb[0].flatten(1).T.double()
    if weights is None:
        return values, torch.full((len(values),), 1 / len(values), dtype=torch.float64)
    shares = weights.flatten().double()
    if not shares.numel() or float(shares.sum()) <= 0:
        raise InputError("Expected a picture with something to see, but all of it is transparent; change the picture")
    seen = shares > 0
    return values[seen], shares[seen] / shares.sum()


def _sample(rgb: Tensor, weights: Tensor | None) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Returns the indices of at most SAMPLE pixels that have a weight, evenly spread, and their shares."""
    flat = torch.ones(rgb[0, 0].numel()) if weights is None else weights.flatten()
    seen = flat.nonzero()[:, 0]
    chosen = seen[:: -(-len(seen) // SAMPLE)]
    shares = flat[chosen].double().numpy()
    return chosen.numpy(), shares / shares.sum()


def _transport(
    source: NDArray[np.float64],
    shares: NDArray[np.float64],
    goal: NDArray[np.float64],
    goal_shares: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the source's values in ascending order, and the goal's values of the same ranks."""
    order, goal_order = np.argsort(source), np.argsort(goal)
    ranks, goal_ranks = (np.cumsum(w) - w / 2 for w in (shares[order], goal_shares[goal_order]))
    return source[order], np.interp(ranks, goal_ranks, goal[goal_order])
