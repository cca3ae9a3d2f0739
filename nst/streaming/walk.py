"""One way through the network and back, at once or in bands of rows, with the same result.

A stage of the network (see `stages.py`) works on bands of its input, one after another. The first time through, what a
band adds to the statistics is summed and only the pooled rows are kept, the next stage's input. On the way back each
band is computed again and its gradient carried from the stage's output to its input. A band has a few rows more than it
answers for, on which these depend. A stage of one band keeps its activations instead: a picture in memory is one band
in every stage. Where pictures tile, the rows around a band go on at the opposite border.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nst.machine.memory import return_heap
from nst.network.features import Features
from nst.streaming.plan import sides
from nst.streaming.stages import Stage

Look = Callable[[str, Tensor, slice], None]
"""Is shown a layer's name, activations of some of its rows, (N, C, h, w), and which rows they are."""

Watch = Callable[[int, int], None]
"""Is told how many bands are done, and of how many: all those there and, where there is a gradient, back."""


class Band(NamedTuple):
    """Rows of a stage's input.

    Attributes:
        start: The first row that the band answers for.
        stop: The row after the last one.
        top: The first row that those depend on; below 0 for one at the opposite border.
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


def bands(height: int, rows: int, halo: int, wrap: bool = False) -> list[Band]:
    """Cuts an input into bands of at most `rows` rows (an even number) that overlap by a halo.

    Args:
        height: Rows of the input.
        rows: Rows of a band; where they are no fewer, one band is all of the input.
        halo: Rows above and below a band.
        wrap: Whether a halo goes on at the opposite border.
    """
    if rows >= height:
        return [Band(0, height, 0, height)]
    count = -(-height // rows)
    even = -(-height // count) + (-(-height // count)) % 2
    cuts = [(a, min(a + even, height)) for a in range(0, height, even)]
    if wrap:
        return [Band(a, b, a - halo, b + halo) for a, b in cuts]
    return [Band(a, b, max(a - halo, 0), min(b + halo, height)) for a, b in cuts]


class Walk:
    """One way through the network for one picture, and back.

    Args:
        features: The network.
        stages: Its stages.
        rows: The rows of a band, for each stage.
        watch: Is told of each band that is done.
        tight: Whether each stage returns the memory that it freed, as others need other sizes.
    """

    def __init__(
        self, features: Features, stages: Sequence[Stage], rows: Sequence[int], watch: Watch, tight: bool = False
    ) -> None:
        self.features, self.stages, self.rows, self.tight = features, stages, rows, tight
        self.wrap = features.padding == "circular"
        self._watch, self._done, self._all = watch, 0, 0
        self.cuts: list[list[Band]] = []
        self.inputs: list[Tensor] = []
        self.kept: list[dict[str, Tensor]] = []

    def forward(self, picture: Tensor, look: Look, keep: bool) -> None:
        """Shows the activations that losses asked for, and keeps what the way back needs if that is wanted."""
        x: Tensor | None = picture
        parts = zip(self.stages, sides(self.stages, picture.shape[2]), self.rows, strict=True)
        self.cuts = [bands(height, rows, stage.halo, self.wrap) for stage, height, rows in parts]
        self._all = sum(map(len, self.cuts)) * (2 if keep else 1)
        for i, (stage, cuts) in enumerate(zip(self.stages, self.cuts, strict=True)):
            assert x is not None
            pooled: Tensor | None = None
            margin = _margin(self.cuts[i + 1]) if i + 1 < len(self.cuts) else 0
            for band in cuts:
                source = self._source(i, x, band)
                kept = stage.forward(source, _within(band, look))
                output = kept[stage.layers[-1]]
                if len(cuts) == 1 and not margin:
                    pooled = output
                elif i + 1 < len(self.stages):
                    if pooled is None:
                        height = self.cuts[i + 1][-1].stop + 2 * margin
                        pooled = empty((*output.shape[:2], height, output.shape[3]), output)
                    rows = band.at(stage.layers[-1])
                    pooled[:, :, rows.start + margin : rows.stop + margin] = output[:, :, rows.inner]
                self._tick()
            if margin and pooled is not None:
                for border, opposite in _borders(pooled, margin):
                    border.copy_(pooled.index_select(2, opposite))
            if keep:
                self.inputs.append(source if len(cuts) == 1 else x)
                self.kept.append(kept if len(cuts) == 1 else {})
            x = pooled
            if self.tight:
                del source, kept, output
                return_heap()

    def backward(self, add: Callable[[str, Tensor, Tensor, slice], None]) -> Tensor:
        """Returns the picture's gradient; there is one way back for each way there.

        Args:
            add: Adds to a gradient, its second argument, what the losses have for the activations, its third.
        """
        gradient: Tensor | None = None
        for i in reversed(range(len(self.stages))):
            x, kept = self.inputs.pop(), self.kept.pop()
            if len(self.cuts[i]) > 1:
                gradient = self._backward_in_bands(i, x, gradient, add)
            else:
                gradient = self.stages[i].backward(x, kept, gradient, _pull(self.cuts[i][0], add))
                if i == 0:
                    gradient = gradient.contiguous() / self.features.deviation
                self._tick()
            if self.tight:
                del x, kept
                return_heap()
        assert gradient is not None
        return gradient.contiguous()

    def _backward_in_bands(
        self, i: int, x: Tensor, gradient: Tensor | None, add: Callable[[str, Tensor, Tensor, slice], None]
    ) -> Tensor:
        """Carries a gradient from the output of a stage to its input, and puts it into the input's place."""
        stage, cuts, margin = self.stages[i], self.cuts[i], _margin(self.cuts[i])
        into, tail = x, x[:, :, :0]
        if i == 0 or self.kept[-1]:  # but for the picture, and for what the stage before has kept as its output
            height = cuts[-1].stop + 2 * margin
            into = x.new_empty((*x.shape[:2], height, x.shape[3])) if i == 0 else torch.empty_like(x)
        for band, top in zip(cuts, [*(band.top for band in cuts[1:]), cuts[-1].bottom], strict=True):
            source = self._source(i, x, band)
            kept = stage.forward(source, lambda *_: None)
            above = None if gradient is None else self._embed(gradient, band.at(stage.layers[-1]))
            piece = stage.backward(source, kept, above, _pull(band, add))
            piece = piece / self.features.deviation if i == 0 else piece
            piece[:, :, : tail.shape[2]] += tail
            # rows above the next band's are done: their gradient is whole, and nothing depends on them any more
            into[:, :, band.top + margin : top + margin] = piece[:, :, : top - band.top]
            tail = piece[:, :, top - band.top :].clone()
            self._tick()
        if margin:
            for border, opposite in _borders(into, margin):
                into.index_add_(2, opposite, border.clone())
        return into[:, :, margin : into.shape[2] - margin]

    def _tick(self) -> None:
        self._done += 1
        self._watch(self._done, self._all)

    def _source(self, i: int, x: Tensor, band: Band) -> Tensor:
        margin = _margin(self.cuts[i])
        if i:
            return x[:, :, band.top + margin : band.bottom + margin]
        rows = x[:, :, band.top : band.bottom]
        if margin:
            rows = x.index_select(2, torch.arange(band.top, band.bottom, device=x.device) % x.shape[2])
        # channels last in memory: the layout that convolutions are fastest in, above all in bfloat16
        return self.features.normalize(rows).to(self.stages[0].dtype, memory_format=torch.channels_last)

    def _embed(self, gradient: Tensor, band: Band) -> Tensor:
        """Returns the gradient of a band's rows: 0 for those that it does not answer for."""
        bottom = band.bottom if self.wrap else min(band.bottom, gradient.shape[2])
        piece = empty((*gradient.shape[:2], bottom - band.top, gradient.shape[3]), gradient).zero_()
        piece[:, :, band.inner] = gradient[:, :, band.own]
        return piece


def _margin(cuts: Sequence[Band]) -> int:
    """Returns how many rows an input has above and below its own: those of the opposite border, for bands of it."""
    return -cuts[0].top


def _borders(x: Tensor, margin: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields the rows above and below, (N, C, margin, w), each with the indices of those that they are copies of."""
    height = x.shape[2] - 2 * margin
    for first in (-margin, height):
        rows = torch.arange(first, first + margin, device=x.device)
        yield x[:, :, first + margin : first + 2 * margin], rows % height + margin


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
