"""What the paintings share: coordinates, noise, colours, and how a picture is written within a size."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

MOST = 300_000
"""Bytes of a painting, at most."""


@dataclass
class Canvas:
    """A picture that is painted at several times its size and reduced, which smooths all edges.

    Args:
        width: Of the picture, in pixels.
        height: Of the picture, in pixels.
        times: How many times larger the canvas is.
        seed: Of everything that looks as if by hand.
    """

    width: int = 768
    height: int = 608
    times: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.shape = (self.height * self.times, self.width * self.times)
        rows, columns = np.mgrid[: self.shape[0], : self.shape[1]].astype(float)
        self.unit = self.shape[1]
        self.x, self.y = columns / self.unit, rows / self.unit
        self.bottom = self.shape[0] / self.unit

    def noise(self, cell: float | tuple[float, float], octaves: int = 3) -> Array:
        """Returns smooth noise of deviation 1, (H, W).

        Args:
            cell: The size of its blobs in shares of the width, or their height and their width.
            octaves: How many finer noises, each of half the size and half the strength, are added.
        """
        down, across = cell if isinstance(cell, tuple) else (cell, cell)
        total = np.zeros(self.shape)
        for octave in range(octaves):
            rows, columns = (
                max(2, round(size / (max(1.5, part * self.unit) / 2**octave))) + 3
                for size, part in zip(self.shape, (down, across), strict=True)
            )
            small = Image.fromarray(self.rng.standard_normal((rows, columns)).astype(np.float32))
            large = small.resize(self.shape[::-1], Image.Resampling.BICUBIC)
            total += np.asarray(large, float) / 2**octave
        return np.asarray((total - total.mean()) / (total.std() + 1e-9))

    def picture(self, colors: Array) -> Image.Image:
        """Returns the picture of colours (H, W, 3) in [0, 255], at its size."""
        image = Image.fromarray(np.clip(colors, 0, 255).astype(np.uint8))
        return image.resize((self.width, self.height), Image.Resampling.LANCZOS)


def step(low: float, high: float, value: Array) -> Array:
    """Rises smoothly from 0 at `low` to 1 at `high`; falls where `low` is the higher one."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t))


def color(*values: float) -> Array:
    """Returns a colour."""
    return np.array(values, float)


def mix(first: Array, second: Array, share: Array | float) -> Array:
    """Blends colours, (..., 3), by a share (...)."""
    return np.asarray(first + (second - first) * np.asarray(share)[..., None])


def ramp(colors: Sequence[Array], share: Array) -> Array:
    """Returns colours between those of a list, (..., 3), by a share (...) in [0, 1]."""
    table, where = np.stack(colors), np.clip(share, 0, 1) * (len(colors) - 1)
    below = np.minimum(where.astype(int), len(colors) - 2)
    return mix(table[below], table[below + 1], where - below)


def borders(labels: NDArray[np.int64]) -> Array:
    """Returns the distance of each pixel, in pixels, to the nearest border between two labels."""
    edge = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        differs = np.diff(labels, axis=axis) != 0
        first = (slice(None, -1), slice(None)) if axis == 0 else (slice(None), slice(None, -1))
        edge[first] |= differs
    return np.asarray(ndimage.distance_transform_edt(~edge))


def write(image: Image.Image, path: Path) -> None:
    """Writes a JPEG of the best quality that stays below MOST bytes."""
    for quality in range(94, 40, -2):
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality, subsampling=0)
        if file.tell() <= MOST:
            path.write_bytes(file.getvalue())
            return
    raise ValueError(f"Expected a painting that fits into {MOST} bytes, but {path} does not; lower its size")
