"""One way through the network and back, at once or in bands of rows, with the same result.

A stage of the network (see `stages.py`) works on bands of its input, one after another. The first time through, what a
band adds to the statistics is summed and only the pooled rows are kept, the next stage's input. On the way back each
band is computed again and its gradient carried from the stage's output to its input. A stage of one band keeps its
activations instead: a picture in memory is one band in every stage. `borders.py` cuts the bands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nst.machine.memory import return_heap
from nst.network.features import Features
from nst.streaming.borders import Band, borders_of, margin_of
from nst.streaming.stages import Stage, sides

Visit = Callable[[str, Tensor, slice], None]
"""Is shown a layer's name, activations of some of its rows, (N, C, h, w), and which rows they are."""

OnBand = Callable[[int, int], None]
"""Is told how many bands are done, and of how many: all those there and, where there is a gradient, back."""


class Walk:
    """One way through the network for one picture, and back.

    Args:
        features: The network.
        stages: Its stages.
        rows: The rows of a band, for each stage.
        on_band: Is told of each band that is done.
        returns_memory: Whether each stage returns the memory that it freed, as others need other sizes.
    """

    def __init__(
        self,
        features: Features,
        stages: Sequence[Stage],
        rows: Sequence[int],
        on_band: OnBand,
        returns_memory: bool = False,
    ) -> None:
        self.features, self.stages, self.rows, self.returns_memory = features, stages, rows, returns_memory
        self.borders = borders_of(features.padding)
        self._on_band, self._done, self._all = on_band, 0, 0
        self.cuts: list[list[Band]] = []
        self.inputs: list[Tensor] = []
        self.activations: list[dict[str, Tensor]] = []

    def forward(self, picture: Tensor, visit: Visit, keep: bool) -> None:
        """Shows the activations that losses asked for, and keeps what the way back needs if that is wanted."""
        x: Tensor | None = picture
        parts = zip(self.stages, sides(self.stages, picture.shape[2]), self.rows, strict=True)
        self.cuts = [self.borders.bands(height, rows, stage.halo) for stage, height, rows in parts]
        self._all = sum(map(len, self.cuts)) * (2 if keep else 1)
        for i, (stage, cuts) in enumerate(zip(self.stages, self.cuts, strict=True)):
            assert x is not None
            pooled: Tensor | None = None
            margin = margin_of(self.cuts[i + 1]) if i + 1 < len(self.cuts) else 0
            for band in cuts:
                source = self._source(i, x, band)
                activations = stage.forward(source, _within(band, visit))
                output = activations[stage.layers[-1]]
                if len(cuts) == 1 and not margin:
                    pooled = output
                elif i + 1 < len(self.stages):
                    if pooled is None:
                        height = self.cuts[i + 1][-1].stop + 2 * margin
                        pooled = empty((*output.shape[:2], height, output.shape[3]), output)
                    rows = band.at(stage.layers[-1])
                    pooled[:, :, rows.start + margin : rows.stop + margin] = output[:, :, rows.inner]
                self._tick()
            if pooled is not None:
                self.borders.fill(pooled, margin)
            if keep:
                self.inputs.append(source if len(cuts) == 1 else x)
                self.activations.append(activations if len(cuts) == 1 else {})
            x = pooled
            if self.returns_memory:
                del source, activations, output
                return_heap()

    def backward(self, add: Callable[[str, Tensor, Tensor, slice], None]) -> Tensor:
        """Returns the picture's gradient; there is one way back for each way there.

        Args:
            add: Adds to a gradient, its second argument, what the losses have for the activations, its third.
        """
        gradient: Tensor | None = None
        for i in reversed(range(len(self.stages))):
            x, activations = self.inputs.pop(), self.activations.pop()
            if len(self.cuts[i]) > 1:
                gradient = self._backward_in_bands(i, x, gradient, add)
            else:
                gradient = self.stages[i].backward(x, activations, gradient, _pull(self.cuts[i][0], add))
                if i == 0:
                    gradient = gradient.contiguous() / self.features.deviation
                self._tick()
            if self.returns_memory:
                del x, activations
                return_heap()
        assert gradient is not None
        return gradient.contiguous()

    def _backward_in_bands(
        self, i: int, x: Tensor, gradient: Tensor | None, add: Callable[[str, Tensor, Tensor, slice], None]
    ) -> Tensor:
        """Carries a gradient from the output of a stage to its input, and puts it into the input's place."""
        stage, cuts, margin = self.stages[i], self.cuts[i], margin_of(self.cuts[i])
        into, tail = x, x[:, :, :0]
        if (
            i == 0 or self.activations[-1]
        ):  # but for the picture, and for what the stage before has activations as its output
            height = cuts[-1].stop + 2 * margin
            into = x.new_empty((*x.shape[:2], height, x.shape[3])) if i == 0 else torch.empty_like(x)
        for band, top in zip(cuts, [*(band.top for band in cuts[1:]), cuts[-1].bottom], strict=True):
            source = self._source(i, x, band)
            activations = stage.forward(source, lambda *_: None)
            above = None if gradient is None else self._embed(gradient, band.at(stage.layers[-1]))
            piece = stage.backward(source, activations, above, _pull(band, add))
            piece = piece / self.features.deviation if i == 0 else piece
            piece[:, :, : tail.shape[2]] += tail
            # rows above the next band's are done: their gradient is whole, and nothing depends on them any more
            into[:, :, band.top + margin : top + margin] = piece[:, :, : top - band.top]
            tail = piece[:, :, top - band.top :].clone()
            self._tick()
        self.borders.fold(into, margin)
        return into[:, :, margin : into.shape[2] - margin]

    def _tick(self) -> None:
        self._done += 1
        self._on_band(self._done, self._all)

    def _source(self, i: int, x: Tensor, band: Band) -> Tensor:
        margin = margin_of(self.cuts[i])
        if i:
            return x[:, :, band.top + margin : band.bottom + margin]
        rows = self.borders.rows(x, band)
        # channels last in memory: the layout that convolutions are fastest in, above all in bfloat16
        return self.features.normalize(rows).to(self.stages[0].dtype, memory_format=torch.channels_last)

    def _embed(self, gradient: Tensor, band: Band) -> Tensor:
        """Returns the gradient of a band's rows: 0 for those that it does not answer for."""
        top, bottom = self.borders.within(band.top, band.bottom, gradient.shape[2])
        piece = empty((*gradient.shape[:2], bottom - top, gradient.shape[3]), gradient).zero_()
        piece[:, :, band.inner] = gradient[:, :, band.own]
        return piece


def empty(shape: tuple[int, ...], like: Tensor) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def _within(band: Band, visit: Visit) -> Callable[[str, Tensor], None]:
    """Shows the rows that a band answers for."""

    def show(layer: str, y: Tensor) -> None:
        rows = band.at(layer)
        visit(layer, y[:, :, rows.inner], rows.own)

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
