"""The terms that come with nst: content, style, total variation, and the seam of a picture that tiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from nst.errors import InputError, check_choice
from nst.losses import functional as F
from nst.losses.correspondence import CorrespondenceTerm
from nst.losses.distance import Normalization, StyleDistance
from nst.losses.functional import Norm
from nst.losses.layers import ContentLoss, ContentTarget, StyleLoss, StyleTarget
from nst.losses.objective import FeatureTerm, PixelTerm, Scan, Term, shares
from nst.losses.statistics import Value
from nst.scene.levels import Level

SEAM = 1e-4
"""Weight of the seam term over the sum of all other weights. Without the term, the seam is like any line, with
0.9 to 1.4 times the picture's mean gradient energy, and with the term it has 0.5 to 0.8 times; ten times the weight
makes the seam show as a line."""


class ContentTerm(FeatureTerm):
    """Distance of the picture's activations from the photograph's activations.

    Args:
        layers: Weight of each layer; the weights are scaled to sum to 1.
        weight: Weight of the term.
        normalization: `relative` or `gatys`.

    Raises:
        InputError: If a weight is negative or not finite, or the normalisation is unknown.
    """

    name = "content"
    flag = "--model.content_weight"

    def __init__(
        self, layers: Mapping[str, float], weight: float = 1.0, normalization: Normalization = "relative"
    ) -> None:
        check_choice("model.normalization", normalization, Normalization)
        found = shares(self.name, layers, weight)
        self.content = {layer: ContentLoss(normalization) for layer in found}
        super().__init__(self.content, found)
        self.keeps = tuple(found)

    def set_targets(self, level: Level, scan: Scan) -> None:
        activations = scan.activations(level.content, self.losses)
        weights = level.visible
        if level.emphasis is not None:
            weights = level.emphasis if weights is None else level.emphasis * weights
        weighted, visible = (scan.spread(x, self.losses) for x in (weights, level.visible))
        for layer, loss in self.content.items():
            loss.set_target(ContentTarget(activations[layer], weighted[layer], visible[layer]))


class StyleTerm(FeatureTerm):
    """Distance of the statistics of the picture's activations from the statistics of the paintings, in each place.

    Args:
        layers: Weight of each layer; the weights are scaled to sum to 1.
        weight: Weight of the term.
        normalization: `relative` or `gatys`.
        distance: The name of a style distance.

    Raises:
        InputError: If a weight is negative or not finite, or the normalisation or the distance is unknown.
    """

    name = "style"
    flag = "--model.style_weight"

    def __init__(
        self,
        layers: Mapping[str, float],
        weight: float = 10.0,
        normalization: Normalization = "relative",
        distance: str = "frobenius",
    ) -> None:
        StyleLoss(normalization, distance)  # refuses unknown names, also where no layer has a weight
        found = shares(self.name, layers, weight)
        self.style = {layer: StyleLoss(normalization, distance) for layer in found}
        super().__init__(self.style, found)

    @property
    def distances(self) -> dict[str, StyleDistance[Any]]:
        """The style distances by layer."""
        return {layer: loss.distance for layer, loss in self.style.items()}

    def check(self, level: Level) -> None:
        """Raises an InputError if a painting is for a layer without a weight, or a weighted layer has no painting."""
        compared = [*self.style]
        for layer in {layer for painting in level.paintings for layer in painting.layers or ()}:
            if layer not in compared:
                raise InputError(
                    f"Expected the layers of a style to be among {', '.join(compared)}, but got {layer}; change the "
                    "entry's layers in --data.style, or give the layer a weight in --model.style_layers"
                )
        for layer in compared:
            if all(painting.layers is not None and layer not in painting.layers for painting in level.paintings):
                raise InputError(
                    f"Expected each style layer to have a style, but {layer} has none; name it among the layers of an "
                    "entry of --data.style, or give it no weight in --model.style_layers"
                )

    def set_targets(self, level: Level, scan: Scan) -> None:
        found: dict[str, list[StyleTarget]] = {layer: [] for layer in self.style}
        for place in level.places:
            guides = scan.spread(place.guide, self.style, place.erode)
            looks = [(painting, scan.statistics(painting, self.distances)) for painting in place.paintings]
            for layer, loss in self.style.items():
                parts = [(p.weight, x[layer]) for p, x in looks if p.layers is None or layer in p.layers]
                # a part of a painting that is too small for a layer has no position, and so no style, there
                parts = [(weight, x) for weight, x in parts if x.positions > 0]
                guide = guides[layer]
                if parts and (guide is None or guide.any()):
                    total = sum(weight for weight, _ in parts)
                    mixed = loss.distance.blend([x for _, x in parts], [weight / total for weight, _ in parts])
                    found[layer].append(StyleTarget(mixed, guide, place.share))
        for layer, loss in self.style.items():
            loss.set_targets(found[layer])


class TotalVariation(PixelTerm):
    """Mean difference between neighbouring pixels (see `functional.total_variation`).

    Args:
        weight: Weight of the term.
        norm: `l1` or `l2`.
        wrap: Whether opposite borders are neighbours.

    Raises:
        InputError: If the weight is negative or not finite, or the norm is unknown.
    """

    name = "tv"
    flag = "--model.tv_weight"

    def __init__(self, weight: float, norm: Norm = "l1", wrap: bool = False) -> None:
        check_choice("model.tv_norm", norm, Norm)
        super().__init__(weight)
        self.norm: Norm = norm
        self.wrap = wrap

    def pixel_statistics(self, rows: Tensor, below: Tensor, last: bool) -> Value:
        return Value(F.total_variation(rows, self.norm, None if last and not self.wrap else below, self.wrap))

    def values(self, statistics: Mapping[str, Any], picture: Tensor) -> dict[str, Tensor]:
        return {self.name: statistics[self.name].value / picture.numel()}


class Seam(PixelTerm):
    """Keeps the seam of a picture that tiles no rougher than the rest of it (see `functional.seam_excess`)."""

    name = "seam"
    flag = "the weights"

    def pixel_statistics(self, rows: Tensor, below: Tensor, last: bool) -> F.SeamSums:
        return F.seam_sums(rows, below, last)

    def values(self, statistics: Mapping[str, Any], picture: Tensor) -> dict[str, Tensor]:
        return {self.name: F.seam_excess(statistics[self.name], *picture.shape[2:])}


def standard_terms(
    content_layers: Mapping[str, float],
    style_layers: Mapping[str, float],
    content_weight: float = 1.0,
    style_weight: float = 10.0,
    tv_weight: float = 0.0,
    normalization: Normalization = "relative",
    tv_norm: Norm = "l1",
    style_distance: str = "frobenius",
    wrap: bool = False,
    correspondence_layers: Mapping[str, float] | None = None,
    correspondence_weight: float = 0.0,
) -> list[Term]:
    """Returns the terms of the paper, and of its successors, by their settings.

    Args:
        content_layers: Weight of each content layer; the weights are scaled to sum to 1.
        style_layers: Weight of each style layer; the weights are scaled to sum to 1.
        content_weight: Weight of the content term.
        style_weight: Weight of the style term.
        tv_weight: Weight of the total variation.
        normalization: `relative` or `gatys`.
        tv_norm: `l1` or `l2`.
        style_distance: The name of a style distance.
        wrap: Whether the picture tiles: opposite borders are then neighbours in the total variation, and a Seam is
            added.

    Raises:
        InputError: If a weight is negative or not finite, or a name is unknown.
    """
    terms: list[Term] = [
        ContentTerm(content_layers, content_weight, normalization),
        StyleTerm(style_layers, style_weight, normalization, style_distance),
        CorrespondenceTerm(correspondence_layers or {}, correspondence_weight),
        TotalVariation(tv_weight, tv_norm, wrap),
    ]
    if wrap:
        terms.append(Seam(SEAM * sum(weight for term in terms for weight in term.weights.values())))
    return terms
