"""Runs the network on a picture, whole or band by band; the statistics of its activations are one autograd node."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor
from torch.optim import Optimizer

from nst.distributed.processes import ALONE, Processes, Share
from nst.errors import InputError, check_choice
from nst.losses.distance import StyleDistance
from nst.losses.functional import PART
from nst.losses.statistics import Observers, Pooled, Statistics, over
from nst.machine import memory
from nst.machine.numerics import plain
from nst.network.features import Features
from nst.streaming.convolutions import KEPT, Method
from nst.streaming.nodes import NetworkStatistics, PixelStatistics, put_back, rows_and_below
from nst.streaming.plan import Plan, Streaming, choose, usable
from nst.streaming.stages import Stage, stages
from nst.streaming.walk import OnBand, Visit, Walk, empty, share_of

log = logging.getLogger(__name__)

LOADED, OVERHEAD = 280 << 20, 100 << 20
"""Bytes that a run takes besides tensors: for libraries that are loaded beyond torch, Lightning above all; and for
later allocations, such as the logger's, and freed memory that the allocator cannot use again."""

MEASURED = 256
"""Pixels of a side of what the processes' speeds are measured on."""


class Scanner:
    """Runs the network on pictures, whole or band by band, and gathers the statistics that observers ask for.

    Args:
        features: The feature extractor.
        mode: `off` runs on whole pictures, `on` in bands, `auto` in bands where a whole picture needs more memory than
            is available.
        available: Bytes that the scanner may take, besides the picture, the network's weights and the targets.
        device: The device on which pictures will be when the network runs; None for the device that they are on.
        method: How convolutions are computed; `winograd` and `auto` fall back on `direct` (see `plan.usable`).
        processes: The processes that run the network together, each on its share of a picture's rows. Rows of a layer
            are then counted from the share's first row, and the statistics are those of all processes.

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
        processes: Processes = ALONE,
    ) -> None:
        check_choice("model.streaming", mode, Streaming)
        check_choice("model.convolution", method, Method)
        self.mode: Streaming
        self.method, self._wanted = usable(method), method
        self.features, self.mode, self.available, self.device = features, mode, available, device
        self.processes = processes
        self._available_now = math.inf  # bytes now, in a resumed run that keeps its earlier figure
        self.on_band: OnBand = lambda done, of: None
        self._stages: dict[tuple[torch.device, torch.dtype, Method], list[Stage]] = {}

    def statistics(self, picture: Tensor, observed: Observers) -> dict[str, Statistics]:
        """Returns the statistics, differentiable, that observers gather of a picture, (1, 3, H, W), by name."""
        keep = torch.is_grad_enabled() and picture.requires_grad
        walk, form = self._walk(picture, self.processes), dict[str, Statistics]()
        found = put_back(NetworkStatistics.apply(picture, walk, observed, form, keep), form)
        rows = max(1, min(walk.rows[0], PART // picture[:, :, 0].numel()))
        for name, observer in observed.pixel_observers.items():
            form = dict[str, Statistics]()
            share = walk.share(picture.shape[2])
            if rows >= picture.shape[2] and self.processes.count == 1:
                found[name] = observer.pixel_statistics(*next(rows_and_below(picture, share, rows)))
                continue
            found[name] = put_back(PixelStatistics.apply(picture, observer, form, walk, rows), form)["sums"]
        return found

    def own(self, layer: str, height: int) -> slice:
        """Returns the rows of a layer that this process answers for, given the height of the picture."""
        stride, rows = self.features.stride(layer), self.features.shape(layer, height, 1)[1]
        return self._share(height).scaled(stride, rows).own

    def total(self, value: Tensor) -> Tensor:
        """Returns the sum of a tensor over all processes."""
        return self.processes.add(value.clone())

    def measure_speeds(self, picture: Tensor) -> None:
        """Measures, once, how fast the network runs in each process, on a corner of a picture, (1, 3, H, W)."""
        if self.processes.count == 1 or self.processes.speeds:
            return
        corner, seconds = picture.detach()[:, :, :MEASURED, :MEASURED], list[float]()
        seen: list[Tensor] = []
        for _ in range(3):
            start = time.perf_counter()
            self._visit(corner, lambda layer, y, rows: seen.append(y[0, 0, 0, 0]), ALONE)
            seen[-1].item()  # the device has then done all of it
            seconds.append(time.perf_counter() - start)
        self.processes = self.processes.measured(min(seconds))

    def _share(self, height: int) -> Share:
        return share_of(self.processes, self.features, height)

    @torch.no_grad()
    def activations(self, picture: Tensor, layers: Iterable[str], whole: bool = False) -> dict[str, Tensor]:
        """Returns the activations of a picture, (1, 3, H, W), at some layers, in the network's own precision.

        With `whole`, all rows; without, the rows that this process answers for.
        """
        maps: dict[str, Tensor] = {}
        wanted = set(layers)

        def visit(layer: str, y: Tensor, rows: slice) -> None:
            if layer in wanted:
                if layer not in maps:
                    channels, height, width = self.features.shape(layer, *picture.shape[2:])
                    own = slice(0, height) if whole else self.own(layer, picture.shape[2])
                    maps[layer] = empty((len(y), channels, own.stop - own.start, width), y)
                maps[layer][:, :, rows] = y

        self._visit(picture, visit, ALONE if whole else self.processes)
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
            start, stop = (row + self.own(layer, picture.shape[2]).start for row in (rows.start, rows.stop))
            if side == 0:
                deep.setdefault(layer, sums.new_zeros(count, *self.features.shape(layer, *picture.shape[2:])[1:]))
                deep[layer][:, start:stop] = torch.tensordot(axes[layer], y[0].float(), 1)
                return
            stop = min(stop, rows_of_cells * side)
            if start < stop:
                first, last = start // side, -(-stop // side)
                cells = torch.arange(start, stop, device=y.device) // side - first
                wide = nnf.avg_pool2d(y[:, :, : len(cells), : columns * side].float(), (1, side))[0] / side
                band = wide.new_zeros(len(wide), last - first, columns).index_add_(1, cells, wide)
                sums[:, first:last] += torch.tensordot(axes[layer], band, 1)

        self._visit(picture, visit, self.processes)
        self.processes.add(sums)
        for layer in (name for name in axes if name in deep):
            whole = self.processes.add(deep[layer])[None]
            sums += nnf.interpolate(whole, (rows_of_cells, columns), mode="bilinear", align_corners=False)[0]
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
                first = self.own(layer, picture.shape[2]).start
                here = slice(first + rows.start, first + rows.stop)
                part = distances[layer].statistics(y, None if guides is None else guides[layer][:, :, here])
                found[layer] = found[layer] + part if layer in found else part

        self._visit(picture, visit, self.processes)
        return over(self.processes, found)

    def plan(self, picture: Tensor, processes: Processes | None = None) -> Plan:
        """Returns the plan for this process's rows of a picture, (1, 3, H, W), among those of some processes."""
        height, width = picture.shape[2:]
        among = self.processes if processes is None else processes
        rows = share_of(among, self.features, height).rows
        return choose(self.mode, self._stages_for(picture), max(rows, 1), width, self.available)

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

    def _visit(self, picture: Tensor, visit: Visit, processes: Processes) -> None:
        walk = self._walk(picture, processes)
        with plain(picture.device):
            walk.forward(picture, visit, keep=False)
        memory.return_heap()  # steps need tensors of other sizes

    def _walk(self, picture: Tensor, processes: Processes) -> Walk:
        plan = self.plan(picture, processes)
        on_band = self.on_band if plan.streams else lambda done, of: None
        return Walk(
            self.features,
            self._stages_for(picture),
            plan.rows,
            on_band,
            plan.returns_memory(min(self.available, self._available_now)),
            processes,
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
    processes: Processes = ALONE,
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
        processes: See Scanner; those of one machine share its memory.

    Raises:
        InputError: If the memory is too small, or the mode or the method is unknown.
    """
    device = device or picture.device
    scanner = Scanner(features, mode, device=device, method=method, processes=processes)
    there = memory.free(device) // processes.local if budget is None else budget
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
