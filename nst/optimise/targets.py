"""What a level's picture is compared with: the photograph's activations and the paintings' moments."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from hashlib import sha256

import torch
from torch import Tensor

from nst.errors import InputError
from nst.losses import functional as F
from nst.losses.functional import Moments
from nst.losses.losses import ContentTarget, Objective, StyleTarget
from nst.network.features import Features
from nst.pictures.geometry import extend
from nst.scene.levels import Level, Painting
from nst.streaming.scanner import Eye

Known = deque[tuple[bytes, dict[str, Moments]]]
"""Digests of the paintings of late, and their moments by layer."""


class Targets:
    """Finds the targets of levels.

    Args:
        features: The network.
        objective: What the activations are compared by.
        eye: What looks at the pictures.
        bleed: Width of the picture's margin, in pixels.
        known: Paintings that were looked at before; those looked at are added.
    """

    def __init__(self, features: Features, objective: Objective, eye: Eye, bleed: int, known: Known) -> None:
        self.features, self.objective, self.eye, self.bleed, self.known = features, objective, eye, bleed, known

    @torch.no_grad()
    def aim(self, level: Level) -> None:
        """Sets the objective's targets to those of a level."""
        self.objective.aim(self._content(level), self._style(level))

    def _content(self, level: Level) -> dict[str, ContentTarget]:
        layers = list(self.objective.content)
        activations = self.eye.activations(self._extended(level.content), layers)
        weights = level.visible
        if level.emphasis is not None:
            weights = level.emphasis if weights is None else level.emphasis * weights
        weighted, visible = (self._spread(x, layers) for x in (weights, level.visible))
        return {layer: ContentTarget(x, weighted[layer], visible[layer]) for layer, x in activations.items()}

    def _style(self, level: Level) -> dict[str, list[StyleTarget]]:
        layers = list(self.objective.style)
        found: dict[str, list[StyleTarget]] = {layer: [] for layer in layers}
        for place in level.places:
            guides = self._spread(place.guide, layers, place.erode)
            looks = [(painting, self.moments(painting)) for painting in place.paintings]
            for layer in layers:
                parts = [(p.weight, x[layer]) for p, x in looks if p.layers is None or layer in p.layers]
                # a part of a painting that is too small for a layer to see has no style there
                parts = [(weight, x) for weight, x in parts if x.positions > 0]
                guide = guides[layer]
                if parts and (guide is None or guide.any()):
                    total = sum(weight for weight, _ in parts)
                    moments = F.blend([x for _, x in parts], [weight / total for weight, _ in parts])
                    found[layer].append(StyleTarget(moments, guide, place.share))
        return found

    def moments(self, painting: Painting) -> dict[str, Moments]:
        """Returns a painting's moments by style layer; those of late are remembered."""
        digest = _digest(painting)
        for known, moments in self.known:
            if known == digest:
                return moments
        device = self.features.mean.device
        guides = None
        if painting.guide is not None:
            guides = self.features.spread(painting.guide.to(device), self.objective.style)
        moments = self.eye.moments(painting.picture.to(device), self.objective.style, guides)
        self.known.append((digest, moments))
        return moments

    def _spread(
        self, weights: Tensor | None, layers: Sequence[str], erode: bool = False
    ) -> Mapping[str, Tensor | None]:
        """Brings weights of the picture's pixels to layers; None stays None."""
        if weights is None:
            return dict.fromkeys(layers)
        return self.features.spread(self._extended(weights), layers, erode)

    def _extended(self, image: Tensor) -> Tensor:
        return extend(image.to(self.features.mean.device), self.bleed)


def check_levels(levels: Sequence[Level], features: Features, objective: Objective) -> None:
    """Raises an InputError unless the network and the objective can work with what there is at every level.

    The network may be too deep for a picture, and the styles' layers have to be those that are compared, all of them.
    """
    for level in [*levels, *(level.afar for level in levels[-1:] if level.afar)]:
        features.check_size(level.height, level.width, "photograph")
        for painting in level.paintings:
            features.check_size(painting.picture.shape[2], painting.picture.shape[3], "painting")
    compared, level = list(objective.style), levels[0]
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


def _digest(painting: Painting) -> bytes:
    digest = sha256()
    for image in (painting.picture, painting.guide):
        if image is not None:
            digest.update(repr(image.shape).encode())
            digest.update(image.contiguous().numpy().data)
    return digest.digest()
