"""Runs the network on a picture, whole or band by band; the statistics of its activations are one autograd node."""

from __future__ import annotations

import logging
import math
import operator
from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor
from torch.optim import Optimizer

from nst.errors import InputError, check_choice
from nst.losses.distance import StyleDistance
from nst.losses.functional import PART
from nst.losses.statistics import Observers, PixelObserver, Pooled, Statistics, add_gradient_by_autograd
from nst.machine import memory
from nst.machine.numerics import plain
from nst.network.features import Features
from nst.streaming.convolutions import KEPT, Method, usable
from nst.streaming.plan import Plan, Streaming, choose
from nst.streaming.stages import Stage, stages
from nst.streaming.walk import OnBand, Visit, Walk, empty

log = logging.getLogger(__name__)

LOADED, OVERHEAD = 280 << 20, 100 << 20
"""Bytes that a run takes besides tensors: for libraries that are loaded beyond torch, Lightning above all; and for
later allocations, such as the logger's, and freed memory that the allocator cannot use again."""


class _Statistics(torch.autograd.Function):
    """The autograd node from a picture to the statistics of its activations, flattened to tensors."""

    @staticmethod
    def forward(
        ctx: Any, picture: Tensor, walk: Walk, observed: Observers, sums: dict[str, Statistics], keep: bool
    ) -> Any:
        def visit(layer: str, y: Tensor, rows: slice) -> None:
            for name, observer in observed.observers(layer).items():
                part = observer.statistics(y, rows)
                sums[name] = sums[name] + part if name in sums else part

        with plain(picture.device):
            walk.forward(picture, visit, keep)
        ctx.picture, ctx.walk, ctx.observed, ctx.form = picture, walk, observed, _form(sums)
        ctx.set_materialize_grads(False)
        return _flat(sums)

    @staticmethod
    def backward(ctx: Any, *flat: Tensor | None) -> Any:
        cotangents = _put_back(flat, ctx.form)

        def add(layer: str, gradient: Tensor, y: Tensor, rows: slice) -> None:
            for name, observer in ctx.observed.observers(layer).items():
                if any(part is not None for part in cotangents[name].flatten()):
                    observer.add_gradient(gradient, y, cotangents[name], rows)

        with plain(ctx.picture.device):
            pulled = {layer for layer in ctx.walk.features.layers if ctx.observed.observers(layer)}
            gradient = ctx.walk.backward(add, pulled)
        return gradient, None, None, None, None


class _PixelStatistics(torch.autograd.Function):
    """The autograd node from a picture to one observer's statistics of its pixels, flattened, in bands of rows."""

    @staticmethod
    def forward(ctx: Any, picture: Tensor, observer: PixelObserver, form: dict[str, Statistics], rows: int) -> Any:
        parts = (observer.pixel_statistics(*band) for band in _rows_and_below(picture, rows))
        sums = reduce(operator.add, parts)
        form["sums"] = sums
        ctx.picture, ctx.observer, ctx.form, ctx.rows = picture, observer, _form(form), rows
        ctx.set_materialize_grads(False)
        return sums.flatten()

    @staticmethod
    def backward(ctx: Any, *flat: Tensor | None) -> Any:
        gradient = torch.zeros_like(ctx.picture)
        cotangent = _put_back(flat, ctx.form)["sums"]
        parts = (_rows_and_below(x, ctx.rows) for x in (ctx.picture, gradient))
        for (own, below, last), (into, into_below, _) in zip(*parts, strict=True):
            count = own.shape[2]
            with torch.enable_grad():
                both = torch.cat([own, below], dim=2).detach().requires_grad_()
                sums = ctx.observer.pixel_statistics(both[:, :, :count], both[:, :, count:], last)
            found = torch.zeros_like(both)
            add_gradient_by_autograd(sums, both, cotangent, found)
            into += found[:, :, :count]
            into_below += found[:, :, count:]
        return gradient, None, None, None


