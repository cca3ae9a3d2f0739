"""Style distances: what is gathered of a layer's activations, and how far two of these are from each other.

A distance is a class in a file of the folder `distances`, and is known by being there: the command line's choices, its
help and the tests read `DISTANCES`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch
from torch import Tensor

from nst.errors import check_choice
from nst.losses.statistics import Pooled, add_gradient_by_autograd, blend

Normalization = Literal["relative", "gatys"]
"""A share of the target's energy, or the paper's scaling."""

DISTANCES: dict[str, type[StyleDistance[Any]]] = {}
"""The distances by name."""

S = TypeVar("S", bound=Pooled)


class StyleDistance(ABC, Generic[S]):
    """How far a layer's activations are from a style's; the first line of a subclass says what it compares.

    Args:
        normalization: `relative` or `gatys`, which is a scale of the Frobenius distance alone.

    Raises:
        InputError: If there is no such normalisation.
    """

    name: ClassVar[str]

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        if "name" in vars(cls):
            DISTANCES[cls.name] = cls

    def __init__(self, normalization: Normalization = "relative") -> None:
        check_choice("model.normalization", normalization, Normalization)
        self.normalization: Normalization = normalization

    @abstractmethod
    def statistics(self, features: Tensor, guide: Tensor | None = None) -> S:
        """Returns what activations add up to.

        Args:
            features: (N, C, h, w); the positions of all N are pooled.
            guide: Weights of the positions, (N, 1, h, w); None for 1 everywhere.
        """

    @abstractmethod
    def distance(self, statistics: S, prepared: Any) -> Tensor:
        """Returns the distance of a picture's statistics from a prepared target, a scalar with a gradient."""

    def prepare(self, target: S) -> Any:
        """Returns a style's statistics in the form that `distance` wants, computed once."""
        return target

    def blend(self, parts: Sequence[S], weights: Sequence[float]) -> S:
        """Mixes the statistics of several styles by weights that sum to 1."""
        return blend(parts, weights)

    def add_gradient(self, gradient: Tensor, features: Tensor, cotangent: Any, guide: Tensor | None = None) -> None:
        """Adds the gradient of `statistics` to one that is there, in place: by autograd, where nothing faster is known.

        Args:
            gradient: That of the activations, (N, C, h, w), changed.
            features: The activations.
            cotangent: The gradient of the statistics, in their form; None for a field without one.
            guide: As of `statistics`.
        """
        with torch.enable_grad():
            leaf = features.detach().requires_grad_()
            add_gradient_by_autograd(self.statistics(leaf, guide), leaf, cotangent, gradient)
