"""Statistics, the sums over a picture's positions that losses are functions of, and the protocols around them.

The statistics of two parts of a picture add up to the statistics of both: so statistics may be gathered in one go, band
by band, or on many machines, and the loss and its gradient are the same. Code that gathers statistics uses three
operations alone: adding two statistics, listing the tensors of a statistic (`flatten`), and putting other tensors, such
as gradients, in their places (`unflatten`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import reduce
from operator import add
from typing import Any, Protocol, Self, TypeVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class Statistics:
    """Sums over positions of a picture; a subclass is a frozen dataclass with a tensor in each field.

    Statistics are added field by field. A subclass that is combined otherwise, such as a minimum over positions,
    overrides `__add__`, which must be associative.
    """

    def __add__(self, other: Self) -> Self:
        return self.unflatten([a + b for a, b in zip(self.flatten(), other.flatten(), strict=True)])

    @property
    def is_sum(self) -> bool:
        """Whether statistics are added field by field, so that the statistics of many processes are sums of tensors."""
        return type(self).__add__ is Statistics.__add__

    def flatten(self) -> tuple[Tensor, ...]:
        """Returns the tensors of all fields in a fixed order."""
        return tuple(getattr(self, field.name) for field in fields(self))

    def unflatten(self, tensors: Sequence[Any]) -> Self:
        """Returns statistics with other tensors, in the order of `flatten`, such as gradients (None for none)."""
        return type(self)(*tensors)


@dataclass(frozen=True)
class Places(Statistics):
    """The statistics of several places of a picture, in a fixed order."""

    parts: tuple[Statistics, ...]

    def __add__(self, other: Places) -> Places:
        return Places(tuple(a + b for a, b in zip(self.parts, other.parts, strict=True)))

    @property
    def is_sum(self) -> bool:
        return all(part.is_sum for part in self.parts)

    def flatten(self) -> tuple[Tensor, ...]:
        return tuple(tensor for part in self.parts for tensor in part.flatten())

    def unflatten(self, tensors: Sequence[Any]) -> Places:
        parts, start = [], 0
        for part in self.parts:
            stop = start + len(part.flatten())
            parts.append(part.unflatten(tensors[start:stop]))
            start = stop
        return Places(tuple(parts))


@dataclass(frozen=True)
class Value(Statistics):
    """A single sum, a scalar; of shape (0,) where nothing is summed."""

    value: Tensor


@dataclass(frozen=True)
class Pooled(Statistics):
    """Sums over positions with the number of positions, so that pictures of different sizes can be compared.

    Attributes:
        positions: The number of positions, or the sum of their weights, a scalar.
    """

    positions: Tensor


@dataclass(frozen=True)
class Moments(Pooled):
    """The first two raw moments of feature vectors, summed over positions.

    Attributes:
        outer: Sum of the outer products of the feature vectors, the unnormalised Gram matrix, (C, C), float32.
        total: Sum of the feature vectors, (C,), float32; (0,) where it was not summed.
    """

    outer: Tensor
    total: Tensor

    @property
    def gram(self) -> Tensor:
        """The Gram matrix per position, (C, C)."""
        return self.outer / self.positions

    @property
    def mean(self) -> Tensor:
        """The mean feature vector, (C,)."""
        return self.total / self.positions

    @property
    def covariance(self) -> Tensor:
        """The covariance matrix of the features, (C, C)."""
        return self.gram - torch.outer(self.mean, self.mean)


P = TypeVar("P", bound=Pooled)
S = TypeVar("S", bound=Statistics)


class Group(Protocol):
    """Processes that make a picture together (see `distributed.processes.Processes`)."""

    @property
    def count(self) -> int:
        """The number of processes."""

    def add(self, tensor: Tensor) -> Tensor:
        """Adds the tensors of all processes, in place, and returns the sum."""

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """Returns the tensors of all processes."""


def over(processes: Group, statistics: Mapping[str, S]) -> dict[str, S]:
    """Returns the statistics of all processes, combined; the same, to the last bit, in each process."""
    if processes.count == 1:
        return dict(statistics)
    sums = [tensor for found in statistics.values() if found.is_sum for tensor in found.flatten()]
    for dtype in dict.fromkeys(tensor.dtype for tensor in sums):  # one message for each
        places = [i for i, tensor in enumerate(sums) if tensor.dtype == dtype]
        added = processes.add(torch.cat([sums[i].flatten() for i in places]))
        for i, part in zip(places, added.split([sums[i].numel() for i in places]), strict=True):
            sums[i] = part.view_as(sums[i])
    rest, combined = iter(sums), dict[str, S]()
    for name, found in statistics.items():
        if found.is_sum:
            combined[name] = found.unflatten([next(rest) for _ in found.flatten()])
        else:
            parts = zip(*(processes.gather(tensor) for tensor in found.flatten()), strict=True)
            combined[name] = reduce(add, map(found.unflatten, parts))
    return combined


def blend(parts: Sequence[P], weights: Sequence[float]) -> P:
    """Mixes statistics per position by weights that sum to 1, as if the pictures were laid side by side.

    Args:
        parts: Statistics of one layer, of one picture each.
        weights: The weights of the parts.

    Returns:
        The mixture, with 1 as its number of positions; a single part is returned unchanged.
    """
    if len(parts) == 1:
        return parts[0]

    def mixed(name: str) -> Tensor:
        means = (getattr(part, name) / part.positions for part in parts)
        return torch.stack([weight * mean for mean, weight in zip(means, weights, strict=True)]).sum(0)

    sums = {field.name: mixed(field.name) for field in fields(parts[0]) if field.name != "positions"}
    return replace(parts[0], positions=torch.ones_like(parts[0].positions), **sums)


class Observer(Protocol):
    """Gathers the statistics of one layer's activations, band by band."""

    def statistics(self, features: Tensor, rows: slice) -> Statistics:
        """Returns the statistics of one band's activations, (N, C, h, w), given the band's rows in the layer."""

    def add_gradient(self, gradient: Tensor, features: Tensor, cotangent: Any, rows: slice) -> None:
        """Adds the gradient that flows back through `statistics` to the gradient of one band's activations, in place.

        Args:
            gradient: The gradient of the band's activations so far, (N, C, h, w), changed.
            features: The band's activations, (N, C, h, w).
            cotangent: The gradient of the loss with respect to the statistics, as an object of their class; a field
                without a gradient is None.
            rows: The band's rows among all rows of the layer's activations.
        """


