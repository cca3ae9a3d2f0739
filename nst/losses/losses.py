"""Losses as modules that hold their targets, and the objective that weighs them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nst.errors import InputError, check_choice
from nst.losses import functional as F
from nst.losses.functional import Distance, Moments, Norm, Normalization

ALL = slice(None)
"""All rows of the picture."""

SEAM = 1e-4
"""Weight of a tiling picture's seam over that of all other terms. Without it the seam is a line like its neighbours, of
0.9 to 1.4 times the picture's mean gradient energy, and with it 0.5 to 0.8; ten times as much shows as a line."""

Statistics = Mapping[str, Tensor | Moments]
"""What the features of a picture add up to, by the name of the term."""


class StyleTarget(NamedTuple):
    """What a part of a layer's positions is compared with.

    Attributes:
        moments: The style's.
        guide: Weights of the positions, (1, 1, h, w); None for 1 everywhere.
        share: Weight of the part's distance.
    """

    moments: Moments
    guide: Tensor | None = None
    share: float = 1.0


class ContentTarget(NamedTuple):
    """What a layer's activations are compared with.

    Attributes:
        features: The photograph's, (N, C, h, w).
        weights: Weights of the positions in the error, (N, 1, h, w); None for 1 everywhere.
        visible: Weights of the positions in the photograph's energy, likewise.
    """

    features: Tensor
    weights: Tensor | None = None
    visible: Tensor | None = None


class StyleLoss(nn.Module):
    """Distance of a layer's moments from the style's; where there are several places, the sum of theirs by share.

    Args:
        normalization: `relative` or `gatys`, which is a scale of the Frobenius distance alone.
        distance: `frobenius` (`functional.gram_distance`), `wasserstein` or `mean_std`.

    Raises:
        InputError: If there is no such normalisation or distance.
    """

    def __init__(self, normalization: Normalization = "relative", distance: Distance = "frobenius") -> None:
        super().__init__()
        check_choice("model.normalization", normalization, Normalization)
        check_choice("model.style_distance", distance, Distance)
        self.normalization: Normalization = normalization
        self.distance: Distance = distance
        self.targets: list[StyleTarget] = []
        self.roots: list[Tensor | None] = []

    def aim(self, targets: Sequence[StyleTarget]) -> None:
        """Sets the targets, one for each place."""
        self.targets = [target._replace(moments=Moments(*(x.detach() for x in target.moments))) for target in targets]
        wanted = self.distance == "wasserstein"
        self.roots = [F.factor(target.moments.covariance) if wanted else None for target in self.targets]

    def moments(self, features: Tensor, guide: Tensor | None = None) -> Moments:
        """Returns the moments of features, (N, C, H, W), that the distance looks at."""
        return F.moments(features, self.distance != "frobenius", guide)

    def statistics(self, features: Tensor, rows: slice = ALL) -> Moments:
        """Returns what features, (N, C, H, W), of some rows of the picture's add to the statistics, place by place."""
        if not self.targets:  # as of a region that is too small for a deep layer
            return Moments(*(features.new_zeros(0) for _ in Moments._fields))
        parts = [self.moments(features, _rows(target.guide, rows)) for target in self.targets]
        return Moments(*(torch.stack(field) for field in zip(*parts, strict=True)))

    def add_gradient(self, gradient: Tensor, features: Tensor, cotangent: Moments, rows: slice = ALL) -> None:
        """Adds the gradient of the features, given that of the statistics (None for 0), in place."""
        for i, target in enumerate(self.targets):
            outer, total = (None if x is None else x[i] for x in (cotangent.outer, cotangent.total))
            F.add_moments_gradient(gradient, features, outer, total, _rows(target.guide, rows))

    def forward(self, statistics: Moments) -> Tensor:
        """Returns the distance of the summed statistics from the targets, a scalar."""
        places = zip(*statistics, self.targets, self.roots, strict=True)
        distances = [
            target.share * self._distance(Moments(*found), target.moments, root) for *found, target, root in places
        ]
        return torch.stack(distances).sum() if distances else statistics.positions.sum()

    def _distance(self, statistics: Moments, target: Moments, root: Tensor | None) -> Tensor:
        if self.distance == "wasserstein":
            return F.wasserstein_distance(statistics, target, root)
        if self.distance == "mean_std":
            return F.mean_std_distance(statistics, target)
        assert self.distance == "frobenius"
        return F.gram_distance(statistics, target, self.normalization)


