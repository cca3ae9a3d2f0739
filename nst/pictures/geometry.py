"""Sizes and margins of pictures: resampling for files and with a gradient, and what makes a picture tile."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from nst.machine.numerics import plain


def fit(height: int, width: int, longer: int) -> tuple[int, int]:
    """Returns height and width of the same aspect whose longer side is `longer`, each at least 1."""
    scale = longer / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def resize(image: Tensor, height: int, width: int, smooth: bool = False) -> Tensor:
    """Resamples (1, C, H, W) to (1, C, height, width), clipped to [0, 1].

    By an antialiased Lanczos filter, or where it is to be smooth by a triangle, which does not ring.
    """
    if image.shape[2:] == (height, width):
        return image
    kind = Image.Resampling.BILINEAR if smooth else Image.Resampling.LANCZOS
    channels = [np.asarray(Image.fromarray(channel.numpy()).resize((width, height), kind)) for channel in image[0]]
    return torch.from_numpy(np.stack(channels))[None].clamp(0, 1)


def periodic(image: Tensor) -> Tensor:
    """Takes from an image, (1, C, H, W) in [0, 1], the smooth part that keeps it from tiling.

    What is inside stays, but for slow changes of brightness; the steps between opposite borders are gone.

    Source:
        Moisan, "Periodic plus smooth image decomposition" (2011), equations 7 to 11. We repeat it, since clipping to
        [0, 1] brings a little of the steps back.
    """
    wide = image.double()
    down, right = (2 * torch.cos(2 * torch.pi * torch.fft.fftfreq(n, dtype=torch.float64)) for n in image.shape[2:])
    laplacian = down[:, None] + right[None, :] - 4
    laplacian[0, 0] = 1  # the mean has no step
    for _ in range(5):
        steps = torch.zeros_like(wide)
        for dim in (2, 3):
            step = wide.narrow(dim, -1, 1) - wide.narrow(dim, 0, 1)
            steps.narrow(dim, 0, 1).add_(step)
            steps.narrow(dim, -1, 1).sub_(step)
        wide = (wide - torch.fft.ifft2(torch.fft.fft2(steps) / laplacian).real).clamp(0, 1)
    return wide.to(image)


def resample(image: Tensor, size: tuple[int, int], mode: str, wrap: bool = False) -> Tensor:
    """Interpolates (1, C, H, W) to another size, `bicubic` or `bilinear`, antialiased where it shrinks.

    Args:
        image: The image.
        size: The new height and width.
        mode: `bicubic` or `bilinear`.
        wrap: Whether opposite borders are neighbours, as in a picture that tiles.
    """
    if wrap:  # the middle one of three copies, first one below the other and then side by side
        height, width = size
        image = resample(image.repeat(1, 1, 3, 1), (3 * height, image.shape[3]), mode)[:, :, height : 2 * height]
        return resample(image.repeat(1, 1, 1, 3), (height, 3 * width), mode)[..., width : 2 * width].contiguous()
    return nn.functional.interpolate(image, size, mode=mode, align_corners=False, antialias=True)


def extend(image: Tensor, margin: int) -> Tensor:
    """Adds a margin of the border's own values to (1, C, H, W)."""
    return nn.functional.pad(image, (margin,) * 4, mode="replicate") if margin else image


def trim(image: Tensor, margin: int) -> Tensor:
    """Cuts a margin off (1, C, H, W)."""
    return image[:, :, margin : image.shape[2] - margin, margin : image.shape[3] - margin]


LOBES = 3
"""Of the Lanczos filter, as Pillow has it."""


def shrink(picture: Tensor, height: int, width: int, wrap: bool = False) -> Tensor:
    """Resamples (1, C, H, W) as `images.resize` does, so that the two are compared alike, but with a gradient.

    A softer filter than the photograph's and the painting's would have the picture drawn too sharp. Where the picture
    tiles, opposite borders are neighbours (`wrap`).
    """
    with plain(picture.device):
        rows, columns = lanczos(picture.shape[2], height, wrap), lanczos(picture.shape[3], width, wrap)
        return rows.to(picture) @ picture @ columns.to(picture).T


@lru_cache(maxsize=4)
def lanczos(size: int, smaller: int, wrap: bool = False) -> Tensor:
    """Returns the weights, (smaller, size), that an antialiased Lanczos filter gives to the values of a row."""
    scale = size / smaller
    centres = (torch.arange(smaller, dtype=torch.float64) + 0.5) * scale
    x = (torch.arange(size, dtype=torch.float64) + 0.5 - centres[:, None]) / scale
    x = (x + smaller / 2) % smaller - smaller / 2 if wrap else x
    weights = torch.sinc(x) * torch.sinc(x / LOBES) * (x.abs() < LOBES)
    return (weights / weights.sum(1, keepdim=True)).float()
