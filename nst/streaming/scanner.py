"""The statistics of a picture's activations as one node of the graph, and how much memory they may take."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from nst.errors import InputError, check_choice
from nst.losses.functional import PART, Moments
from nst.losses.losses import Objective, StyleLoss, TotalVariationLoss
from nst.machine import memory
from nst.machine.numerics import plain
from nst.network.features import Features
from nst.streaming.kernels import pull_back
from nst.streaming.plan import Plan, Streaming, choose
from nst.streaming.stages import Stage, stages
from nst.streaming.walk import Look, Walk, Watch, empty

log = logging.getLogger(__name__)

LOADED, OVERHEAD = 280 << 20, 100 << 20
"""Bytes that a run takes besides tensors: what it loads beyond torch, Lightning above all; and what it takes later on,
such as the logger's and what the allocator cannot use again."""


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

        with plain(picture.device):
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

        with plain(ctx.picture.device):
            gradient = ctx.walk.backward(add)
        return gradient, None, None, None, None


class _Variation(torch.autograd.Function):
    """The summed differences of neighbouring pixels, in bands of rows."""

    @staticmethod
    def forward(ctx: Any, picture: Tensor, loss: TotalVariationLoss, rows: int) -> Tensor:
        ctx.picture, ctx.loss, ctx.rows = picture, loss, rows
        parts = _rows_and_below(picture, rows, loss.wrap)
        return torch.stack([loss.statistics(own, below) for own, below in parts]).sum()

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Any:
        gradient = torch.zeros_like(ctx.picture)
        parts = (_rows_and_below(x, ctx.rows, ctx.loss.wrap) for x in (ctx.picture, gradient))
        for (own, below), (into, into_below) in zip(*parts, strict=True):
            count = own.shape[2]
            variation = partial(_variation, loss=ctx.loss, count=count)
            found = pull_back(variation, torch.cat([own, below], dim=2), cotangents[0])
            into += found[:, :, :count]
            into_below += found[:, :, count:]
        return gradient, None, None


