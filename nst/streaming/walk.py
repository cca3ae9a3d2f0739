"""A forward and a backward pass through the network, on the whole picture or in bands of rows, with the same result.

A stage of the network (see `stages.py`) works on bands of its input, one after another. In the forward pass the
statistics of the bands are added, and only the pooled rows are kept: they are the next stage's input. In the backward
pass each band is computed again, and its gradient is carried from the stage's output to the stage's input. A stage of
one band keeps its activations instead: a picture in memory is one band in every stage. `borders.py` cuts the bands, of
the rows that this process answers for: rows are counted from the first of these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set

import torch
from torch import Tensor

from nst.distributed.processes import ALONE, Processes, Share
from nst.machine.memory import return_heap
from nst.network.features import Features
from nst.streaming.borders import Band, Borders, Margin
from nst.streaming.stages import Stage, sides

Visit = Callable[[str, Tensor, slice], None]
"""Callback that takes a layer's name, the activations of a band, (N, C, h, w), and the band's rows in the layer."""

OnBand = Callable[[int, int], None]
"""Callback that takes the number of bands done and of all bands: of the forward pass and, with a gradient, of both."""


class Walk:
    """A forward pass through the network for one picture, and the backward pass.

    Args:
        features: The feature extractor.
        stages: The stages of the network.
        rows: The rows of a band, for each stage.
        on_band: Called after each band.
        returns_memory: Whether each stage returns its freed memory, as other stages need tensors of other sizes.
        processes: The processes that walk together, each on its share of the rows.
    """

    def __init__(
        self,
        features: Features,
        stages: Sequence[Stage],
        rows: Sequence[int],
        on_band: OnBand,
        returns_memory: bool = False,
        processes: Processes = ALONE,
    ) -> None:
        self.features, self.stages, self.rows, self.returns_memory = features, stages, rows, returns_memory
        self.processes = processes
        self._on_band, self._done, self._all = on_band, 0, 0
        self.borders: list[Borders] = []
        self.cuts: list[list[Band]] = []
        self.inputs: list[Tensor] = []
        self.activations: list[dict[str, Tensor]] = []

    def share(self, height: int) -> Share:
        """Returns the rows of a picture of some height that this process answers for."""
        return share_of(self.processes, self.features, height)

    def forward(self, picture: Tensor, visit: Visit, keep: bool) -> None:
        """Calls `visit` with the activations that losses asked for; with `keep`, keeps what the backward pass needs."""
        x: Tensor | None = picture
        share, wrap = self.share(picture.shape[2]), self.features.padding == "circular"
        heights = sides(self.stages, picture.shape[2])
        self.borders = [
            Borders(share.scaled(1 << i, height), stage.halo, wrap, self.processes)
            for i, (stage, height) in enumerate(zip(self.stages, heights, strict=True))
        ]
        self._picture = picture
        self.cuts = [borders.bands(rows) for borders, rows in zip(self.borders, self.rows, strict=True)]
        if share.rows == 0:
            self._visit_nothing(picture, visit)
            return
        self._all = sum(map(len, self.cuts)) * (2 if keep else 1)
        for i, (stage, cuts) in enumerate(zip(self.stages, self.cuts, strict=True)):
            assert x is not None
            pooled: Tensor | None = None
            margin, is_last = self._margin(i + 1), i + 1 == len(self.stages)
            for band in cuts:
                source = self._source(i, x, band)
                activations = stage.forward(source, _within(band, visit))
                output = activations[stage.layers[-1]]
                if len(cuts) == 1 and self.borders[i].share.is_whole and margin == (0, 0):
                    pooled = output
                elif not is_last:
                    if pooled is None:
                        height = self.borders[i + 1].share.rows + sum(margin)
                        pooled = empty((*output.shape[:2], height, output.shape[3]), output)
                    rows = band.at(stage.layers[-1])
                    pooled[:, :, rows.start + margin.above : rows.stop + margin.above] = output[:, :, rows.inner]
                self._tick()
            if pooled is not None and not is_last:
                self.borders[i + 1].fill(pooled, margin)
            if keep:
                self.inputs.append(source if len(cuts) == 1 else x)
                self.activations.append(activations if len(cuts) == 1 else {})
            x = pooled
            if self.returns_memory:
                del source, activations, output
                return_heap()

    def _visit_nothing(self, picture: Tensor, visit: Visit) -> None:
        """Calls `visit` with activations of no rows, so that this process has sums of 0."""
        for stage in self.stages:
            for layer in stage.layers:
                if layer in stage.taps:
                    channels, _, width = self.features.shape(layer, *picture.shape[2:])
                    visit(layer, picture.new_empty((1, channels, 0, width), dtype=stage.dtype), slice(0, 0))

    def _margin(self, i: int) -> Margin:
        """Returns the margin of the buffer of a stage's input; none for the picture, which each process has whole."""
        return self.borders[i].margin(self.cuts[i]) if 0 < i < len(self.stages) else Margin(0, 0)

    def backward(self, add: Callable[[str, Tensor, Tensor, slice], None], pulled: Set[str]) -> Tensor:
        """Returns the picture's gradient, of all processes together; each forward pass has one backward pass.

        Args:
            add: Adds the losses' gradient of the activations, its third argument, to the gradient, its second argument.
            pulled: Names of the layers that have a loss, at least one.
        """
        gradient: Tensor | None = None
        for i in reversed(range(len(self.inputs))):
            x, activations = self.inputs.pop(), self.activations.pop()
            if gradient is None and pulled.isdisjoint(self.stages[i].layers):
                continue
            if len(self.cuts[i]) > 1:
                gradient = self._backward_in_bands(i, x, gradient, add, pulled)
            else:
                band = self.cuts[i][0]
                above = None if gradient is None else self._embed(i, gradient, band.at(self.stages[i].layers[-1]))
                gradient = self.stages[i].backward(x, activations, above, _pull(band, add), pulled)
                if i == 0:
                    gradient = gradient.contiguous() / self.features.deviation
                self._tick()
            gradient = self._without_margin(i, gradient)
            if self.returns_memory:
                del x, activations
                return_heap()
        if gradient is None:  # no rows
            gradient = torch.zeros_like(self._picture)
        return self.processes.add(gradient.contiguous())

    def _backward_in_bands(
        self,
        i: int,
        x: Tensor,
        gradient: Tensor | None,
        add: Callable[[str, Tensor, Tensor, slice], None],
        pulled: Set[str],
    ) -> Tensor:
        """Carries a gradient from a stage's output to its input, and writes it into the memory of the input."""
        stage, cuts = self.stages[i], self.cuts[i]
        above = -cuts[0].top
        into, tail = x, x[:, :, :0]
        if i == 0 or self.activations[-1]:  # not into the picture, nor into activations that the stage before kept
            height = cuts[-1].bottom + above
            into = x.new_empty((*x.shape[:2], height, x.shape[3])) if i == 0 else torch.empty_like(x)
        for band, top in zip(cuts, [*(band.top for band in cuts[1:]), cuts[-1].bottom], strict=True):
            source = self._source(i, x, band)
            activations = stage.forward(source, lambda *_: None)
            given = None if gradient is None else self._embed(i, gradient, band.at(stage.layers[-1]))
            piece = stage.backward(source, activations, given, _pull(band, add), pulled)
            piece = piece / self.features.deviation if i == 0 else piece
            piece[:, :, : tail.shape[2]] += tail
            # the rows above the next band are done: their gradient is complete, and no later band reads them
            into[:, :, band.top + above : top + above] = piece[:, :, : top - band.top]
            tail = piece[:, :, top - band.top :].clone()
            self._tick()
        return into

    def _without_margin(self, i: int, gradient: Tensor) -> Tensor:
        """Returns the gradient of the share's rows, or of the whole picture, given that of the rows with the halo."""
        borders, cuts = self.borders[i], self.cuts[i]
        margin = borders.margin(cuts)
        if i == 0:
            if borders.share.is_whole and margin == (0, 0):
                return gradient
            whole = gradient.new_zeros(self._picture.shape)
            around = Band(0, borders.share.rows, cuts[0].top, cuts[-1].bottom)
            return whole.index_add_(2, borders.indices(around, whole.device), gradient)
        borders.fold(gradient, margin)
        return gradient[:, :, margin.above : margin.above + borders.share.rows]

    def _tick(self) -> None:
        self._done += 1
        self._on_band(self._done, self._all)

    def _source(self, i: int, x: Tensor, band: Band) -> Tensor:
        if i:
            above = self._margin(i).above
            return x[:, :, band.top + above : band.bottom + above]
        rows = self.borders[0].rows(x, band)
        # channels last in memory: the layout that convolutions are fastest in, above all in bfloat16
        return self.features.normalize(rows).to(self.stages[0].dtype, memory_format=torch.channels_last)

    def _embed(self, i: int, gradient: Tensor, band: Band) -> Tensor:
        """Returns the gradient of a band of a stage's output, given that of the share's rows: 0 in the halo."""
        top, bottom = band.top, band.bottom
        if i + 1 < len(self.borders):
            top, bottom = self.borders[i + 1].within(top, bottom)
        if top == band.start and bottom <= band.stop and bottom - top == gradient.shape[2]:  # all rows, and no halo
            return gradient
        piece = empty((*gradient.shape[:2], bottom - top, gradient.shape[3]), gradient).zero_()
        piece[:, :, band.inner] = gradient[:, :, band.own]
        return piece


def share_of(processes: Processes, features: Features, height: int) -> Share:
    """Returns the rows of a picture of some height that this process answers for, in whole steps of the last layer."""
    return processes.share(height, features.stride(features.sequence[-1]))


def empty(shape: tuple[int, ...], like: Tensor) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def _within(band: Band, visit: Visit) -> Callable[[str, Tensor], None]:
    """Returns a callback that calls `visit` with a band's own rows."""

    def show(layer: str, y: Tensor) -> None:
        rows = band.at(layer)
        visit(layer, y[:, :, rows.inner], rows.own)

    return show


def _pull(
    band: Band, add: Callable[[str, Tensor, Tensor, slice], None]
) -> Callable[[str, Tensor, Tensor | None], Tensor]:
    """Returns a callback that adds the losses' gradient to the gradient of a band's own rows."""

    def pull(layer: str, y: Tensor, gradient: Tensor | None) -> Tensor:
        rows = band.at(layer)
        gradient = torch.zeros_like(y) if gradient is None else gradient
        add(layer, gradient[:, :, rows.inner], y[:, :, rows.inner], rows.own)
        return gradient

    return pull
