"""The content term: the picture's activations against the photograph's."""

from __future__ import annotations

from collections.abc import Mapping

from nst.errors import check_choice
from nst.losses.distance import Normalization
from nst.losses.layers import ContentLoss, ContentTarget
from nst.losses.objective import FeatureTerm, Scan, shares
from nst.scene.levels import Level


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
            loss.set_target(ContentTarget(activations[layer], weighted[layer], visible[layer]), scan.total)
