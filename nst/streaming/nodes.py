"""The autograd nodes from a picture to statistics, of its activations and of its pixels, each of one piece."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from operator import add
from typing import Any

import torch
from torch import Tensor

from nst.distributed.processes import Share
from nst.losses.statistics import Observers, PixelObserver, Statistics, add_gradient_by_autograd, over
from nst.machine.numerics import plain
from nst.streaming.walk import Walk


class NetworkStatistics(torch.autograd.Function):
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
            sums.update(over(walk.processes, sums))
        ctx.picture, ctx.walk, ctx.observed, ctx.form = picture, walk, observed, _form(sums)
        ctx.set_materialize_grads(False)
        return _flat(sums)

    @staticmethod
    def backward(ctx: Any, *flat: Tensor | None) -> Any:
        cotangents = put_back(flat, ctx.form)

        def pull(layer: str, gradient: Tensor, y: Tensor, rows: slice) -> None:
            for name, observer in ctx.observed.observers(layer).items():
                if any(part is not None for part in cotangents[name].flatten()):
                    observer.add_gradient(gradient, y, cotangents[name], rows)

        with plain(ctx.picture.device):
            pulled = {layer for layer in ctx.walk.features.layers if ctx.observed.observers(layer)}
            gradient = ctx.walk.backward(pull, pulled)
        return gradient, None, None, None, None


class PixelStatistics(torch.autograd.Function):
    """The autograd node from a picture to one observer's statistics of its pixels, flattened, in bands of rows."""

    @staticmethod
    def forward(
        ctx: Any, picture: Tensor, observer: PixelObserver, form: dict[str, Statistics], walk: Walk, rows: int
    ) -> Any:
        share = walk.share(picture.shape[2])
        parts = (observer.pixel_statistics(*band) for band in rows_and_below(picture, share, rows))
        form |= over(walk.processes, {"sums": reduce(add, parts)})
        ctx.picture, ctx.observer, ctx.form, ctx.walk, ctx.rows = picture, observer, _form(form), walk, rows
        ctx.set_materialize_grads(False)
        return form["sums"].flatten()

    @staticmethod
    def backward(ctx: Any, *flat: Tensor | None) -> Any:
        gradient = torch.zeros_like(ctx.picture)
        cotangent, share = put_back(flat, ctx.form)["sums"], ctx.walk.share(ctx.picture.shape[2])
        parts = (rows_and_below(x, share, ctx.rows) for x in (ctx.picture, gradient))
        for (own, below, last), (into, into_below, _) in zip(*parts, strict=True):
            count = own.shape[2]
            with torch.enable_grad():
                both = torch.cat([own, below], dim=2).detach().requires_grad_()
                sums = ctx.observer.pixel_statistics(both[:, :, :count], both[:, :, count:], last)
            found = torch.zeros_like(both)
            add_gradient_by_autograd(sums, both, cotangent, found)
            into += found[:, :, :count]
            into_below += found[:, :, count:]
        return ctx.walk.processes.add(gradient), None, None, None, None


def rows_and_below(picture: Tensor, share: Share, rows: int) -> Iterator[tuple[Tensor, Tensor, bool]]:
    """Yields bands of a share's rows, each with the row under it (the first row for the last band of the picture), and
    whether it is the last; for an empty share, a band without rows."""
    for top in range(share.start, max(share.stop, share.start + 1), rows):
        bottom = min(top + rows, share.stop)
        last = bottom == share.height and share.rows > 0
        below = 0 if bottom == share.height else bottom
        yield picture[:, :, top:bottom], picture[:, :, below : below + 1], last


def _flat(sums: Mapping[str, Statistics]) -> tuple[Tensor, ...]:
    return tuple(tensor for found in sums.values() for tensor in found.flatten())


def _form(sums: Mapping[str, Statistics]) -> dict[str, Statistics]:
    """Returns statistics with None for each tensor: a tensor would hold the graph that holds the tensor."""
    return {name: found.unflatten([None] * len(found.flatten())) for name, found in sums.items()}


def put_back(flat: Iterable[Any], form: Mapping[str, Statistics]) -> dict[str, Statistics]:
    """Puts flattened statistics, or their gradients, back into statistics of a form."""
    rest = iter(flat)
    return {name: found.unflatten([next(rest) for _ in found.flatten()]) for name, found in form.items()}
