"""Bands of rows, and the rows beyond a picture's upper and lower border.

A band consists of its own rows and a halo, the rows above and below on which the results of its own rows depend. Beyond
the picture's border there is no halo or, where pictures tile, a halo of rows of the opposite border. For such a halo
the buffer that bands are cut from has a margin of copied rows, which is filled before bands are read; in the backward
pass the margin's gradient is added to the rows that were copied, which is the adjoint of filling the margin.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Band(NamedTuple):
    """A band of rows of a stage's input.

    Attributes:
        start: The first of the band's own rows.
        stop: The row after the last of the band's own rows.
        top: The first row of the halo above; below 0 for a row beyond the upper border.
        bottom: The row after the last row of the halo below; above the height for a row beyond the lower border.
    """

    start: int
    stop: int
    top: int
    bottom: int

    def at(self, layer: str) -> Band:
        """Returns the band of a layer's activations that belongs to this band: half as many rows after the pool.

        Halves are rounded up, as an odd row is pooled where pictures tile; elsewhere slices end before the missing row.
        """
        return Band(*((row + 1) // 2 for row in self)) if layer.startswith("pool") else self

    @property
    def own(self) -> slice:
        """The band's own rows, counted from the first row of the picture."""
        return slice(self.start, self.stop)

    @property
    def inner(self) -> slice:
        """The band's own rows, counted from the first row of the band."""
        return slice(self.start - self.top, self.stop - self.top)


class Borders(ABC):
    """The rows beyond the upper and the lower border, and the way of their gradient back into the picture."""

    def bands(self, height: int, rows: int, halo: int) -> list[Band]:
        """Cuts an input into bands of at most `rows` rows (an even number) that overlap by a halo.

        Args:
            height: Rows of the input.
            rows: Rows of a band without its halo; if the input has no more rows, one band is the whole input.
            halo: Rows of the halo above and below a band.
        """
        if rows >= height:
            return [Band(0, height, 0, height)]
        count = -(-height // rows)
        even = -(-height // count) + (-(-height // count)) % 2
        cuts = [(a, min(a + even, height)) for a in range(0, height, even)]
        return [Band(a, b, *self.within(a - halo, b + halo, height)) for a, b in cuts]

    @abstractmethod
    def within(self, top: int, bottom: int, height: int) -> tuple[int, int]:
        """Limits the rows from `top` to `bottom` to the rows that an input of some height can supply."""

    @abstractmethod
    def rows(self, picture: Tensor, band: Band) -> Tensor:
        """Returns the rows of a band and its halo, cut from a picture without a margin, (1, 3, H, W)."""

    @abstractmethod
    def fill(self, x: Tensor, margin: int) -> None:
        """Fills the margin above and below a buffer, (1, C, margin + h + margin, w), in place."""

    @abstractmethod
    def fold(self, gradient: Tensor, margin: int) -> None:
        """Adds the margin's gradient to the gradient of the rows that were copied, in place: the adjoint of `fill`."""


class Cut(Borders):
    """No rows beyond the borders: the network pads a band there as it pads a whole picture."""

    def within(self, top: int, bottom: int, height: int) -> tuple[int, int]:
        return max(top, 0), min(bottom, height)

    def rows(self, picture: Tensor, band: Band) -> Tensor:
        return picture[:, :, band.top : band.bottom]

    def fill(self, x: Tensor, margin: int) -> None:
        """There is no margin."""

    def fold(self, gradient: Tensor, margin: int) -> None:
        """There is no margin."""


class Wrap(Borders):
    """The rows of the opposite border, as in a picture that tiles."""

    def within(self, top: int, bottom: int, height: int) -> tuple[int, int]:
        return top, bottom

    def rows(self, picture: Tensor, band: Band) -> Tensor:
        if band.top >= 0 and band.bottom <= picture.shape[2]:
            return picture[:, :, band.top : band.bottom]
        return picture.index_select(2, torch.arange(band.top, band.bottom, device=picture.device) % picture.shape[2])

    def fill(self, x: Tensor, margin: int) -> None:
        for border, opposite in self._borders(x, margin):
            border.copy_(x.index_select(2, opposite))

    def fold(self, gradient: Tensor, margin: int) -> None:
        for border, opposite in self._borders(gradient, margin):
            gradient.index_add_(2, opposite, border.clone())

    def _borders(self, x: Tensor, margin: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields the margins above and below, (1, C, margin, w), each with the indices of the rows that it copies."""
        height = x.shape[2] - 2 * margin
        for first in (-margin, height) if margin else ():
            rows = torch.arange(first, first + margin, device=x.device)
            yield x[:, :, first + margin : first + 2 * margin], rows % height + margin


def borders_of(padding: str) -> Borders:
    """Returns the borders that go with a network's padding."""
    return Wrap() if padding == "circular" else Cut()


def margin_of(cuts: Sequence[Band]) -> int:
    """Returns the rows of margin that a buffer needs above and below, given its bands."""
    return -cuts[0].top