def _rows_and_below(picture: Tensor, rows: int) -> Iterator[tuple[Tensor, Tensor, bool]]:
    """Yields bands of rows, each with the row under it (the first row for the last band) and whether it is the last."""
    height = picture.shape[2]
    for top in range(0, height, rows):
        last = top + rows >= height
        below = 0 if last else top + rows
        yield picture[:, :, top : top + rows], picture[:, :, below : below + 1], last


def _flat(sums: Mapping[str, Statistics]) -> tuple[Tensor, ...]:
    return tuple(tensor for found in sums.values() for tensor in found.flatten())


def _form(sums: Mapping[str, Statistics]) -> dict[str, Statistics]:
    """Returns statistics with None for each tensor: a tensor would hold the graph that holds the tensor."""
    return {name: found.unflatten([None] * len(found.flatten())) for name, found in sums.items()}


def _put_back(flat: Iterable[Any], form: Mapping[str, Statistics]) -> dict[str, Statistics]:
    """Puts flattened statistics, or their gradients, back into statistics of a form."""
    rest = iter(flat)
    return {name: found.unflatten([next(rest) for _ in found.flatten()]) for name, found in form.items()}


class Scanner:
    """Runs the network on pictures, whole or band by band, and gathers the statistics that observers ask for.

    Args:
        features: The feature extractor.
        mode: `off` runs on whole pictures, `on` in bands, `auto` in bands where a whole picture needs more memory than
            is available.
        available: Bytes that the scanner may take, besides the picture, the network's weights and the targets.
        device: The device on which pictures will be when the network runs; None for the device that they are on.
        method: How convolutions are computed; `winograd` and `auto` fall back on `direct` (see `convolutions.usable`).

    Attributes:
        on_band: Callback, called after each band of rows; never called where the network runs on whole pictures.

    Raises:
        InputError: If the mode or the method is unknown.
    """

    def __init__(
        self,
        features: Features,
        mode: Streaming = "auto",
        available: float = math.inf,
        device: torch.device | None = None,
        method: Method = "auto",
    ) -> None:
        check_choice("model.streaming", mode, Streaming)
        check_choice("model.convolution", method, Method)
        self.mode: Streaming
        self.method, self._wanted = usable(method), method
        self.features, self.mode, self.available, self.device = features, mode, available, device
        self._available_now = math.inf  # bytes now, in a resumed run that keeps its earlier figure
        self.on_band: OnBand = lambda done, of: None
        self._stages: dict[tuple[torch.device, torch.dtype, Method], list[Stage]] = {}

    def statistics(self, picture: Tensor, observed: Observers) -> dict[str, Statistics]:
        """Returns the statistics, differentiable, that observers gather of a picture, (1, 3, H, W), by name."""
        keep = torch.is_grad_enabled() and picture.requires_grad
        walk, form = self._walk(picture), dict[str, Statistics]()
        found = _put_back(_Statistics.apply(picture, walk, observed, form, keep), form)
        rows = min(walk.rows[0], max(1, PART // picture[:, :, 0].numel()))
        for name, observer in observed.pixel_observers.items():
            form = dict[str, Statistics]()
            if rows >= picture.shape[2]:
                found[name] = observer.pixel_statistics(*next(_rows_and_below(picture, rows)))
                continue
            found[name] = _put_back(_PixelStatistics.apply(picture, observer, form, rows), form)["sums"]
        return found

    @torch.no_grad()
    def activations(self, picture: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        """Returns the activations of a picture, (1, 3, H, W), at some layers, in the network's own precision."""
        maps: dict[str, Tensor] = {}
        wanted = set(layers)

        def visit(layer: str, y: Tensor, rows: slice) -> None:
            if layer in wanted:
                if layer not in maps:
                    shape = (len(y), *self.features.shape(layer, *picture.shape[2:]))
                    maps[layer] = empty(shape, y)
                maps[layer][:, :, rows] = y

        self._visit(picture, visit)
        return maps

    @torch.no_grad()
    def cells(self, picture: Tensor, axes: Mapping[str, Tensor], size: int) -> Tensor:
        """Returns the components of the mean activations of square cells of a picture, added over layers, float32.

        Args:
            picture: (1, 3, H, W); rows and columns that fill no cell are left out.
            axes: The directions of the components by layer, (D, C).
            size: Pixels of a cell's side, a power of two.

        Returns:
            (D, H // size, W // size); a layer whose positions are larger than cells is interpolated.
        """
        rows_of_cells, columns = (side // size for side in picture.shape[2:])
        count = len(next(iter(axes.values())))
        sums = torch.zeros(count, rows_of_cells, columns, device=picture.device)
        deep: dict[str, Tensor] = {}

        def visit(layer: str, y: Tensor, rows: slice) -> None:
            if layer not in axes:
                return
            side = size // self.features.stride(layer)  # positions of a cell's side
            if side == 0:
                deep.setdefault(layer, sums.new_empty(count, *self.features.shape(layer, *picture.shape[2:])[1:]))
                deep[layer][:, rows] = torch.tensordot(axes[layer], y[0].float(), 1)
                return
            stop = min(rows.stop, rows_of_cells * side)
            if rows.start < stop:
                first, last = rows.start // side, -(-stop // side)
                cells = torch.arange(rows.start, stop, device=y.device) // side - first
                wide = nnf.avg_pool2d(y[:, :, : len(cells), : columns * side].float(), (1, side))[0] / side
                band = wide.new_zeros(len(wide), last - first, columns).index_add_(1, cells, wide)
                sums[:, first:last] += torch.tensordot(axes[layer], band, 1)

        self._visit(picture, visit)
        shape = rows_of_cells, columns
        for x in deep.values():
            sums += nnf.interpolate(x[None], shape, mode="bilinear", align_corners=False)[0]
        return sums

    @torch.no_grad()
    def sums(
        self,
        picture: Tensor,
        distances: Mapping[str, StyleDistance[Any]],
        guides: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Pooled]:
        """Returns the statistics of a painting, (1, 3, H, W), by layer.

        Args:
            picture: The painting.
            distances: The style distances that take the statistics, by layer.
            guides: Weights of the positions by layer, (1, 1, h, w); None for 1 everywhere.
        """
        found: dict[str, Pooled] = {}

        def visit(layer: str, y: Tensor, rows: slice) -> None:
            if layer in distances:
                part = distances[layer].statistics(y, None if guides is None else guides[layer][:, :, rows])
                found[layer] = found[layer] + part if layer in found else part

        self._visit(picture, visit)
        return found

    def plan(self, picture: Tensor) -> Plan:
        """Returns the plan for a picture, (1, 3, H, W)."""
        return choose(self.mode, self._stages_for(picture), picture.shape[2], picture.shape[3], self.available)

    def state_dict(self) -> dict[str, Any]:
        """Returns what decides the sums to the last bit, as plain values."""
        return {"room": self.available, "convolution": self.method}

    def go_on_with(self, state: Mapping[str, Any], pictures: Iterable[Tensor], same_bands: bool) -> None:
        """Goes on as a run that was stopped, as far as this machine can: then the sums are the same to the last bit.

        Args:
            state: What `state_dict` returned; its method is taken where ours was `auto`.
            pictures: Pictures of the sizes that the run still has to make, (1, 3, H, W).
            same_bands: Whether to plan with the bytes that were available, if these plans fit into memory now; not so
                where the user has set another bound.
        """
        if self._wanted == "auto":
            self.method = usable(state.get("convolution", "direct"))  # the only method of earlier versions
        if same_bands:
            self._available_now, self.available = self.available, state["room"]
            if any(self.plan(picture).needed > self._available_now for picture in pictures):
                self.available = self._available_now

    def _visit(self, picture: Tensor, visit: Visit) -> None:
        walk = self._walk(picture)
        with plain(picture.device):
            walk.forward(picture, visit, keep=False)
        memory.return_heap()  # steps need tensors of other sizes

    def _walk(self, picture: Tensor) -> Walk:
        plan = self.plan(picture)
        on_band = self.on_band if plan.streams else lambda done, of: None
        return Walk(
            self.features,
            self._stages_for(picture),
            plan.rows,
            on_band,
            plan.returns_memory(min(self.available, self._available_now)),
        )

    def _stages_for(self, picture: Tensor) -> list[Stage]:
        key = picture.device, working_type(picture, self.device), self.method
        if key not in self._stages:
            self._stages = {key: stages(self.features, *key[1:])}
        return self._stages[key]


def scanner_for(
    features: Features,
    observed: Observers,
    optimizer: Optimizer,
    picture: Tensor,
    copies: int,
    mode: Streaming = "auto",
    budget: int | None = None,
    coarse: Tensor | None = None,
    device: torch.device | None = None,
    method: Method = "auto",
) -> Scanner:
    """Makes a scanner that works in the memory that a run has.

    Args:
        features: The feature extractor.
        observed: The observers of the picture.
        optimizer: The optimiser of the picture.
        picture: A picture of the run's largest size, (1, 3, H, W).
        copies: Tensors of this size that the run has yet to allocate, without the optimiser state.
        mode: See Scanner.
        budget: Bytes that the run may take beyond loading torch, with all tensors that exist by now; None for all free
            memory.
        coarse: A small picture, (1, 3, h, w), on which the network runs in each step as well.
        device: The device of the run, to which the network and the pictures are moved later; None for the device of
            the picture.
        method: See Scanner.

    Raises:
        InputError: If the memory is too small, or the mode or the method is unknown.
    """
    device = device or picture.device
    scanner = Scanner(features, mode, device=device, method=method)
    there = memory.free(device) if budget is None else budget
    taken = 0 if budget is None else memory.held(device) + (LOADED if device.type == "cpu" else 0)
    if device.type != picture.device.type:  # the network is not there yet
        taken += sum(x.nbytes for x in features.buffers())
    item = working_type(picture, device).itemsize
    copies += 2 * optimizer.defaults["history_size"] + 5 if "history_size" in optimizer.defaults else 2
    copies += 2 * ("scales" in optimizer.defaults)  # moments of smaller scales, and a step while it is made
    # the gradients of these terms are kept until all are added
    copies += observed.pixel_terms + (coarse is not None)
    # the network's weights, in all layouts for the forward and for the backward pass
    taken += OVERHEAD + copies * picture.nbytes + sum(x.nbytes * 2 * KEPT * item // 4 for x in features.buffers())
    for seen in [picture] if coarse is None else [picture, coarse]:
        taken += sum(item * math.prod(features.shape(layer, *seen.shape[2:])) for layer in observed.kept_layers)
    taken += 0 if coarse is None else scanner.plan(coarse).needed
    scanner.available = there - taken
    plan = scanner.plan(picture)
    size = f"{picture.shape[3]}×{picture.shape[2]} pixels"
    needed = memory.readable(taken + plan.needed)
    if plan.needed > scanner.available and budget is not None:
        raise InputError(
            f"Expected --model.memory to be at least {needed} for {size}{_unless(mode)}, but got "
            f"{memory.readable(budget)}; raise it or lower --data.size"
        )
    if plan.needed > scanner.available:
        raise InputError(
            f"Expected --data.size to fit into memory, but {size} need about {needed}{_unless(mode)} and "
            f"{device} has {memory.readable(there)}; lower --data.size"
        )
    memory.keep_heap()
    if plan.streams:
        log.info("%s are looked at in bands: %s of memory and %.2f times the operations", size, needed, plan.work)
    return scanner


def _unless(mode: Streaming) -> str:
    return " without --model.streaming" if mode == "off" else ""


def working_type(picture: Tensor, device: torch.device | None = None) -> torch.dtype:
    """Returns the type of activations: the type of autocast where it is on for a device, else the picture's type."""
    kind = (device or picture.device).type
    there = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.get_autocast_dtype(kind) if there else picture.dtype
