"""The style term: the statistics of the picture's activations against the paintings', in each place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nst.errors import InputError
from nst.losses.distance import Normalization, StyleDistance
from nst.losses.layers import StyleLoss, StyleTarget
from nst.losses.objective import FeatureTerm, Scan, shares
from nst.scene.levels import Level


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
                if parts and (guide is None or scan.total(guide.sum()) > 0):
                    total = sum(weight for weight, _ in parts)
                    mixed = loss.distance.blend([x for _, x in parts], [weight / total for weight, _ in parts])
                    found[layer].append(StyleTarget(mixed, guide, place.share))
        for layer, loss in self.style.items():
            loss.set_targets(found[layer])
