"""Bands of rows, and what lies beyond a picture's upper and lower border.

A band has a few rows more than it answers for, on which these depend. At the picture's border there are none, or, where
pictures tile, those of the opposite border. A buffer that bands are cut from then has a margin of copies, which is
filled before it is read; on the way back the margin's gradient is added to the rows that it was copied from, which is
the adjoint of filling it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Band(NamedTuple):
    """Rows of a stage's input.

    Attributes:
        start: The first row that the band answers for.
        stop: The row after the last one.
        top: The first row that those depend on; below 0 for one beyond the border.
        bottom: The row after the last one; likewise above the height.
    """

    start: int
    stop: int
    top: int
    bottom: int

    def at(self, layer: str) -> Band:
        """Returns the same rows of a layer: half as many after the pool.

        Rounded up, as an odd row is pooled where pictures tile; where it is not, nothing is there to slice.
        """
        return Band(*((row + 1) // 2 for row in self)) if layer.startswith("pool") else self

    @property
    def own(self) -> slice:
        """The rows that the band answers for, among all of the picture's."""
        return slice(self.start, self.stop)

    @property
    def inner(self) -> slice:
        """The rows that the band answers for, among the band's."""
        return slice(self.start - self.top, self.stop - self.top)


class Borders(ABC):
    """What lies beyond the upper and the lower border, and how gradients come back from there."""

    def bands(self, height: int, rows: int, halo: int) -> list[Band]:
        """Cuts an input into bands of at most `rows` rows (an even number) that overlap by a halo.

        Args:
            height: Rows of the input.
            rows: Rows of a band; where they are no fewer, one band is all of the input.
            halo: Rows above and below a band.
        """
        if rows >= height:
            return [Band(0, height, 0, height)]
        count = -(-height // rows)
        even = -(-height // count) + (-(-height // count)) % 2
        cuts = [(a, min(a + even, height)) for a in range(0, height, even)]
        return [Band(a, b, *self.within(a - halo, b + halo, height)) for a, b in cuts]

    @abstractmethod
    def within(self, top: int, bottom: int, height: int) -> tuple[int, int]:
        """Returns what there is of rows from `top` to `bottom`, for an input of some height."""

    @abstractmethod
    def rows(self, picture: Tensor, band: Band) -> Tensor:
        """Returns a band's rows of a picture without a margin, (1, 3, H, W)."""

    @abstractmethod
    def fill(self, x: Tensor, margin: int) -> None:
        """Fills the margin above and below a buffer, (1, C, margin + h + margin, w), in place."""

    @abstractmethod
    def fold(self, gradient: Tensor, margin: int) -> None:
        """Adds the margin's gradient to that of the rows that filled it, in place: the adjoint of `fill`."""


class Cut(Borders):
    """Nothing is there: the network pads, as it does a whole picture."""

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
        """Yields the rows above and below, (1, C, margin, w), each with the indices of those that they copy."""
        height = x.shape[2] - 2 * margin
        for first in (-margin, height) if margin else ():
            rows = torch.arange(first, first + margin, device=x.device)
            yield x[:, :, first + margin : first + 2 * margin], rows % height + margin


def borders_of(padding: str) -> Borders:
    """Returns the borders that go with a network's padding."""
    return Wrap() if padding == "circular" else Cut()


def margin_of(cuts: Sequence[Band]) -> int:
    """Returns how many rows a buffer needs above and below its own, for bands of it."""
    return -cuts[0].top
