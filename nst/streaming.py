"""The statistics of a picture's activations and their gradient, at once or in bands of rows, with the same result.

A stage of the network (see `stages.py`) works on bands of its input, one after another. The first time through, what a
band adds to the statistics is summed and only the pooled rows are kept, the next stage's input. On the way back each
band is computed again and its gradient carried from the stage's output to its input. A band has a few rows more than it
answers for, on which these depend. A stage of one band keeps its activations instead: a picture in memory is one band
in every stage.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from nst import memory
from nst.errors import InputError
from nst.features import Features
from nst.functional import Moments
from nst.losses import Objective, StyleLoss, TotalVariationLoss
from nst.plan import Plan, Streaming, choose, sides
from nst.stages import Stage, pull_back

log = logging.getLogger(__name__)

OVERHEAD = 300 << 20
"""Bytes that a run takes besides tensors: Lightning, the logger and what the allocator cannot reuse."""

Look = Callable[[str, Tensor, slice], None]
"""Is shown a layer's name, activations of some of its rows, (N, C, h, w), and which rows they are."""

Watch = Callable[[int, int], None]
"""Is told how many bands of a step are done, and of how many."""


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
        self._all = 2 * sum(len(bands(height, rows, 0)) for height, rows in zip(heights, self.rows, strict=True))
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
            pooled = _empty((*output.shape[:2], x.shape[2] // 2, output.shape[3]), output)
        pooled[:, :, band.own] = output[:, :, band.inner]
        return pooled


def _empty(shape: tuple[int, ...], like: Tensor) -> Tensor:
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


class _Statistics(torch.autograd.Function):
    """The statistics of a picture's activations, flat, as one node of the graph."""

    @staticmethod
    def forward(ctx: Any, picture: Tensor, walk: Walk, objective: Objective, form: dict[str, int], keep: bool) -> Any:
        sums: dict[str, tuple[Tensor, ...]] = {}

        def look(layer: str, y: Tensor, rows: slice) -> None:
            for name, loss in objective.looking_at(layer).items():
                part = loss.statistics(y, rows)
                parts = (part,) if isinstance(part, Tensor) else tuple(part)
                sums[name] = tuple(a + b for a, b in zip(sums[name], parts, strict=True)) if name in sums else parts

        with torch.autocast(picture.device.type, enabled=False):
            walk.forward(picture, look, keep)
        form.update({name: len(parts) for name, parts in sums.items()})
        ctx.picture, ctx.walk, ctx.objective, ctx.form = picture, walk, objective, form
        ctx.set_materialize_grads(False)
        return tuple(part for parts in sums.values() for part in parts)

    @staticmethod
    def backward(ctx: Any, *flat: Tensor | None) -> Any:
        cotangents = _named(flat, ctx.form)

        def add(layer: str, gradient: Tensor, y: Tensor, rows: slice) -> None:
            for name, loss in ctx.objective.looking_at(layer).items():
                if any(part is not None for part in _fields(cotangents[name])):
                    loss.add_gradient(gradient, y, cotangents[name], rows)

        with torch.autocast(ctx.picture.device.type, enabled=False):
            gradient = ctx.walk.backward(add)
        return gradient, None, None, None, None


class _Variation(torch.autograd.Function):
    """The summed differences of neighbouring pixels, in bands of rows."""

    @staticmethod
    def forward(ctx: Any, picture: Tensor, loss: TotalVariationLoss, rows: int) -> Tensor:
        ctx.picture, ctx.loss, ctx.bands = picture, loss, bands(picture.shape[2], rows, 0)
        return torch.stack([_variation(picture, loss, band) for band in ctx.bands]).sum()

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Any:
        gradient = torch.zeros_like(ctx.picture)
        for band in ctx.bands:
            rows = slice(band.start, band.stop + 1)
            part = ctx.picture[:, :, rows]
            inside = band._replace(stop=band.stop - band.start, start=0)
            gradient[:, :, rows] += pull_back(partial(_variation, loss=ctx.loss, band=inside), part, cotangents[0])
        return gradient, None, None


def _variation(picture: Tensor, loss: TotalVariationLoss, band: Band) -> Tensor:
    return loss.statistics(picture[:, :, band.own], picture[:, :, band.stop : band.stop + 1])


def _fields(statistic: Any) -> tuple[Any, ...]:
    return tuple(statistic) if isinstance(statistic, tuple) else (statistic,)


def _named(flat: Iterable[Any], form: dict[str, int]) -> dict[str, Any]:
    """Puts flat statistics, or their gradients, back into the form that losses know."""
    rest = iter(flat)
    parts = {name: [next(rest) for _ in range(count)] for name, count in form.items()}
    return {name: found[0] if len(found) == 1 else Moments(*found) for name, found in parts.items()}


class Eye:
    """Looks at pictures through the network, whole or in bands of rows.

    Args:
        features: The network.
        mode: `off` looks at whole pictures, `on` in bands, `auto` in bands where the room is too small for the whole.
            A picture that tiles is always looked at whole.
        room: Bytes that it may take, besides the picture, the network's weights and the targets.
    """

    def __init__(self, features: Features, mode: Streaming = "auto", room: float = math.inf) -> None:
        # bands have no opposite border
        self.mode: Streaming = "off" if features.padding == "circular" else mode
        self.features, self.room = features, room
        self.watch: Watch = lambda done, of: None
        self._stages: dict[tuple[torch.device, torch.dtype], list[Stage]] = {}

    def statistics(self, picture: Tensor, objective: Objective) -> dict[str, Any]:
        """Returns what the objective needs to know of a picture, (1, 3, H, W), with its gradient."""
        keep = torch.is_grad_enabled() and picture.requires_grad
        walk, form = self._walk(picture, keep), dict[str, int]()
        statistics = _named(_Statistics.apply(picture, walk, objective, form, keep), form)
        if "tv" in objective.weights:
            rows = picture.shape[2] if objective.smoothness.wrap else walk.rows[0]
            statistics["tv"] = _Variation.apply(picture, objective.smoothness, rows)
        return statistics

    @torch.no_grad()
    def activations(self, picture: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        """Returns the activations of a picture, (1, 3, H, W), at some layers, in the network's own precision."""
        maps: dict[str, Tensor] = {}
        wanted = set(layers)

        def look(layer: str, y: Tensor, rows: slice) -> None:
            if layer in wanted:
                if layer not in maps:
                    shape = (len(y), *self.features.shape(layer, *picture.shape[2:]))
                    maps[layer] = _empty(shape, y)
                maps[layer][:, :, rows] = y

        self._look(picture, look)
        return maps

    @torch.no_grad()
    def moments(self, picture: Tensor, losses: Mapping[str, StyleLoss]) -> dict[str, Moments]:
        """Returns the statistics of a painting, (1, 3, H, W), for the style losses by layer."""
        sums: dict[str, Moments] = {}

        def look(layer: str, y: Tensor, rows: slice) -> None:
            if layer in losses:
                part = losses[layer].statistics(y)
                sums[layer] = Moments(*map(torch.add, sums[layer], part)) if layer in sums else part

        self._look(picture, look)
        return sums

    def plan(self, picture: Tensor) -> Plan:
        """Returns how a picture, (1, 3, H, W), is looked at."""
        return choose(self.mode, self._stages_for(picture), picture.shape[2], picture.shape[3], self.room)

    def _look(self, picture: Tensor, look: Look) -> None:
        walk = self._walk(picture, keep=False)
        with torch.autocast(picture.device.type, enabled=False):
            walk.forward(picture, look, keep=False)

    def _walk(self, picture: Tensor, keep: bool) -> Walk:
        watch = self.watch if keep else lambda done, of: None
        return Walk(self.features, self._stages_for(picture), self.plan(picture).rows, watch)

    def _stages_for(self, picture: Tensor) -> list[Stage]:
        key = picture.device, working_type(picture)
        if key not in self._stages:
            self._stages = {key: stages(self.features, key[1])}
        return self._stages[key]


def eye_for(
    features: Features,
    objective: Objective,
    optimizer: Optimizer,
    picture: Tensor,
    mode: Streaming = "auto",
    budget: int | None = None,
) -> Eye:
    """Makes an eye that a run has room for.

    Args:
        features: The network.
        objective: What its activations are compared by.
        optimizer: The optimiser of the picture.
        picture: A picture of the run's largest size, (1, 3, H, W).
        mode: As for an Eye.
        budget: Bytes that the run may take beyond loading torch; None for what is free.

    Raises:
        InputError: If they are too few.
    """
    eye = Eye(features, mode)
    item = working_type(picture).itemsize
    # the picture, its gradient, the photograph, what the guard keeps, what a step computes; and the optimiser's own
    own = 2 * optimizer.defaults["history_size"] + 5 if "history_size" in optimizer.defaults else 2
    held = OVERHEAD + (7 + own) * picture.nbytes + sum(x.nbytes * (4 + 2 * item) // 4 for x in features.buffers())
    for layer in objective.content:
        held += item * math.prod(features.shape(layer, *picture.shape[2:]))
    there = memory.free(picture.device) if budget is None else budget
    eye.room = there - held
    plan = eye.plan(picture)
    size = f"{picture.shape[3]}×{picture.shape[2]} pixels"
    needed = memory.readable(held + plan.needed)
    if plan.needed > eye.room and budget is not None:
        raise InputError(
            f"Expected --model.memory to be at least {needed} for {size}{_unless(mode)}, but got "
            f"{memory.readable(budget)}; raise it or lower --data.size"
        )
    if plan.needed > eye.room:
        raise InputError(
            f"Expected --data.size to fit into memory, but {size} need about {needed}{_unless(mode)} and "
            f"{picture.device} has {memory.readable(there)}; lower --data.size"
        )
    memory.keep_heap(bands=plan.streams)
    if plan.streams:
        log.info("%s are looked at in bands: %s of memory and %.2f times the operations", size, needed, plan.work)
    return eye


def _unless(mode: Streaming) -> str:
    return " without --model.streaming" if mode == "off" else ""


def working_type(picture: Tensor) -> torch.dtype:
    """Returns the type of the network's activations: autocast's where it is on, else the picture's."""
    kind = picture.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else picture.dtype


def stages(features: Features, dtype: torch.dtype) -> list[Stage]:
    """Cuts the network after each pool."""
    parts: list[list[str]] = [[]]
    for name in features.sequence:
        parts[-1].append(name)
        if name.startswith("pool"):
            parts.append([])
    return [Stage(features, part, dtype) for part in parts if part]