def _rows_and_below(picture: Tensor, rows: int, wrap: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields a picture's rows, some at a time, and the row under them: under the last ones none, or the first."""
    for top in range(0, picture.shape[2], rows):
        below = 0 if wrap and top + rows >= picture.shape[2] else top + rows
        yield picture[:, :, top : top + rows], picture[:, :, below : below + 1]


def _variation(rows: Tensor, loss: TotalVariationLoss, count: int) -> Tensor:
    return loss.statistics(rows[:, :, :count], rows[:, :, count:])


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
        room: Bytes that it may take, besides the picture, the network's weights and the targets.
        device: Where the pictures will be when they are looked at; None for where they are.

    Attributes:
        watch: Is told of each band of rows that is done; of none where a picture is looked at whole.

    Raises:
        InputError: If there is no such mode.
    """

    def __init__(
        self,
        features: Features,
        mode: Streaming = "auto",
        room: float = math.inf,
        device: torch.device | None = None,
    ) -> None:
        check_choice("model.streaming", mode, Streaming)
        self.mode: Streaming
        self.features, self.mode, self.room, self.device = features, mode, room, device
        self._there = math.inf  # what there is of the room now, in a run that goes on with an earlier one's
        self.watch: Watch = lambda done, of: None
        self._stages: dict[tuple[torch.device, torch.dtype], list[Stage]] = {}

    def statistics(self, picture: Tensor, objective: Objective) -> dict[str, Any]:
        """Returns what the objective needs to know of a picture, (1, 3, H, W), with its gradient."""
        keep = torch.is_grad_enabled() and picture.requires_grad
        walk, form = self._walk(picture), dict[str, int]()
        statistics = _named(_Statistics.apply(picture, walk, objective, form, keep), form)
        if "tv" in objective.weights:
            rows = min(walk.rows[0], max(1, PART // picture[:, :, 0].numel()))
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
                    maps[layer] = empty(shape, y)
                maps[layer][:, :, rows] = y

        self._look(picture, look)
        return maps

    @torch.no_grad()
    def moments(
        self, picture: Tensor, losses: Mapping[str, StyleLoss], guides: Mapping[str, Tensor] | None = None
    ) -> dict[str, Moments]:
        """Returns the moments of a painting, (1, 3, H, W), for the style losses by layer.

        Args:
            picture: The painting.
            losses: The losses that look at it.
            guides: Weights of the positions by layer, (1, 1, h, w); None for 1 everywhere.
        """
        sums: dict[str, Moments] = {}

        def look(layer: str, y: Tensor, rows: slice) -> None:
            if layer in losses:
                part = losses[layer].moments(y, None if guides is None else guides[layer][:, :, rows])
                sums[layer] = Moments(*map(torch.add, sums[layer], part)) if layer in sums else part

        self._look(picture, look)
        return sums

    def plan(self, picture: Tensor) -> Plan:
        """Returns how a picture, (1, 3, H, W), is looked at."""
        return choose(self.mode, self._stages_for(picture), picture.shape[2], picture.shape[3], self.room)

    def go_on_with(self, room: float, pictures: Iterable[Tensor]) -> None:
        """Takes a room that a run had before it was stopped, unless there is less now.

        So its bands are what they were, and its sums are the same to the last bit.

        Args:
            room: In bytes.
            pictures: Pictures of the sizes that the run still has before it, (1, 3, H, W).
        """
        self._there, self.room = self.room, room
        if any(self.plan(picture).needed > self._there for picture in pictures):
            self.room = self._there

    def _look(self, picture: Tensor, look: Look) -> None:
        walk = self._walk(picture)
        with plain(picture.device):
            walk.forward(picture, look, keep=False)
        memory.return_heap()  # steps need other sizes

    def _walk(self, picture: Tensor) -> Walk:
        plan = self.plan(picture)
        watch = self.watch if plan.streams else lambda done, of: None
        return Walk(self.features, self._stages_for(picture), plan.rows, watch, plan.tight(min(self.room, self._there)))

    def _stages_for(self, picture: Tensor) -> list[Stage]:
        key = picture.device, working_type(picture, self.device)
        if key not in self._stages:
            self._stages = {key: stages(self.features, key[1])}
        return self._stages[key]


def eye_for(
    features: Features,
    objective: Objective,
    optimizer: Optimizer,
    picture: Tensor,
    copies: int,
    mode: Streaming = "auto",
    budget: int | None = None,
    afar: Tensor | None = None,
    device: torch.device | None = None,
) -> Eye:
    """Makes an eye that a run has room for.

    Args:
        features: The network.
        objective: What its activations are compared by.
        optimizer: The optimiser of the picture.
        picture: A picture of the run's largest size, (1, 3, H, W).
        copies: Of such pictures, those that the run is still to make, besides what the optimiser remembers.
        mode: As for an Eye.
        budget: Bytes that the run may take beyond loading torch, with all tensors that are there by now; None for what
            is free.
        afar: A small picture, (1, 3, h, w), that each step looks at as well.
        device: Where the run will be, which the network and the pictures are still to be brought to; None for where
            the picture is.

    Raises:
        InputError: If they are too few, or there is no such mode.
    """
    device = device or picture.device
    eye = Eye(features, mode, device=device)
    there = memory.free(device) if budget is None else budget
    taken = 0 if budget is None else memory.held(device) + (LOADED if device.type == "cpu" else 0)
    if device.type != picture.device.type:  # where the network is not yet
        taken += sum(x.nbytes for x in features.buffers())
    item = working_type(picture, device).itemsize
    copies += 2 * optimizer.defaults["history_size"] + 5 if "history_size" in optimizer.defaults else 2
    # whose gradients wait for that of the others
    copies += sum(name in objective.weights for name in ("tv", "seam")) + (afar is not None)
    # the network's weights for the way there and for the way back
    taken += OVERHEAD + copies * picture.nbytes + sum(x.nbytes * 2 * item // 4 for x in features.buffers())
    for seen in [picture] if afar is None else [picture, afar]:
        taken += sum(item * math.prod(features.shape(layer, *seen.shape[2:])) for layer in objective.content)
    taken += 0 if afar is None else eye.plan(afar).needed
    eye.room = there - taken
    plan = eye.plan(picture)
    size = f"{picture.shape[3]}×{picture.shape[2]} pixels"
    needed = memory.readable(taken + plan.needed)
    if plan.needed > eye.room and budget is not None:
        raise InputError(
            f"Expected --model.memory to be at least {needed} for {size}{_unless(mode)}, but got "
            f"{memory.readable(budget)}; raise it or lower --data.size"
        )
    if plan.needed > eye.room:
        raise InputError(
            f"Expected --data.size to fit into memory, but {size} need about {needed}{_unless(mode)} and "
            f"{device} has {memory.readable(there)}; lower --data.size"
        )
    memory.keep_heap()
    if plan.streams:
        log.info("%s are looked at in bands: %s of memory and %.2f times the operations", size, needed, plan.work)
    return eye


def _unless(mode: Streaming) -> str:
    return " without --model.streaming" if mode == "off" else ""


def working_type(picture: Tensor, device: torch.device | None = None) -> torch.dtype:
    """Returns the type of the network's activations: autocast's where it is on for a device, else the picture's."""
    kind = (device or picture.device).type
    there = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.get_autocast_dtype(kind) if there else picture.dtype
