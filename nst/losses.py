"""Losses as modules that hold their targets, and the objective that weighs them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from nst import functional as F
from nst.errors import InputError
from nst.functional import Distance, Moments, Norm, Normalization

ALL = slice(None)
"""All rows of the picture."""

Statistics = Mapping[str, Tensor | Moments]
"""What the features of a picture add up to, by the name of the term."""


class StyleLoss(nn.Module):
    """Distance of a layer's moments from the style's.

    Args:
        normalization: `relative` or `gatys`, which is a scale of the Frobenius distance alone.
        distance: `frobenius` (`functional.gram_distance`), `wasserstein` or `mean_std`.
    """

    outer: Tensor
    total: Tensor
    positions: Tensor
    root: Tensor

    def __init__(self, normalization: Normalization = "relative", distance: Distance = "frobenius") -> None:
        super().__init__()
        self.normalization: Normalization = normalization
        self.distance: Distance = distance
        for name in (*Moments._fields, "root"):
            self.register_buffer(name, torch.empty(0), persistent=False)

    def aim(self, target: Moments) -> None:
        """Sets the style's moments as the target."""
        self.outer, self.total, self.positions = (part.detach() for part in target)
        if self.distance == "wasserstein":
            self.root = F.factor(target.covariance.detach())

    def statistics(self, features: Tensor, rows: slice = ALL) -> Moments:
        """Returns what features, (N, C, H, W), of some rows of the picture's add to the statistics."""
        return F.moments(features, first=self.distance != "frobenius")

    def add_gradient(self, gradient: Tensor, features: Tensor, cotangent: Moments, rows: slice = ALL) -> None:
        """Adds the gradient of the features, given that of the statistics (None for 0), in place."""
        F.add_moments_gradient(gradient, features, cotangent.outer, cotangent.total)

    def forward(self, statistics: Moments) -> Tensor:
        """Returns the distance of the summed statistics from the target, a scalar."""
        target = Moments(self.outer, self.total, self.positions)
        if self.distance == "wasserstein":
            return F.wasserstein_distance(statistics, target, self.root)
        if self.distance == "mean_std":
            return F.mean_std_distance(statistics, target)
        return F.gram_distance(statistics, target, self.normalization)


class ContentLoss(nn.Module):
    """Distance of a layer's activations from the photograph's (see `functional.content_distance`).

    Args:
        normalization: `relative` or `gatys`.
    """

    features: Tensor
    energy: Tensor

    def __init__(self, normalization: Normalization = "relative") -> None:
        super().__init__()
        self.normalization: Normalization = normalization
        self.register_buffer("features", torch.empty(0), persistent=False)
        self.register_buffer("energy", torch.empty(0), persistent=False)

    def aim(self, features: Tensor) -> None:
        """Sets the photograph's activations, (N, C, H, W), as the target."""
        self.features = features.detach()
        zero = self.features.new_zeros(()).expand_as(self.features)
        self.energy = F.squared_error(self.features, zero).clamp(min=1e-12)

    def statistics(self, features: Tensor, rows: slice = ALL) -> Tensor:
        """Returns what activations, (N, C, H, W), of some rows of the picture's add to the squared error."""
        return F.squared_error(features, self.features[:, :, rows])

    def add_gradient(self, gradient: Tensor, features: Tensor, cotangent: Tensor, rows: slice = ALL) -> None:
        """Adds the gradient of the features, given that of the statistics, in place."""
        F.add_squared_error_gradient(gradient, features, self.features[:, :, rows], cotangent)

    def forward(self, statistics: Tensor) -> Tensor:
        """Returns the distance for a summed squared error, a scalar."""
        return F.content_distance(statistics, self.energy, self.normalization)


class TotalVariationLoss(nn.Module):
    """Mean difference between neighbouring pixels (see `functional.total_variation`).

    Args:
        norm: `l1` or `l2`.
        wrap: Whether opposite borders are neighbours.
    """

    def __init__(self, norm: Norm = "l1", wrap: bool = False) -> None:
        super().__init__()
        self.norm: Norm = norm
        self.wrap = wrap

    def statistics(self, picture: Tensor, below: Tensor | None = None) -> Tensor:
        """Returns what a picture, (N, 3, H, W), or rows of it with the row under them add to the differences."""
        return F.total_variation(picture, self.norm, below, self.wrap)

    def forward(self, statistics: Tensor, values: int) -> Tensor:
        """Returns the summed differences over the number of values N·3·H·W, a scalar."""
        return statistics / values


