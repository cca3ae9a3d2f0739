"""The objective: the weighted sum of the values of terms.

A term in a file of your own is named by its `class_path` in `model.terms`. It derives from Term if its values are
computed from the whole picture, from FeatureTerm if they are losses of the network's activations, and from PixelTerm if
its value is a function of sums over rows of pixels. The statistics of FeatureTerm and PixelTerm are gathered band by
band where the picture is too large for memory.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from nst.errors import InputError
from nst.losses.statistics import Observer, PixelObserver, Pooled, Statistics, add_gradient_by_autograd
from nst.scene.levels import Level, Painting

ALL = slice(None)
"""All rows of a layer's activations."""

STRENGTH_POWER = 3
"""All weights but the content weight are multiplied by this power of the strength, so that the picture leaves the
photograph at an even pace: at strengths of 0.25, 0.5 and 0.75 the root of the content distance was 0.2-0.3, 0.6 and 0.9
of the root at strength 1, for two pairs at 80 px."""


class LayerLoss(ABC):
    """A loss of one layer's activations: `statistics` of each band, which are added, and a `value` of their sum."""

    @abstractmethod
    def statistics(self, features: Tensor, rows: slice = ALL) -> Statistics:
        """Returns the statistics of one band's activations.

        Args:
            features: The band's activations, (1, C, h, w).
            rows: The band's rows among all rows of the layer's activations, for a loss with a target at each position.
        """

    @abstractmethod
    def value(self, statistics: Any) -> Tensor:
        """Returns the loss, a scalar, from the statistics of the whole picture."""

    def add_gradient(self, gradient: Tensor, features: Tensor, cotangent: Any, rows: slice = ALL) -> None:
        """Adds to a band's gradient, in place, by autograd; a subclass may override it (see `statistics.Observer`)."""
        with torch.enable_grad():
            leaf = features.detach().requires_grad_()
            add_gradient_by_autograd(self.statistics(leaf, rows), leaf, cotangent, gradient)


