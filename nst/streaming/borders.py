"""Bands of rows, and the rows beyond the borders of what a process answers for.

A band consists of its own rows and a halo, the rows above and below on which the results of its own rows depend. The
halo ends at the picture's border or, where pictures tile, goes on at the opposite border. A process holds the rows of
its share of each stage's input, with a margin for the halo's rows that lie beyond: they are copied from the opposite
border, or sent by the processes that have them, before bands are read. In the backward pass the margin's gradient goes
back to the rows that were copied, and is added there: the adjoint of filling the margin.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nst.distributed.processes import Processes, Share


class Band(NamedTuple):
    """A band of rows of a stage's input, counted from the first row of the process's share.

    Attributes:
        start: The first of the band's own rows.
        stop: The row after the last of the band's own rows.
        top: The first row of the halo above; below 0 for a row of the margin.
        bottom: The row after the last row of the halo below; above the number of rows for a row of the margin.
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
        """The band's own rows, counted from the first row of the share."""
        return slice(self.start, self.stop)

    @property
    def inner(self) -> slice:
        """The band's own rows, counted from the first row of the band."""
        return slice(self.start - self.top, self.stop - self.top)


class Margin(NamedTuple):
    """The numbers of rows that a buffer has above and below the rows of a share."""

    above: int
    below: int


class Borders:
    """The rows around the bands of a stage's input.

    Args:
        share: The rows that the process answers for.
        halo: Rows of the halo above and below a band.
        wrap: Whether the picture tiles, so that a row beyond its border is a row of the opposite border.
        processes: The processes that have the other rows.
    """

    def __init__(self, share: Share, halo: int, wrap: bool, processes: Processes) -> None:
        self.share, self.halo, self.wrap, self.processes = share, halo, wrap, processes

    def bands(self, rows: int) -> list[Band]:
        """Cuts the share into bands of at most `rows` rows (an even number) that overlap by the halo.

        If the share has no more rows, it is one band, without a halo where it is the whole picture; an empty share has
        no band.
        """
        height = self.share.rows
        if height == 0:
            return []
        if rows >= height:
            return [Band(0, height, 0, height) if self.share.is_whole else self._band(0, height)]
        count = -(-height // rows)
        even = -(-height // count) + (-(-height // count)) % 2
        return [self._band(top, min(top + even, height)) for top in range(0, height, even)]

    def _band(self, start: int, stop: int) -> Band:
        return Band(start, stop, *self.within(start - self.halo, stop + self.halo))

    def within(self, top: int, bottom: int) -> tuple[int, int]:
        """Limits the rows from `top` to `bottom` to rows that there are."""
        if self.wrap:
            return top, bottom
        return max(top, -self.share.start), min(bottom, self.share.height - self.share.start)

    def margin(self, bands: Sequence[Band]) -> Margin:
        """Returns the margin that a buffer needs for its bands."""
        return Margin(-bands[0].top, bands[-1].bottom - self.share.rows) if bands else Margin(0, 0)

    def indices(self, band: Band, device: torch.device) -> Tensor:
        """Returns which rows of the whole picture the rows of a band and its halo are."""
        rows = torch.arange(band.top, band.bottom, device=device) + self.share.start
        return rows % self.share.height

    def rows(self, picture: Tensor, band: Band) -> Tensor:
        """Returns the rows of a band and its halo, cut from the whole picture, (1, 3, H, W)."""
        top, bottom = self.share.start + band.top, self.share.start + band.bottom
        if top >= 0 and bottom <= self.share.height:
            return picture[:, :, top:bottom]
        return picture.index_select(2, self.indices(band, picture.device))

    def fill(self, x: Tensor, margin: Margin) -> None:
        """Fills the margin of a buffer, (1, C, above + h + below, w), in place."""
        lent, borrowed, own = self._moves(x.device, margin)
        incoming = {rank: x.new_empty(*x.shape[:2], len(rows), x.shape[3]) for rank, rows in borrowed.items()}
        self.processes.swap({rank: x.index_select(2, rows) for rank, rows in lent.items()}, incoming)
        for rank, rows in borrowed.items():
            x.index_copy_(2, rows, incoming[rank])
        for to, source in own:
            x.index_copy_(2, to, x.index_select(2, source))

    def fold(self, gradient: Tensor, margin: Margin) -> None:
        """Adds the margin's gradient to the gradient of the rows that were copied, in place: the adjoint of `fill`."""
        lent, borrowed, own = self._moves(gradient.device, margin)
        shape = gradient.shape
        incoming = {rank: gradient.new_empty(*shape[:2], len(rows), shape[3]) for rank, rows in lent.items()}
        self.processes.swap({rank: gradient.index_select(2, rows) for rank, rows in borrowed.items()}, incoming)
        for rank, rows in lent.items():
            gradient.index_add_(2, rows, incoming[rank])
        for to, source in own:
            gradient.index_add_(2, source, gradient.index_select(2, to))

    def _moves(
        self, device: torch.device, margin: Margin
    ) -> tuple[dict[int, Tensor], dict[int, Tensor], list[tuple[Tensor, Tensor]]]:
        """Returns which rows of the buffer go where.

        Returns:
            The rows that other processes borrow, by rank; the rows of the margin that are borrowed, by rank; and rows
            of the margin with the rows of this share that they copy.
        """
        me, lent, borrowed = self.share.rank, dict[int, Tensor](), dict[int, Tensor]()
        own: list[tuple[Tensor, Tensor]] = []
        for rank in range(len(self.share.bounds) - 1):
            share, (above, below) = self.share.of(rank), margin
            if rank != me:
                above, below = self._margin_of(share)
            rows = [*range(-above, 0), *range(share.rows, share.rows + below)]
            owners: dict[int, list[tuple[int, int]]] = {}
            for row in rows:
                source = (share.start + row) % share.height
                owner = next(i for i in range(len(share.bounds) - 1) if source < share.bounds[i + 1])
                owners.setdefault(owner, []).append((row + above, source - share.of(owner).start))
            for owner, pairs in owners.items():
                to, source_rows = (torch.tensor(x, device=device) for x in zip(*pairs, strict=True))
                if rank == me == owner:
                    own.append((to, source_rows + margin.above))
                elif rank == me:
                    borrowed[owner] = to
                elif owner == me:
                    lent[rank] = source_rows + margin.above
        return lent, borrowed, own

    def _margin_of(self, share: Share) -> Margin:
        """Returns the margin of another process."""
        if share.rows == 0:
            return Margin(0, 0)
        other = Borders(share, self.halo, self.wrap, self.processes)
        return other.margin(other.bands(share.rows))