class Objective(nn.Module):
    """The weighted sum of content, style and smoothness.

    Args:
        content_layers: Weight of each content layer; they are scaled to sum to 1.
        style_layers: Weight of each style layer; they are scaled to sum to 1.
        content_weight: Weight of the content term.
        style_weight: Weight of the style term.
        tv_weight: Weight of the total variation.
        normalization: `relative` or `gatys`.
        tv_norm: `l1` or `l2`.
        style_distance: `frobenius`, `wasserstein` or `mean_std`.
        wrap: Whether opposite borders are neighbours for the total variation.

    Raises:
        InputError: If a weight is negative or not finite, or nothing has a weight.
    """

    def __init__(
        self,
        content_layers: Mapping[str, float],
        style_layers: Mapping[str, float],
        content_weight: float = 1.0,
        style_weight: float = 10.0,
        tv_weight: float = 0.0,
        normalization: Normalization = "relative",
        tv_norm: Norm = "l1",
        style_distance: Distance = "frobenius",
        wrap: bool = False,
    ) -> None:
        super().__init__()
        weights = {"content_weight": content_weight, "style_weight": style_weight, "tv_weight": tv_weight}
        for key, weight in weights.items():
            _check_weight(f"model.{key}", weight)
        self.weights = {
            **_shares("content", content_layers, content_weight),
            **_shares("style", style_layers, style_weight),
        }
        if not self.weights:
            raise InputError(
                "Expected a content or a style layer with a weight above 0, but got none; "
                "raise --model.content_weight or --model.style_weight"
            )
        self.content = nn.ModuleDict({x: ContentLoss(normalization) for x in self._layers("content")})
        self.style = nn.ModuleDict({x: StyleLoss(normalization, style_distance) for x in self._layers("style")})
        self.smoothness = TotalVariationLoss(tv_norm, wrap)
        if tv_weight > 0:
            self.weights["tv"] = tv_weight

    def _layers(self, kind: str) -> list[str]:
        return [name.partition("/")[2] for name in self.weights if name.startswith(f"{kind}/")]

    @property
    def layers(self) -> set[str]:
        """Names of the layers that the losses look at."""
        return {*self.content, *self.style}

    def aim(self, content: Mapping[str, Tensor], style: Mapping[str, Moments]) -> None:
        """Sets the targets: the photograph's activations and the painting's moments, by layer name."""
        for layer, loss in self.content.items():
            loss.aim(content[layer])  # type: ignore[operator]  # a ModuleDict forgets its values' type
        for layer, loss in self.style.items():
            loss.aim(style[layer])  # type: ignore[operator]

    def looking_at(self, layer: str) -> dict[str, ContentLoss | StyleLoss]:
        """Returns the losses that look at a layer, by the name of their term."""
        kinds = {"content": self.content, "style": self.style}
        return {f"{kind}/{layer}": losses[layer] for kind, losses in kinds.items() if layer in losses}  # type: ignore[misc]

    def forward(self, statistics: Statistics, picture: Tensor) -> dict[str, Tensor]:
        """Evaluates every term.

        Args:
            statistics: Those of the picture's features and of the picture, by the name of the term.
            picture: The picture, (1, 3, H, W).

        Returns:
            The unweighted terms by name (`content/relu4_2`, `style/relu1_1`, ..., `tv`), scalars.
        """
        terms = {f"content/{x}": loss(statistics[f"content/{x}"]) for x, loss in self.content.items()}
        terms |= {f"style/{x}": loss(statistics[f"style/{x}"]) for x, loss in self.style.items()}
        if "tv" in self.weights:
            terms["tv"] = self.smoothness(statistics["tv"], picture.numel())
        return terms

    def total(self, terms: Mapping[str, Tensor], kind: str = "") -> Tensor:
        """Sums the weighted terms whose name starts with `kind` (all of them by default), a scalar."""
        weighted = [self.weights[name] * term for name, term in terms.items() if name.startswith(kind)]
        return torch.stack(weighted).sum() if weighted else torch.zeros(())


def _check_weight(key: str, weight: float) -> None:
    if not (math.isfinite(weight) and weight >= 0):
        raise InputError(f"Expected a finite weight of 0 or more, but got {weight}; change --{key}")


def _shares(kind: str, layers: Mapping[str, float], weight: float) -> dict[str, float]:
    """Splits a term's weight over its layers in proportion to theirs; a share of 0 is left out."""
    for layer, share in layers.items():
        _check_weight(f"model.{kind}_layers.{layer}", share)
    total = sum(layers.values())
    if weight == 0 or total == 0:
        return {}
    return {f"{kind}/{layer}": weight * share / total for layer, share in layers.items() if share > 0}
