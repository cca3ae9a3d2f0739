"""Style distances: which statistics of a layer's activations are gathered, and how far two statistics are apart.

A distance is a class in a file of the folder `distances`. The file alone registers it: the command line's choices, its
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
"""`relative` makes a distance a share of the target's energy; `gatys` is the paper's scaling."""

DISTANCES: dict[str, type[StyleDistance[Any]]] = {}
"""The classes of the style distances, by name."""

S = TypeVar("S", bound=Pooled)


class StyleDistance(ABC, Generic[S]):
    """How far the statistics of a layer's activations are from the statistics of a style image.

    A subclass sets `name` and defines `statistics`, which returns a Pooled, and `distance`. The first line of the
    subclass's docstring says what the distance compares, and is the help of the command line.

    Args:
        normalization: `relative` or `gatys`; only the Frobenius distance has the scaling of `gatys`.

    Attributes:
        name: The distance's name in `model.style_distance`; a subclass with a name is registered in `DISTANCES`.

    Raises:
        InputError: If the normalisation is unknown.
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
        """Returns the statistics that the distance compares, as sums over the positions of activations.

        Args:
            features: Activations, (N, C, h, w); the positions of all N are pooled.
            guide: Weights of the positions, (N, 1, h, w); None for 1 everywhere.
        """

    @abstractmethod
    def distance(self, statistics: S, prepared: Any) -> Tensor:
        """Returns the distance of a picture's statistics from what `prepare` returned, a differentiable scalar."""

    def prepare(self, target: S) -> Any:
        """Converts the statistics of a style image, once, into the form that `distance` takes."""
        return target

    def blend(self, parts: Sequence[S], weights: Sequence[float]) -> S:
        """Mixes the statistics of several style images by weights that sum to 1."""
        return blend(parts, weights)

    def add_gradient(self, gradient: Tensor, features: Tensor, cotangent: Any, guide: Tensor | None = None) -> None:
        """Adds the gradient that flows back through `statistics` to the gradient of the activations, in place.

        The default is autograd; a subclass overrides it where a closed form is faster.

        Args:
            gradient: The gradient of the activations so far, (N, C, h, w), changed.
            features: The activations, (N, C, h, w).
            cotangent: The gradient of the loss with respect to the statistics, as an object of their class; a field
                without a gradient is None.
            guide: The guide that `statistics` was given.
        """
        with torch.enable_grad():
            leaf = features.detach().requires_grad_()
            add_gradient_by_autograd(self.statistics(leaf, guide), leaf, cotangent, gradient)
