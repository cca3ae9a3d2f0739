"""What a picture's activations add up to, and who asks for it.

Every loss is a function of statistics that are added: so they may be gathered in one go, band by band, or on many
machines, and the loss and its gradient are the same. Whoever gathers them needs three things of a statistic alone: how
two of them are added, which tensors it is made of, and how the same tensors, or their gradients, are put back into it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, Self, TypeVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class Statistics:
    """Tensors that positions of a picture add up to, as the fields of a subclass.

    They are added field by field. A subclass that is put together otherwise, such as a minimum over positions, has an
    `__add__` of its own, which must be associative.
    """

    def __add__(self, other: Self) -> Self:
        return self.unflatten([a + b for a, b in zip(self.flatten(), other.flatten(), strict=True)])

    def flatten(self) -> tuple[Tensor, ...]:
        """Returns the tensors in a fixed order."""
        return tuple(getattr(self, field.name) for field in fields(self))

    def unflatten(self, tensors: Sequence[Any]) -> Self:
        """Returns statistics of the same form with other tensors, such as the gradients of these; None for none."""
        return type(self)(*tensors)


@dataclass(frozen=True)
class Places(Statistics):
    """The statistics of several parts of a picture, one after another."""

    parts: tuple[Statistics, ...]

    def __add__(self, other: Places) -> Places:
        return Places(tuple(a + b for a, b in zip(self.parts, other.parts, strict=True)))

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
    """A single sum, a scalar; or nothing at all, (0,)."""

    value: Tensor


@dataclass(frozen=True)
class Pooled(Statistics):
    """Sums over positions with the number of these, so that pictures of different sizes can be compared.

    Attributes:
        positions: The number of positions, or the sum of their weights, a scalar.
    """

    positions: Tensor


@dataclass(frozen=True)
class Moments(Pooled):
    """The first two raw moments of feature vectors, summed over positions.

    Attributes:
        outer: Sum of the outer products of the feature vectors, the unnormalised Gram matrix, (C, C), float32.
        total: Sum of the feature vectors, (C,), float32; (0,) where it was not asked for.
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


def blend(parts: Sequence[P], weights: Sequence[float]) -> P:
    """Returns statistics per position, mixed by weights that sum to 1: those of pictures that are laid side by side.

    Args:
        parts: Statistics of one layer.
        weights: Their weights.

    Returns:
        The mixture, as of one position; of one part, that part.
    """
    if len(parts) == 1:
        return parts[0]

    def mixed(name: str) -> Tensor:
        means = (getattr(part, name) / part.positions for part in parts)
        return torch.stack([weight * mean for mean, weight in zip(means, weights, strict=True)]).sum(0)

    sums = {field.name: mixed(field.name) for field in fields(parts[0]) if field.name != "positions"}
    return replace(parts[0], positions=torch.ones_like(parts[0].positions), **sums)


class Observer(Protocol):
    """Gathers statistics of one layer's activations, some rows of the picture's at a time."""

    def statistics(self, features: Tensor, rows: slice) -> Statistics:
        """Returns what activations, (N, C, h, w), of some rows add to the statistics."""

    def add_gradient(self, gradient: Tensor, features: Tensor, cotangent: Any, rows: slice) -> None:
        """Adds the gradient of activations to one that is there, in place.

        Args:
            gradient: That of the activations, (N, C, h, w), changed.
            features: The activations.
            cotangent: The gradient of the statistics, in their form; None for a field without one.
            rows: Which of the picture's rows these are.
        """


class PixelObserver(Protocol):
    """Gathers statistics of a picture's own pixels, some rows at a time."""

    def pixel_statistics(self, rows: Tensor, below: Tensor, last: bool) -> Statistics:
        """Returns what some rows of a picture add to the statistics.

        Args:
            rows: (1, 3, h, W).
            below: The row under them, (1, 3, 1, W); under the last ones, the picture's first row.
            last: Whether these are the last rows.
        """


class Observers(Protocol):
    """Who looks at a picture, by the name of what is gathered."""

    @property
    def kept_layers(self) -> list[str]:
        """Layers of which observers hold all activations of a picture."""

    @property
    def pixel_terms(self) -> int:
        """How many look at the pixels themselves."""

    @property
    def pixel_observers(self) -> dict[str, PixelObserver]:
        """Those that look at the pixels."""

    def observers(self, layer: str) -> dict[str, Observer]:
        """Returns those that look at a layer's activations."""


class Gatherer(Protocol):
    """Runs the network on pictures, (1, 3, H, W)."""

    def statistics(self, picture: Tensor, observed: Observers) -> Mapping[str, Any]:
        """Returns what observers want to know of a picture, by name, with its gradient."""

    def activations(self, picture: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        """Returns the activations at some layers, (1, C, h, w)."""

    def sums(
        self, picture: Tensor, distances: Mapping[str, Any], guides: Mapping[str, Tensor] | None = None
    ) -> dict[str, Pooled]:
        """Returns the statistics that style distances want, by layer, with weights of the positions, (1, 1, h, w)."""


def add_gradient_by_autograd(statistics: Statistics, features: Tensor, cotangent: Statistics, gradient: Tensor) -> None:
    """Adds the gradient of features to one that is there, through the graph of their statistics.

    Args:
        statistics: Statistics with a graph.
        features: What they were taken of, which has asked for a gradient, (N, C, h, w).
        cotangent: The gradient of the statistics; None for a field without one.
        gradient: Of the features' shape, changed in place.
    """
    pairs = zip(statistics.flatten(), cotangent.flatten(), strict=True)
    pulled = [(x, given) for x, given in pairs if given is not None and x.requires_grad]
    if pulled:
        sums, given = zip(*pulled, strict=True)
        gradient += torch.autograd.grad(sums, features, given)[0].to(gradient.dtype)