class ContentLoss(nn.Module):
    """Distance of a layer's activations from the photograph's (see `functional.content_distance`).

    Args:
        normalization: `relative` or `gatys`.

    Raises:
        InputError: If there is no such normalisation.
    """

    target: ContentTarget
    energy: Tensor

    def __init__(self, normalization: Normalization = "relative") -> None:
        super().__init__()
        check_choice("model.normalization", normalization, Normalization)
        self.normalization: Normalization = normalization

    def aim(self, target: ContentTarget) -> None:
        """Sets the photograph's activations as the target."""
        features = target.features.detach()
        self.target = target._replace(features=features)
        zero = features.new_zeros(()).expand_as(features)
        self.energy = F.scale(F.squared_error(features, zero, target.visible), features.numel())

    def statistics(self, features: Tensor, rows: slice = ALL) -> Tensor:
        """Returns what activations, (N, C, H, W), of some rows of the picture's add to the squared error."""
        return F.squared_error(features, self.target.features[:, :, rows], _rows(self.target.weights, rows))

    def add_gradient(self, gradient: Tensor, features: Tensor, cotangent: Tensor, rows: slice = ALL) -> None:
        """Adds the gradient of the features, given that of the statistics, in place."""
        target, weights, _ = self.target
        F.add_squared_error_gradient(gradient, features, target[:, :, rows], cotangent, _rows(weights, rows))

    def forward(self, statistics: Tensor) -> Tensor:
        """Returns the distance for a summed squared error, a scalar."""
        return F.content_distance(statistics, self.energy, self.normalization)


class TotalVariationLoss(nn.Module):
    """Mean difference between neighbouring pixels (see `functional.total_variation`).

    Args:
        norm: `l1` or `l2`.
        wrap: Whether opposite borders are neighbours.

    Raises:
        InputError: If there is no such norm.
    """

    def __init__(self, norm: Norm = "l1", wrap: bool = False) -> None:
        super().__init__()
        check_choice("model.tv_norm", norm, Norm)
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
        wrap: Whether opposite borders are neighbours: for the total variation, and in a term of its own that keeps the
            seam no rougher than the picture.

    Raises:
        InputError: If a weight is negative or not finite, nothing has a weight, or a name is unknown.
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
        check_choice("model.normalization", normalization, Normalization)
        check_choice("model.style_distance", style_distance, Distance)
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
        # plain dictionaries: the losses have no parameters, and their targets belong to no checkpoint
        self.content = {x: ContentLoss(normalization) for x in self._layers("content")}
        self.style = {x: StyleLoss(normalization, style_distance) for x in self._layers("style")}
        self.smoothness = TotalVariationLoss(tv_norm, wrap)
        if tv_weight > 0:
            self.weights["tv"] = tv_weight
        if wrap:
            self.weights["seam"] = SEAM * sum(self.weights.values())

    def _layers(self, kind: str) -> list[str]:
        return [name.partition("/")[2] for name in self.weights if name.startswith(f"{kind}/")]

    @property
    def layers(self) -> set[str]:
        """Names of the layers that the losses look at."""
        return {*self.content, *self.style}

    def aim(self, content: Mapping[str, ContentTarget], style: Mapping[str, Sequence[StyleTarget]]) -> None:
        """Sets the targets by layer name."""
        for layer, loss in self.content.items():
            loss.aim(content[layer])
        for layer, compared in self.style.items():
            compared.aim(style[layer])

    def looking_at(self, layer: str) -> dict[str, ContentLoss | StyleLoss]:
        """Returns the losses that look at a layer, by the name of their term."""
        found: dict[str, ContentLoss | StyleLoss] = {}
        if layer in self.content:
            found[f"content/{layer}"] = self.content[layer]
        if layer in self.style:
            found[f"style/{layer}"] = self.style[layer]
        return found

    def forward(self, statistics: Statistics, picture: Tensor) -> dict[str, Tensor]:
        """Evaluates every term.

        Args:
            statistics: Those of the picture's features and of the picture, by the name of the term.
            picture: The picture, (1, 3, H, W).

        Returns:
            The unweighted terms by name (`content/relu4_2`, `style/relu1_1`, ..., `tv`, `seam`), scalars.
        """
        terms = {f"content/{x}": loss(statistics[f"content/{x}"]) for x, loss in self.content.items()}
        terms |= {f"style/{x}": loss(statistics[f"style/{x}"]) for x, loss in self.style.items()}
        if "tv" in self.weights:
            terms["tv"] = self.smoothness(statistics["tv"], picture.numel())
        if "seam" in self.weights:
            terms["seam"] = F.seam_excess(picture)
        return terms

    def total(self, terms: Mapping[str, Tensor], kind: str = "") -> Tensor:
        """Sums the weighted terms whose name starts with `kind` (all of them by default), a scalar."""
        weighted = [self.weights[name] * term for name, term in terms.items() if name.startswith(kind)]
        return torch.stack(weighted).sum() if weighted else torch.zeros(())


def _rows(weights: Tensor | None, rows: slice) -> Tensor | None:
    return None if weights is None else weights[:, :, rows]


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
