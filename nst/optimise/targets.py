"""Gives terms the activations of a level's photograph and the statistics of its paintings, each computed once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

from torch import Tensor

from nst.losses.distance import StyleDistance
from nst.losses.objective import Objective
from nst.losses.statistics import Gatherer, Pooled
from nst.network.features import Features
from nst.pictures.geometry import extend
from nst.scene.levels import Level, Painting

StyleCache = deque[tuple[bytes, dict[str, Pooled]]]
"""Recent paintings: a digest of the painting and the style distances, and the painting's statistics by layer."""


class LevelScan:
    """The `objective.Scan` of a level's pictures, which adds the picture's margin to the photograph and its masks.

    Args:
        features: The feature extractor.
        scanner: Runs the feature extractor on pictures.
        bleed: Width of the picture's margin, in pixels.
        cache: Statistics of earlier paintings; the statistics of new paintings are added.
    """

    def __init__(self, features: Features, scanner: Gatherer, bleed: int, cache: StyleCache) -> None:
        self.features, self.scanner, self.bleed, self.cache = features, scanner, bleed, cache

    def activations(self, picture: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        return self.scanner.activations(self.extended(picture), layers)

    def cells(self, picture: Tensor, axes: Mapping[str, Tensor], size: int) -> Tensor:
        return self.scanner.cells(picture.to(self.features.mean.device), axes, size)

    def stride(self, layer: str) -> int:
        return self.features.stride(layer)

    def shape(self, layer: str, height: int, width: int) -> tuple[int, int, int]:
        return self.features.shape(layer, height, width)

    def painting(self, picture: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        return self.scanner.activations(picture.to(self.features.mean.device), layers, whole=True)

    def own(self, layer: str, height: int) -> slice:
        return self.scanner.own(layer, height)

    def total(self, value: Tensor) -> Tensor:
        return self.scanner.total(value)

    def statistics(self, painting: Painting, distances: Mapping[str, StyleDistance[Any]]) -> dict[str, Pooled]:
        digest = _digest(painting, distances)
        for cached, statistics in self.cache:
            if cached == digest:
                return statistics
        device, guides = self.features.mean.device, None
        if painting.guide is not None:
            guides = self.features.spread(painting.guide.to(device), distances)
        found = self.scanner.sums(painting.picture.to(device), distances, guides)
        self.cache.append((digest, found))
        return found

    def spread(self, weights: Tensor | None, layers: Iterable[str], erode: bool = False) -> Mapping[str, Tensor | None]:
        if weights is None:
            return dict.fromkeys(layers)
        extended = self.extended(weights)
        found = self.features.spread(extended, layers, erode)
        return {layer: x[:, :, self.own(layer, extended.shape[2])] for layer, x in found.items()}

    def extended(self, image: Tensor) -> Tensor:
        return extend(image.to(self.features.mean.device), self.bleed)


def check_levels(levels: Sequence[Level], features: Features, objective: Objective) -> None:
    """Raises an InputError if a picture of a level is too small for the network, or the levels do not suit a term."""
    for level in [*levels, *(level.coarse for level in levels[-1:] if level.coarse)]:
        features.check_size(level.height, level.width, "photograph")
        for painting in level.paintings:
            features.check_size(painting.picture.shape[2], painting.picture.shape[3], "painting")
    objective.check(levels[0])


def _digest(painting: Painting, distances: Mapping[str, StyleDistance[Any]]) -> bytes:
    digest = sha256(repr([(layer, type(distance)) for layer, distance in distances.items()]).encode())
    for image in (painting.picture, painting.guide):
        if image is not None:
            digest.update(repr(image.shape).encode())
            digest.update(image.contiguous().numpy().data)
    return digest.digest()
