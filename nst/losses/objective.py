"""The objective: a list of terms, each a class that says what it looks at, what that adds up to and what it is worth.

A term in a file of your own is named by its `class_path` in `model.terms`. One that looks at the pixels as they are
needs `values` alone; a FeatureTerm looks at layers of the network and a PixelTerm at rows of pixels, whose statistics
are gathered band by band where a picture is larger than memory.
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
"""All rows of the picture."""


class LayerLoss(ABC):
    """A loss of one layer's activations: what is gathered of them, and what becomes of it."""

    @abstractmethod
    def statistics(self, features: Tensor, rows: slice = ALL) -> Statistics:
        """Returns what activations, (1, C, h, w), of some rows of the picture's add to the statistics."""

    @abstractmethod
    def value(self, statistics: Any) -> Tensor:
        """Returns the loss for the whole picture's statistics, a scalar."""

    def add_gradient(self, gradient: Tensor, features: Tensor, cotangent: Any, rows: slice = ALL) -> None:
        """Adds the gradient of activations to one that is there, in place (see `statistics.Observer`)."""
        with torch.enable_grad():
            leaf = features.detach().requires_grad_()
            add_gradient_by_autograd(self.statistics(leaf, rows), leaf, cotangent, gradient)


class Scan(Protocol):
    """How a term sees the pictures of a level through the network."""

    def activations(self, picture: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        """Returns activations by layer, (1, C, h, w), of a picture of the level's size, (1, 3, H, W)."""

    def statistics(self, painting: Painting, distances: Mapping[str, Any]) -> dict[str, Pooled]:
        """Returns what a painting's activations add up to, by layer."""

    def spread(self, weights: Tensor | None, layers: Iterable[str], erode: bool = False) -> Mapping[str, Tensor | None]:
        """Brings weights of the level's pixels, (1, 1, H, W), to layers, (1, 1, h, w) each; None stays None."""


class Term:
    """A part of the objective.

    Attributes:
        name: Its name in TensorBoard.
        flag: The setting that lowers it, for people.
        weights: What each of its values is worth, by the value's name in TensorBoard; without any it is left out.
    """

    name: str = "term"
    flag: str = "--model.terms"
    weights: dict[str, float]

    def check(self, level: Level) -> None:
        """Raises an InputError unless the term can work at a level."""

    def set_targets(self, level: Level, scan: Scan) -> None:
        """Computes, without a gradient, what the term compares the picture of a level with."""

    def values(self, statistics: Mapping[str, Any], picture: Tensor) -> dict[str, Tensor]:
        """Evaluates the term.

        Args:
            statistics: What was gathered, by the name of the value that asked for it.
            picture: The picture, (1, 3, H, W) in [0, 1].

        Returns:
            The values by name, scalars without their weights.
        """
        raise NotImplementedError


class FeatureTerm(Term):
    """A term that looks at layers of the network, with a value for each.

    Args:
        losses: The losses by layer.
        weights: Their weights.

    Attributes:
        keeps: Layers of which it holds all activations of a picture as a target.
    """

    keeps: tuple[str, ...] = ()

    def __init__(self, losses: Mapping[str, LayerLoss], weights: Mapping[str, float]) -> None:
        self.losses = dict(losses)
        self.weights = {f"{self.name}/{layer}": weights[layer] for layer in losses}

    def observers(self, layer: str) -> dict[str, Observer]:
        """Returns the loss that looks at a layer, by the name of its value."""
        return {f"{self.name}/{layer}": self.losses[layer]} if layer in self.losses else {}

    def values(self, statistics: Mapping[str, Any], picture: Tensor) -> dict[str, Tensor]:
        return {f"{self.name}/{layer}": x.value(statistics[f"{self.name}/{layer}"]) for layer, x in self.losses.items()}


class PixelTerm(Term):
    """A term that adds something up over rows of pixels, with one value.

    Args:
        weight: Its weight.
    """

    def __init__(self, weight: float) -> None:
        check_weight(self.flag.removeprefix("--"), weight)
        self.weights = {self.name: weight} if weight > 0 else {}

    def pixel_statistics(self, rows: Tensor, below: Tensor, last: bool) -> Statistics:
        """Returns what some rows add to the statistics (see `statistics.PixelObserver`)."""
        raise NotImplementedError


def check_weight(key: str, weight: float) -> None:
    """Raises an InputError unless a weight is finite and 0 or more."""
    if not (math.isfinite(weight) and weight >= 0):
        raise InputError(f"Expected a finite weight of 0 or more, but got {weight}; change --{key}")


class Objective:
    """The weighted sum of the values of terms.

    Args:
        terms: The terms; one without a weight is left out.

    Raises:
        InputError: If none looks at the network, two have values of one name, or a weight is of no value.
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

    @property
    def layers(self) -> set[str]:
        """Names of the layers that the terms look at."""
        return {layer for term in self.terms if isinstance(term, FeatureTerm) for layer in term.losses}

    @property
    def kept_layers(self) -> list[str]:
        """Names of the layers of which terms hold all activations of a picture."""
        return [layer for term in self.terms if isinstance(term, FeatureTerm) for layer in term.keeps]

    @property
    def pixel_terms(self) -> int:
        """The number of terms that look at the pixels themselves."""
        return sum(not isinstance(term, FeatureTerm) for term in self.terms)

    @property
    def pixel_observers(self) -> dict[str, PixelObserver]:
        """Terms that look at rows of pixels, by name."""
        return {term.name: term for term in self.terms if isinstance(term, PixelTerm)}

    def observers(self, layer: str) -> dict[str, Observer]:
        """Returns the losses that look at a layer, by the name of their value."""
        found: dict[str, Observer] = {}
        for term in self.terms:
            if isinstance(term, FeatureTerm):
                found |= term.observers(layer)
        return found

    def check(self, level: Level) -> None:
        """Raises an InputError unless all terms can work at a level."""
        for term in self.terms:
            term.check(level)

    def set_targets(self, level: Level, scan: Scan) -> None:
        """Computes what the terms compare the picture of a level with."""
        for term in self.terms:
            term.set_targets(level, scan)

    def values(self, statistics: Mapping[str, Any], picture: Tensor) -> dict[str, Tensor]:
        """Evaluates every term.

        Args:
            statistics: Those of the picture, by the name of the value.
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
        """Returns the weighted sum of each term's values that have several, by the term's name."""
        several = [term for term in self.terms if isinstance(term, FeatureTerm)]
        return {term.name: self.total({name: values[name] for name in term.weights}) for term in several}
