"""Where a photograph has a subject, and where it is empty, such as a sky or a wall."""

from __future__ import annotations

import torch
import torch.nn.functional as nnf
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from nst.machine.numerics import plain
from nst.pictures.geometry import fit, resample
from nst.scene.levels import Level

SIZE = 256
"""The longer side of the copy that is looked at, in pixels: so the map is the same at every level."""

AROUND, WITHIN, SOFT = 2.5, 36, 8.0
"""Pixels of the copy: how far an edge reaches; how far edges may lie apart with a subject between them, such as the
cheek between a mouth and an ear; and how soft the border of a subject is."""

HALF = 0.5
"""Mean gradient, over the mean of the whole photograph, at which an area is half a subject."""


def subject(level: Level) -> Tensor:
    """Returns how much of a subject each pixel of a level's photograph shows, (1, 1, H, W) in [0, 1].

    An area is a subject where it has edges, and between edges that are near to each other. Where regions say how much
    of a subject they are, they are right.
    """
    said, found = level.subject, edges(level.content)
    return found if said is None else torch.lerp(found, said[:, :1], said[:, 1:])


def edges(photograph: Tensor) -> Tensor:
    """Returns how near each pixel of a photograph, (1, 3, H, W), is to edges, (1, 1, H, W) in [0, 1]."""
    height, width = photograph.shape[2:]
    with plain(photograph.device):
        small = resample(photograph, fit(height, width, min(SIZE, max(height, width))), "bilinear")
        luminance = _blur(small.mean(1, keepdim=True), 1.0)
        padded = nnf.pad(luminance, [1] * 4, mode="replicate")
        down = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
        right = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
        gradient = _blur(torch.hypot(down, right), AROUND)
        ratio = (gradient / gradient.mean().clamp(min=1e-6)).square()
        closed = -_largest(-_largest(ratio / (ratio + HALF**2)))
        return resample(_blur(closed, SOFT), (height, width), "bilinear").clamp(0, 1)


def _largest(image: Tensor) -> Tensor:
    """Returns the largest value in an octagon around each pixel, WITHIN pixels wide."""
    for step in range(WITHIN // 2):
        row, column = (nnf.max_pool2d(image, size, 1, (size[0] // 2, size[1] // 2)) for size in ((1, 3), (3, 1)))
        image = torch.maximum(row, column) if step % 2 else nnf.max_pool2d(image, 3, 1, 1)
    return image


def _blur(image: Tensor, deviation: float) -> Tensor:
    """Blurs (1, 1, H, W) by a Gaussian; a border is continued by its outermost pixels."""
    radius = round(3 * deviation)
    padded = nnf.pad(image, [radius] * 4, mode="replicate")
    blurred: Tensor = gaussian_blur(padded, [2 * radius + 1] * 2, [deviation] * 2)
    return blurred[:, :, radius:-radius, radius:-radius]
