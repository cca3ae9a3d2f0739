"""Pictures to calibrate the compact network on: random crops of photographs, and painted ones.

Photographs are cropped, scaled, mirrored and recoloured at random. Where a style is wanted, a part of them is replaced
by drawings of four kinds (clouds, mosaics, waves, tiles), which hold what photographs lack: flat, saturated colours,
hard edges and regular strokes.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import torch
import torch.nn.functional as nnf
from torch import Tensor

DRAWN = 0.25
"""Share of the styles that are drawn."""


class Crops:
    """An endless, seeded source of crops.

    Args:
        pictures: Photographs, each (1, 3, H, W), RGB in [0, 1].
        seed: The same seed gives the same crops in the same order.
    """

    def __init__(self, pictures: Sequence[Tensor], seed: int) -> None:
        self.pictures = [(picture * 255).round().to(torch.uint8) for picture in pictures]
        self.random = random.Random(seed)
        self.generator = torch.Generator().manual_seed(seed)

    def content(self, size: int) -> Tensor:
        """Returns a crop of a photograph, (1, 3, size, size), now and then recoloured."""
        return self._photograph(size, recoloured=0.25)

    def style(self, size: int) -> Tensor:
        """Returns a recoloured crop of a photograph or a drawing, (1, 3, size, size)."""
        if self.random.random() < DRAWN:
            return self._drawing(size)
        return self._photograph(size, recoloured=0.5)

    def _photograph(self, size: int, recoloured: float) -> Tensor:
        picture = self.random.choice(self.pictures)
        height, width = picture.shape[2:]
        smallest = min(max(size / min(height, width), 0.35), 1.3)
        scale = math.exp(self.random.uniform(math.log(smallest), math.log(1.3)))
        side = min(max(round(size / scale), 1), height, width)
        y, x = self.random.randint(0, height - side), self.random.randint(0, width - side)
        crop = picture[..., y : y + side, x : x + side].float() / 255
        if side != size:
            crop = nnf.interpolate(crop, size=(size, size), mode="bilinear", antialias=True)
        if self.random.random() < 0.5:
            crop = crop.flip(3)
        if self.random.random() < recoloured:
            crop = self._recolour(crop)
        return self._grain(crop, 0.15)

    def _recolour(self, crop: Tensor) -> Tensor:
        mix = 0.4 * torch.eye(3) + 0.36 * torch.randn(3, 3, generator=self.generator)
        mix = mix / mix.sum(1, keepdim=True).abs().clamp_min(0.4)
        crop = torch.einsum("ij,njhw->nihw", mix, crop)
        mean = crop.mean((2, 3), keepdim=True)
        return (crop - mean) * self.random.uniform(0.7, 1.4) + mean.clamp(0.1, 0.9)

    def _grain(self, crop: Tensor, share: float) -> Tensor:
        if self.random.random() < share:
            noise = torch.randn(crop.shape, generator=self.generator)
            crop = crop + noise * self.random.uniform(0.02, 0.15)
        return crop.clamp(0, 1)

    def _drawing(self, size: int) -> Tensor:
        kind = self.random.choice((self._clouds, self._mosaic, self._waves, self._tiles))
        return self._grain(kind(size), 0.3)

    def _colours(self, count: int) -> Tensor:
        return torch.rand(count, 3, generator=self.generator)

    def _smooth(self, size: int, cells: int) -> Tensor:
        """Returns smooth noise, (1, 3, size, size), with that many bumps a side."""
        noise = torch.rand(1, 3, cells, cells, generator=self.generator)
        return nnf.interpolate(noise, size=(size, size), mode="bicubic")

    def _clouds(self, size: int) -> Tensor:
        roughness = self.random.random()
        octaves = [self._smooth(size, 2**i) * 0.5 ** (i * roughness) for i in range(1, 7)]
        sky = torch.stack(octaves).sum(0)
        return (sky - sky.mean()) / sky.std() * self.random.uniform(0.15, 0.35) + 0.5

    def _mosaic(self, size: int) -> Tensor:
        count = self.random.choice((20, 60, 200))
        seeds = torch.rand(count, 2, generator=self.generator)
        y, x = _grid(size)
        squares = (y.reshape(-1, 1) - seeds[:, 0]) ** 2 + (x.reshape(-1, 1) - seeds[:, 1]) ** 2
        nearest, index = squares.topk(2, largest=False)
        stones = self._colours(count)[index[:, 0]]
        if self.random.random() < 0.5:
            joints = nearest[:, 1].sqrt() - nearest[:, 0].sqrt() < self.random.uniform(0.003, 0.02)
            stones = stones * ~joints[:, None]
        return stones.T.reshape(1, 3, size, size)

    def _waves(self, size: int) -> Tensor:
        y, x = _grid(size)
        warp = self._smooth(size, self.random.choice((3, 5, 9)))[0]
        angle = self.random.uniform(0, 2 * math.pi)
        phase = (x * math.cos(angle) + y * math.sin(angle)) * self.random.uniform(10, 120)
        phase = phase + warp[0] * self.random.uniform(0, 25)
        share = torch.sigmoid(torch.sin(phase) * self.random.uniform(1, 8))
        colours = self._colours(2)[:, :, None, None]
        return (colours[:1] * share + colours[1:] * (1 - share)) + 0.1 * (warp[None] - 0.5)

    def _tiles(self, size: int) -> Tensor:
        wall = self._colours(1)[:, :, None, None].expand(1, 3, size, size).clone()
        for colour in self._colours(self.random.choice((30, 100, 300))):
            height = self.random.randint(1, max(size // 3, 1))
            width = self.random.randint(1, max(size // 4, 1))
            y, x = self.random.randint(-height, size - 1), self.random.randint(-width, size - 1)
            wall[..., max(0, y) : y + height, max(0, x) : x + width] = colour[:, None, None]
        return wall


def _grid(size: int) -> tuple[Tensor, Tensor]:
    line = torch.linspace(0, 1, size)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return y, x