class PixelObserver(Protocol):
    """Gathers the statistics of a picture's pixels, some rows at a time."""

    def pixel_statistics(self, rows: Tensor, below: Tensor, last: bool) -> Statistics:
        """Returns the statistics of some rows of a picture.

        Args:
            rows: The rows, (1, 3, h, W).
            below: The row under `rows`, (1, 3, 1, W); the picture's first row if `rows` are the last rows.
            last: Whether `rows` are the picture's last rows.
        """


class Observers(Protocol):
    """The observers of a picture, by the names of the values that their statistics are for."""

    @property
    def kept_layers(self) -> list[str]:
        """Names of the layers whose activations of a whole picture an observer holds, once for each observer."""

    @property
    def pixel_terms(self) -> int:
        """The number of terms that are computed from the pixels."""

    @property
    def pixel_observers(self) -> dict[str, PixelObserver]:
        """The observers of the pixels."""

    def observers(self, layer: str) -> dict[str, Observer]:
        """Returns the observers of a layer's activations."""


class Gatherer(Protocol):
    """Runs the network on pictures, (1, 3, H, W)."""

    def statistics(self, picture: Tensor, observed: Observers) -> Mapping[str, Any]:
        """Returns the statistics that observers gather of a picture, by name, as differentiable tensors."""

    def activations(self, picture: Tensor, layers: Iterable[str], whole: bool = False) -> dict[str, Tensor]:
        """Returns the activations of a picture, (1, C, h, w), by layer: all rows, or those of this process."""

    def own(self, layer: str, height: int) -> slice:
        """Returns the rows of a layer that this process answers for, given the height of the picture."""

    def total(self, value: Tensor) -> Tensor:
        """Returns the sum of a tensor over all processes."""

    def cells(self, picture: Tensor, axes: Mapping[str, Tensor], size: int) -> Tensor:
        """Returns components of the mean activations of cells of `size` pixels a side, (D, H // size, W // size)."""

    def sums(
        self, picture: Tensor, distances: Mapping[str, Any], guides: Mapping[str, Tensor] | None = None
    ) -> dict[str, Pooled]:
        """Returns the statistics that style distances take, by layer; guides weight the positions, (1, 1, h, w)."""


def add_gradient_by_autograd(statistics: Statistics, features: Tensor, cotangent: Statistics, gradient: Tensor) -> None:
    """Adds the gradient that flows back through statistics to the gradient of the features, in place, by autograd.

    Args:
        statistics: Statistics with an autograd graph.
        features: The leaf tensor that the statistics were taken of, (N, C, h, w), which requires a gradient.
        cotangent: The gradient of the loss with respect to the statistics; a field without a gradient is None.
        gradient: The gradient of the features so far, (N, C, h, w), changed.
    """
    pairs = zip(statistics.flatten(), cotangent.flatten(), strict=True)
    pulled = [(x, given) for x, given in pairs if given is not None and x.requires_grad]
    if pulled:
        sums, given = zip(*pulled, strict=True)
        gradient += torch.autograd.grad(sums, features, given)[0].to(gradient.dtype)