class Scan(Protocol):
    """Runs the network on the pictures of a level, for the targets of a term.

    Where several processes make the picture, each has the activations and the weights of its own rows alone, counted
    from the first of them, as it gets them in each step; a number that belongs to all rows is a `total`.
    """

    def activations(self, picture: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        """Returns the activations, (1, C, h, w), of a picture of the level's size, (1, 3, H, W), by layer."""

    def own(self, layer: str, height: int) -> slice:
        """Returns the rows of a layer that this process answers for, given the height of a picture with its margin."""

    def total(self, value: Tensor) -> Tensor:
        """Returns the sum of a tensor over all processes."""

    def extended(self, image: Tensor) -> Tensor:
        """Returns a picture or a mask of the level's size, (1, C, H, W), with the optimised image's margin."""

    def cells(self, picture: Tensor, axes: Mapping[str, Tensor], size: int) -> Tensor:
        """Returns components of the activations of cells of a picture of any size (see `Gatherer.cells`)."""

    def painting(self, picture: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        """Returns the activations, (1, C, h, w), of a picture of any size, (1, 3, H, W), by layer."""

    def stride(self, layer: str) -> int:
        """Returns the pixels from one position of a layer to the next."""

    def shape(self, layer: str, height: int, width: int) -> tuple[int, int, int]:
        """Returns the channels, the height and the width of a layer's activations of a picture of some size."""

    def statistics(self, painting: Painting, distances: Mapping[str, Any]) -> dict[str, Pooled]:
        """Returns the statistics of a painting's activations by layer, as the layer's style distance takes them."""

    def spread(self, weights: Tensor | None, layers: Iterable[str], erode: bool = False) -> Mapping[str, Tensor | None]:
        """Scales a mask of the level's pixels down to the positions of layers.

        Args:
            weights: The mask, weights of the pixels, (1, 1, H, W); None stays None.
            layers: Names of the layers.
            erode: Whether a position takes the smallest weight in its receptive field.

        Returns:
            Weights of the positions, (1, 1, h, w), by layer.
        """


class Term(ABC):
    """A part of the objective: one or more values, scalars that are multiplied by weights and added to the objective.

    A subclass sets `name`, `flag` and `weights` and defines `values`; `check` and `set_targets` do nothing by default.

    Attributes:
        name: The term's name in TensorBoard.
        flag: The command line's flag that lowers the term, for error messages.
        weights: The weight of each value, by the value's name in TensorBoard; a term is left out of the objective if
            none of its weights is above 0.
    """

    name: str = "term"
    flag: str = "--model.terms"
    weights: dict[str, float]

    def check(self, level: Level) -> None:  # noqa: B027  # most terms suit every level
        """Raises an InputError if a level does not suit the term, such as a layer without a painting."""

    def set_targets(self, level: Level, scan: Scan) -> None:  # noqa: B027  # a term may have no targets
        """Computes the term's targets at a level, without a gradient, before the first step of the level."""

    @abstractmethod
    def values(self, statistics: Mapping[str, Any], picture: Tensor) -> dict[str, Tensor]:
        """Computes the term's values.

        Args:
            statistics: Statistics of the picture, by the name of the value that they are for.
            picture: The picture, (1, 3, H, W) in [0, 1].

        Returns:
            The values by name, scalars that are not multiplied by their weights.
        """


class FeatureTerm(Term):
    """A term of the network's activations, with a loss and a value, such as `style/relu4_1`, for each of some layers.

    A subclass sets `name` and `flag`, and gives the losses their targets in `set_targets`.

    Args:
        losses: The losses by layer.
        weights: The weights of the losses by layer.

    Attributes:
        keeps: Names of the layers whose activations of a whole picture the term holds as a target; their size is
            counted in the memory that a run needs.
        needs: Names of further layers that `set_targets` asks for.
    """

    keeps: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()

    def __init__(self, losses: Mapping[str, LayerLoss], weights: Mapping[str, float]) -> None:
        self.losses = dict(losses)
        self.weights = {f"{self.name}/{layer}": weights[layer] for layer in losses}

    def observers(self, layer: str) -> dict[str, Observer]:
        """Returns the loss of a layer by the name of its value; empty for a layer without a loss."""
        return {f"{self.name}/{layer}": self.losses[layer]} if layer in self.losses else {}

    def values(self, statistics: Mapping[str, Any], picture: Tensor) -> dict[str, Tensor]:
        return {f"{self.name}/{layer}": x.value(statistics[f"{self.name}/{layer}"]) for layer, x in self.losses.items()}


class PixelTerm(Term):
    """A term with one value, which is a function of sums over rows of pixels.

    A subclass sets `name` and `flag` and defines `pixel_statistics`, whose results for all bands of rows are added, and
    `values`, which gets their sum as `statistics[self.name]`.

    Args:
        weight: Weight of the term's value.
    """

    def __init__(self, weight: float) -> None:
        check_weight(self.flag.removeprefix("--"), weight)
        self.weights = {self.name: weight} if weight > 0 else {}

    @abstractmethod
    def pixel_statistics(self, rows: Tensor, below: Tensor, last: bool) -> Statistics:
        """Returns the statistics of some rows of pixels (see `statistics.PixelObserver`)."""


def check_weight(key: str, weight: float) -> None:
    """Raises an InputError unless a weight is finite and 0 or more."""
    if not (math.isfinite(weight) and weight >= 0):
        raise InputError(f"Expected a finite weight of 0 or more, but got {weight}; change --{key}")


class Objective:
    """The weighted sum of the values of terms.

    Args:
        terms: The terms; one without a weight is left out.

    Raises:
        InputError: If there is no FeatureTerm with a weight, or two terms have a value of the same name.
    """

    def __init__(self, terms: Iterable[Term]) -> None:
        self.terms = [term for term in terms if any(term.weights.values())]
        if not any(isinstance(term, FeatureTerm) for term in self.terms):
            raise InputError(
                "Expected a content or a style layer with a weight above 0, but got none; "
                "raise --model.content_weight or --model.style_weight"
            )
        self.weights: dict[str, float] = {}
        self.flags: dict[str, str] = {}
        for term in self.terms:
            for name, weight in term.weights.items():
                if name in self.weights:
                    raise InputError(f"Expected terms with names of their own, but two have {name}; rename one")
                self.weights[name], self.flags[name] = weight, term.flag

    def scale(self, weights: Mapping[str, float], factors: Mapping[str, float], others: float) -> None:
        """Sets the weights to earlier weights times a factor for each term.

        Args:
            weights: The earlier weights by the values' names.
            factors: Factors by the terms' names.
            others: Factor of the terms that are not named.
        """
        for term in self.terms:
            for name in term.weights:
                self.weights[name] = weights[name] * factors.get(term.name, others)

    @property
    def layers(self) -> set[str]:
        """Names of the layers that a loss or the targets of a term need."""
        return {layer for term in self.terms if isinstance(term, FeatureTerm) for layer in (*term.losses, *term.needs)}

    @property
    def kept_layers(self) -> list[str]:
        """Names of the layers whose activations of a whole picture a term holds as a target, once for each term."""
        return [layer for term in self.terms if isinstance(term, FeatureTerm) for layer in term.keeps]

    @property
    def pixel_terms(self) -> int:
        """The number of terms that are computed from the pixels and not from the network's activations."""
        return sum(not isinstance(term, FeatureTerm) for term in self.terms)

    @property
    def pixel_observers(self) -> dict[str, PixelObserver]:
        """The PixelTerms by name."""
        return {term.name: term for term in self.terms if isinstance(term, PixelTerm)}

    def observers(self, layer: str) -> dict[str, Observer]:
        """Returns the losses of a layer by the names of their values."""
        found: dict[str, Observer] = {}
        for term in self.terms:
            if isinstance(term, FeatureTerm):
                found |= term.observers(layer)
        return found

    def check(self, level: Level) -> None:
        """Raises an InputError if a level does not suit one of the terms."""
        for term in self.terms:
            term.check(level)

    def set_targets(self, level: Level, scan: Scan) -> None:
        """Computes the targets of all terms at a level."""
        for term in self.terms:
            term.set_targets(level, scan)

    def values(self, statistics: Mapping[str, Any], picture: Tensor) -> dict[str, Tensor]:
        """Computes the values of all terms.

        Args:
            statistics: Statistics of the picture, by the name of the value that they are for.
            picture: The picture, (1, 3, H, W).

        Returns:
            The values by name (`content/relu4_2`, `style/relu1_1`, ..., `tv`, `seam`), scalars without their weights.
        """
        found: dict[str, Tensor] = {}
        for term in self.terms:
            found |= term.values(statistics, picture)
        return found

    def total(self, values: Mapping[str, Tensor]) -> Tensor:
        """Returns the weighted sum of values, a scalar."""
        return torch.stack([self.weights[name] * value for name, value in values.items()]).sum()

    def sums(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns the weighted sum of the values of each FeatureTerm, by the term's name."""
        several = [term for term in self.terms if isinstance(term, FeatureTerm)]
        return {term.name: self.total({name: values[name] for name in term.weights}) for term in several}


def shares(kind: str, layers: Mapping[str, float], weight: float) -> dict[str, float]:
    """Splits a term's weight over layers in proportion to the layers' weights; a layer of weight 0 is left out."""
    check_weight(f"model.{kind}_weight", weight)
    for layer, share in layers.items():
        check_weight(f"model.{kind}_layers.{layer}", share)
    total = sum(layers.values())
    if weight == 0 or total == 0:
        return {}
    return {layer: weight * share / total for layer, share in layers.items() if share > 0}
