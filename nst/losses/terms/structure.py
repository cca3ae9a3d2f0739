"""The structure term: which places of the picture are like each other, against the photograph's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor

from nst.losses.layers import EPSILON, Total
from nst.losses.objective import ALL, FeatureTerm, LayerLoss, Scan, shares
from nst.losses.statistics import Value
from nst.machine.numerics import plain
from nst.scene.levels import Level
from nst.scene.subject import subject

GRID = 32
"""Rows and columns of places that are compared."""


class StructureTerm(FeatureTerm):
    """Distance of the picture's self-similarities from the photograph's: what was alike is to stay alike.

    It leaves colours and textures free where content features do not. A pair of places weighs by how much of a subject
    both are (see `scene.subject`): a sky that was alike everywhere may get swirls.

    Args:
        layers: Weight of each layer; the weights are scaled to sum to 1.
        weight: Weight of the term.

    Raises:
        InputError: If a weight is negative or not finite.
    """

    name = "structure"
    flag = "--model.structure_weight"

    def __init__(self, layers: Mapping[str, float], weight: float) -> None:
        found = shares(self.name, layers, weight)
        self.structure = {layer: StructureLoss() for layer in found}
        super().__init__(self.structure, found)

    def set_targets(self, level: Level, scan: Scan) -> None:
        activations = scan.activations(level.content, self.losses)
        visible, shown = (scan.spread(x, self.losses) for x in (level.visible, subject(level)))
        height, width = scan.extended(level.content).shape[2:]
        for layer, loss in self.structure.items():
            place = scan.own(layer, height), scan.shape(layer, height, width)[1]
            loss.set_target(activations[layer], visible[layer], shown[layer], place, scan.total)


class StructureLoss(LayerLoss):
    """Mean absolute difference of the cosines between all pairs of places, about the mean over places, from a target's.

    Places are the means over the cells of a grid of 32 by 32, or of as many rows and columns as a layer has.

    Source:
        Kolkin et al., "Style Transfer by Relaxed Optimal Transport and Self-Similarity", arXiv:1904.12785, equation 8.
        We take cosines about the mean, which leave out what all places share, and do not normalise rows.
    """

    target: Tensor
    visible: Tensor | None
    over_rows: Tensor
    over_columns: Tensor
    total: Tensor
    seen: Tensor
    pairs: Tensor

    def set_target(
        self,
        target: Tensor,
        visible: Tensor | None = None,
        weights: Tensor | None = None,
        place: tuple[slice, int] | None = None,
        total: Total = lambda value: value,
    ) -> None:
        """Sets the target.

        Args:
            target: Activations, (1, C, h, w).
            visible: Weights of the positions in the mean of a place, (1, 1, h, w); None for 1 everywhere.
            weights: Weights of the places, as the mean weights of positions, (1, 1, h, w); None for 1 everywhere.
            place: Which rows the target has, and of how many; None where it has all.
            total: Sums over the processes that have the other rows.
        """
        wide = target.to(torch.promote_types(target.dtype, torch.float32))
        own, height = place or (ALL, target.shape[2])
        self.over_rows, self.over_columns = _means(height)[:, own].to(wide), _means(target.shape[3]).to(wide)
        self.visible = visible
        ones = torch.ones_like(wide[:, :1])
        with plain(wide.device):
            self.total = total(self._pooled(ones if visible is None else visible.to(wide)))
            self.seen = (self.total.flatten() > 0).nonzero()[:, 0]
            weight = total(self._pooled(ones if weights is None else weights.to(wide))).flatten()[self.seen]
            self.pairs = weight[:, None] * weight / len(weight) ** 2
            self.target = self._similarities(total(self.statistics(wide).value))

    def statistics(self, features: Tensor, rows: slice = ALL) -> Value:
        wide = features.to(self.over_rows.dtype)
        return Value(self._pooled(wide if self.visible is None else wide * self.visible[:, :, rows], rows))

    def add_gradient(self, gradient: Tensor, features: Tensor, cotangent: Any, rows: slice = ALL) -> None:
        found = self.over_rows[:, rows].T @ cotangent.value @ self.over_columns
        gradient += (found if self.visible is None else found * self.visible[:, :, rows]).to(gradient.dtype)

    def value(self, statistics: Value) -> Tensor:
        with plain(statistics.value.device):
            return ((self._similarities(statistics.value) - self.target).abs() * self.pairs).sum()

    def _pooled(self, features: Tensor, rows: slice = ALL) -> Tensor:
        """Returns the sums of the means' shares of some rows, (1, C, GRID, GRID) or less."""
        return self.over_rows[:, rows] @ features @ self.over_columns.T

    def _similarities(self, sums: Tensor) -> Tensor:
        places = (sums / self.total.clamp(min=1e-12))[0].flatten(1)[:, self.seen]
        places = places - places.mean(1, keepdim=True)
        places = places / (places.square().sum(0) + EPSILON).sqrt()
        return places.T @ places


def _means(size: int) -> Tensor:
    """Returns the weights, (GRID or fewer, size), that take means over equal parts of a row or a column."""
    identity = torch.eye(size, dtype=torch.float64)[None]
    return nnf.interpolate(identity, min(GRID, size), mode="area")[0].T
