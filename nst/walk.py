"""One way through the network and back, at once or in bands of rows, with the same result.

A stage of the network (see `stages.py`) works on bands of its input, one after another. The first time through, what a
band adds to the statistics is summed and only the pooled rows are kept, the next stage's input. On the way back each
band is computed again and its gradient carried from the stage's output to its input. A band has a few rows more than it
answers for, on which these depend. A stage of one band keeps its activations instead: a picture in memory is one band
in every stage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nst.features import Features
from nst.plan import sides
from nst.stages import Stage

Look = Callable[[str, Tensor, slice], None]
"""Is shown a layer's name, activations of some of its rows, (N, C, h, w), and which rows they are."""

Watch = Callable[[int, int], None]
"""Is told how many bands are done, and of how many: all those there and, where there is a gradient, back."""


class Band(NamedTuple):
    """Rows of a stage's input.

    Attributes:
        start: The first row that the band answers for.
        stop: The row after the last one.
        top: The first row that those depend on.
        bottom: The row after the last one.
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


def bands(height: int, rows: int, halo: int) -> list[Band]:
    """Cuts an input into bands of at most `rows` rows (an even number) that overlap by a halo."""
    rows = min(rows, height)
    count = -(-height // rows)
    even = rows if count == 1 else -(-height // count) + (-(-height // count)) % 2
    starts = range(0, height, even)
    return [Band(a, min(a + even, height), max(a - halo, 0), min(a + even + halo, height)) for a in starts]


class Walk:
    """One way through the network for one picture, and back.

    Args:
        features: The network.
        stages: Its stages.
        rows: The rows of a band, for each stage.
        watch: Is told of each band that is done.
    """

    def __init__(self, features: Features, stages: Sequence[Stage], rows: Sequence[int], watch: Watch) -> None:
        self.features, self.stages, self.rows = features, stages, rows
        self._watch, self._done, self._all = watch, 0, 0
        self.inputs: list[Tensor] = []
        self.kept: list[dict[str, Tensor]] = []

    def forward(self, picture: Tensor, look: Look, keep: bool) -> None:
        """Shows the activations that losses asked for, and keeps what the way back needs if that is wanted."""
        x: Tensor | None = picture
        heights = sides(self.stages, picture.shape[2])
        there = sum(len(bands(height, rows, 0)) for height, rows in zip(heights, self.rows, strict=True))
        self._all = 2 * there if keep else there
        for stage, rows in zip(self.stages, self.rows, strict=True):
            assert x is not None
            pooled: Tensor | None = None
            pieces = bands(x.shape[2], rows, stage.halo)
            for band in pieces:
                source = self._source(stage, x, band)
                kept = stage.forward(source, _within(band, look))
                if len(pieces) == 1:
                    pooled = kept[stage.layers[-1]]
                elif stage is not self.stages[-1]:
                    pooled = self._place(pooled, kept[stage.layers[-1]], x, band.at(stage.layers[-1]))
                self._tick()
            if keep:
                self.inputs.append(source if len(pieces) == 1 else x)
                self.kept.append(kept if len(pieces) == 1 else {})
            x = pooled

    def backward(self, add: Callable[[str, Tensor, Tensor, slice], None]) -> Tensor:
        """Returns the picture's gradient.

        Args:
            add: Adds to a gradient, its second argument, what the losses have for the activations, its third.
        """
        gradient: Tensor | None = None
        for stage, rows in zip(reversed(self.stages), reversed(self.rows), strict=True):
            x, kept = self.inputs.pop(), self.kept.pop()
            first = stage is self.stages[0]
            if kept:
                gradient = stage.backward(x, kept, gradient, _pull(bands(x.shape[2], rows, stage.halo)[0], add))
                if first:
                    gradient = (gradient / self.features.deviation).contiguous()
                self._tick()
                continue
            whole = torch.zeros_like(x)
            for band in bands(x.shape[2], rows, stage.halo):
                source = self._source(stage, x, band)
                kept = stage.forward(source, lambda *_: None)
                above = None if gradient is None else _embed(gradient, band.at(stage.layers[-1]))
                piece = stage.backward(source, kept, above, _pull(band, add))
                whole[:, :, band.top : band.bottom] += piece / self.features.deviation if first else piece
                self._tick()
            gradient = whole
        assert gradient is not None
        return gradient

    def _tick(self) -> None:
        self._done += 1
        self._watch(self._done, self._all)

    def _source(self, stage: Stage, x: Tensor, band: Band) -> Tensor:
        rows = x[:, :, band.top : band.bottom]
        if stage is not self.stages[0]:
            return rows
        # channels last in memory: the layout that convolutions are fastest in, above all in bfloat16
        return self.features.normalize(rows).to(stage.dtype, memory_format=torch.channels_last)

    def _place(self, pooled: Tensor | None, output: Tensor, x: Tensor, band: Band) -> Tensor:
        """Copies a band's own rows of the stage's output into all of it."""
        if pooled is None:
            pooled = empty((*output.shape[:2], x.shape[2] // 2, output.shape[3]), output)
        pooled[:, :, band.own] = output[:, :, band.inner]
        return pooled


def empty(shape: tuple[int, ...], like: Tensor) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def _within(band: Band, look: Look) -> Callable[[str, Tensor], None]:
    """Shows the rows that a band answers for."""

    def show(layer: str, y: Tensor) -> None:
        rows = band.at(layer)
        look(layer, y[:, :, rows.inner], rows.own)

    return show


def _pull(
    band: Band, add: Callable[[str, Tensor, Tensor, slice], None]
) -> Callable[[str, Tensor, Tensor | None], Tensor]:
    """Adds to the gradient of the rows that a band answers for."""

    def pull(layer: str, y: Tensor, gradient: Tensor | None) -> Tensor:
        rows = band.at(layer)
        gradient = torch.zeros_like(y) if gradient is None else gradient
        add(layer, gradient[:, :, rows.inner], y[:, :, rows.inner], rows.own)
        return gradient

    return pull


def _embed(gradient: Tensor, band: Band) -> Tensor:
    """Returns the gradient of a band's rows: 0 for those that it does not answer for."""
    piece = torch.zeros_like(gradient[:, :, band.top : band.bottom])
    piece[:, :, band.inner] = gradient[:, :, band.own]
    return piece
