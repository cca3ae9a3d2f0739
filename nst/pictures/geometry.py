"""Sizes and margins of pictures: resampling for files, differentiable resampling, and images made to tile."""

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

    The filter is an antialiased Lanczos filter or, with `smooth`, a triangle filter, which does not ring.
    """
    if image.shape[2:] == (height, width):
        return image
    kind = Image.Resampling.BILINEAR if smooth else Image.Resampling.LANCZOS
    channels = [np.asarray(Image.fromarray(channel.numpy()).resize((width, height), kind)) for channel in image[0]]
    return torch.from_numpy(np.stack(channels))[None].clamp(0, 1)


def periodic(image: Tensor) -> Tensor:
    """Removes from an image, (1, C, H, W) in [0, 1], the smooth component that keeps it from tiling.

    Away from the borders only the brightness changes, and slowly; the steps between opposite borders are gone.

    Source:
        Moisan, "Periodic plus smooth image decomposition" (2011), equations 7 to 11. We repeat the decomposition, since
        clipping to [0, 1] brings a little of the steps back.
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
    """Interpolates (1, C, H, W) to another size, antialiased where the image shrinks.

    Args:
        image: The image.
        size: The new height and width.
        mode: `bicubic` or `bilinear`.
        wrap: Whether opposite borders are neighbours, as in a picture that tiles.
    """
    if wrap:  # the middle one of three copies, stacked first vertically and then horizontally
        height, width = size
        image = resample(image.repeat(1, 1, 3, 1), (3 * height, image.shape[3]), mode)[:, :, height : 2 * height]
        return resample(image.repeat(1, 1, 1, 3), (height, 3 * width), mode)[..., width : 2 * width].contiguous()
    try:
        return nn.functional.interpolate(image, size, mode=mode, align_corners=False, antialias=True)
    except NotImplementedError:  # a device without this kernel; levels change seldom
        return resample(image.cpu(), size, mode).to(image)


def extend(image: Tensor, margin: int) -> Tensor:
    """Pads (1, C, H, W) with a margin of replicated border values."""
    return nn.functional.pad(image, (margin,) * 4, mode="replicate") if margin else image


def trim(image: Tensor, margin: int) -> Tensor:
    """Cuts a margin off (1, C, H, W)."""
    return image[:, :, margin : image.shape[2] - margin, margin : image.shape[3] - margin]


LOBES = 3
"""Lobes of the Lanczos filter, as in Pillow."""


def shrink(picture: Tensor, height: int, width: int, wrap: bool = False) -> Tensor:
    """Resamples (1, C, H, W) with the filter of `resize`, but differentiably.

    `resize` brings the photograph and the painting to a size: with a softer filter here, the optimised picture would
    become too sharp. With `wrap`, opposite borders are neighbours, as in a picture that tiles.
    """
    with plain(picture.device):
        where = picture.device, picture.dtype
        rows, columns = (
            lanczos(*sides, wrap, *where) for sides in zip(picture.shape[2:], (height, width), strict=True)
        )
        return rows @ picture @ columns.T


@lru_cache(maxsize=4)
def lanczos(
    size: int, smaller: int, wrap: bool = False, device: torch.device | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Returns the weights, (smaller, size), of an antialiased Lanczos filter that shrinks a row or a column."""
    scale = size / smaller
    centres = (torch.arange(smaller, dtype=torch.float64) + 0.5) * scale
    x = (torch.arange(size, dtype=torch.float64) + 0.5 - centres[:, None]) / scale
    x = (x + smaller / 2) % smaller - smaller / 2 if wrap else x
    weights = torch.sinc(x) * torch.sinc(x / LOBES) * (x.abs() < LOBES)
    return (weights / weights.sum(1, keepdim=True)).float().to(device, dtype)
