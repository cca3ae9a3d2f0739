"""The losses of one layer's activations, content, style and cosine; each loss holds its target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from nst.errors import check_choice
from nst.losses import distances as distances  # the import fills DISTANCES
from nst.losses import functional as F
from nst.losses.distance import DISTANCES, Normalization
from nst.losses.objective import ALL, LayerLoss
from nst.losses.statistics import Places, Pooled, Statistics, Value

Total = Callable[[Tensor], Tensor]
"""Returns the sum of a tensor over the processes that make a picture together."""

EPSILON = 1e-4
"""Squared length below which a feature vector has no direction."""

if TYPE_CHECKING:
    Distance = str
else:
    Distance = Literal[tuple(DISTANCES)]
    """The names of the style distances, as a type that the command line can offer."""


def described() -> str:
    """Returns what each style distance compares, for the command line's help."""
    lines = {name: (kind.__doc__ or "").partition("\n")[0].rstrip(".") for name, kind in DISTANCES.items()}
    return "; ".join(f"`{name}`, {line[:1].lower()}{line[1:]}" for name, line in lines.items())


@dataclass(frozen=True)
class StyleTarget:
    """The style target of one place, a part of a layer's positions.

    Attributes:
        statistics: Statistics of the style image, or of the mixture of several.
        guide: Weights of the positions, the place's mask, (1, 1, h, w); None for 1 everywhere.
        share: Weight of the place's distance.
    """

    statistics: Pooled
    guide: Tensor | None = None
    share: float = 1.0


@dataclass(frozen=True)
class ContentTarget:
    """The content target of a layer.

    Attributes:
        features: The photograph's activations, (N, C, h, w).
        weights: Weights of the positions in the squared error, (N, 1, h, w); None for 1 everywhere.
        visible: Weights of the positions in the photograph's energy, (N, 1, h, w); None for 1 everywhere.
    """

    features: Tensor
    weights: Tensor | None = None
    visible: Tensor | None = None


class StyleLoss(LayerLoss):
    """Distance of a layer's statistics from its style target; with several places, their distances summed by share.

    Args:
        normalization: `relative` or `gatys`.
        distance: The name of a style distance.

    Raises:
        InputError: If the normalisation or the distance is unknown.
    """

    def __init__(self, normalization: Normalization = "relative", distance: str = "frobenius") -> None:
        check_choice("model.style_distance", distance, DISTANCES)
        self.distance = DISTANCES[distance](normalization)
        self.targets: list[StyleTarget] = []
        self.prepared: list[Any] = []

    def set_targets(self, targets: Sequence[StyleTarget]) -> None:
        """Sets the targets, one for each place."""
        self.targets = list(targets)
        self.prepared = [self.distance.prepare(target.statistics) for target in targets]

    def statistics(self, features: Tensor, rows: slice = ALL) -> Statistics:
        if not self.targets:  # such as a region that is too small for a deep layer
            return Value(features.new_zeros(0))
        return Places(tuple(self.distance.statistics(features, _rows(x.guide, rows)) for x in self.targets))

    def add_gradient(self, gradient: Tensor, features: Tensor, cotangent: Any, rows: slice = ALL) -> None:
        for target, part in zip(self.targets, cotangent.parts if self.targets else (), strict=True):
            self.distance.add_gradient(gradient, features, part, _rows(target.guide, rows))

    def value(self, statistics: Any) -> Tensor:
        if not self.targets:
            return torch.as_tensor(statistics.value.sum())
        parts = zip(self.targets, statistics.parts, self.prepared, strict=True)
        return torch.stack([x.share * self.distance.distance(part, wanted) for x, part, wanted in parts]).sum()


class ContentLoss(LayerLoss):
    """Distance of a layer's activations from the photograph's (see `content_distance`).

    Args:
        normalization: `relative` or `gatys`.

    Raises:
        InputError: If the normalisation is unknown.
    """

    target: ContentTarget
    energy: Tensor

    def __init__(self, normalization: Normalization = "relative") -> None:
        check_choice("model.normalization", normalization, Normalization)
        self.normalization: Normalization = normalization

    def set_target(self, target: ContentTarget, total: Total = lambda value: value) -> None:
        """Sets the photograph's activations as the target; `total` sums over the processes that share them."""
        self.target = target
        zero = target.features.new_zeros(()).expand_as(target.features)
        energy = total(F.squared_error(target.features, zero, target.visible))
        self.energy = F.scale(energy, total(energy.new_full((), target.features.numel())))

    def statistics(self, features: Tensor, rows: slice = ALL) -> Value:
        target, weights = self.target.features[:, :, rows], _rows(self.target.weights, rows)
        return Value(F.squared_error(features, target, weights))

    def add_gradient(self, gradient: Tensor, features: Tensor, cotangent: Any, rows: slice = ALL) -> None:
        target, weights = self.target.features[:, :, rows], _rows(self.target.weights, rows)
        F.add_squared_error_gradient(gradient, features, target, cotangent.value, weights)

    def value(self, statistics: Value) -> Tensor:
        return content_distance(statistics.value, self.energy, self.normalization)


class CosineLoss(LayerLoss):
    """One minus the cosine of activations and their targets, in [0, 2], the mean over positions.

    Attributes:
        every: Rows, and columns, of positions from one that is compared to the next.
        target: Directions of the target's feature vectors, (1, C, h, w), at the compared positions, in its precision.
        weights: Weights of the compared positions, (1, 1, h, w); None for 1 everywhere.
        total: The number of visible positions among them, a scalar, over which the mean is taken.
    """

    every: int
    target: Tensor
    weights: Tensor | None
    total: Tensor

    def set_target(
        self,
        target: Tensor,
        weights: Tensor | None = None,
        visible: Tensor | None = None,
        total: Total = lambda value: value,
        every: int = 1,
    ) -> None:
        """Sets the target.

        Args:
            target: Activations, (1, C, h, w).
            weights: Weights of the positions, (1, 1, h, w); None for 1 everywhere.
            visible: Weights of the positions in their number, (1, 1, h, w); None for 1 everywhere.
            total: Sums over the processes that share the positions.
            every: Rows, and columns, of positions from one that is compared to the next.
        """
        self.every = every
        directions = unit(self._compared(target))[0]
        self.target = directions.to(target.dtype).contiguous(memory_format=torch.channels_last)
        self.weights = None if weights is None else self._compared(weights).contiguous()
        count = directions.new_full((), directions[:, 0].numel())
        self.total = total(count if visible is None else self._compared(visible).sum())

    def statistics(self, features: Tensor, rows: slice = ALL) -> Value:
        features, (target, weights), sums = self._compared(features, rows), self._at(rows), []
        for part in F.parts_of(features):
            x = features[:, :, part]
            distance = 1 - _dot(x, target[:, :, part]) / _length(x)
            sums.append((distance if weights is None else distance * weights[:, :, part]).sum())
        return Value(torch.stack(sums).sum() if sums else features.new_zeros((), dtype=self.total.dtype))

    def add_gradient(self, gradient: Tensor, features: Tensor, cotangent: Any, rows: slice = ALL) -> None:
        gradient, features = (self._compared(x, rows) for x in (gradient, features))
        target, weights = self._at(rows)
        for part in F.parts_of(features):
            x, wanted = features[:, :, part], target[:, :, part].to(features.dtype)
            length = _length(x)
            factor = cotangent.value / length if weights is None else cotangent.value * weights[:, :, part] / length
            along = _dot(x, wanted) / length.square() * factor
            gradient[:, :, part].addcmul_(x, along.to(x.dtype)).addcmul_(wanted, factor.to(x.dtype), value=-1)

    def value(self, statistics: Value) -> Tensor:
        return statistics.value / self.total.clamp(min=1e-12)

    def _compared(self, x: Tensor, rows: slice = ALL) -> Tensor:
        """Returns the compared positions of a band, a view."""
        return x[:, :, -(rows.start or 0) % self.every :: self.every, :: self.every]

    def _at(self, rows: slice) -> tuple[Tensor, Tensor | None]:
        """Returns the target and the weights of the compared positions of a band."""
        ends = (None if end is None else -(-end // self.every) for end in (rows.start, rows.stop))
        within = slice(*ends)
        return self.target[:, :, within], _rows(self.weights, within)


def content_distance(error: Tensor, energy: Tensor, normalization: Normalization = "relative") -> Tensor:
    """Turns a summed squared error into the content loss.

    Args:
        error: Sum over all values of (F - P)², a scalar, with the activations F of the picture and P of the photograph.
        energy: Sum over all values of P², a scalar.
        normalization: `relative`: error / energy. `gatys`: error / 2 (arXiv:1508.06576, equation 1).

    Returns:
        The distance, a scalar.
    """
    if normalization == "gatys":
        return error / 2
    if normalization != "relative":
        raise ValueError(f"Expected the normalization to be relative or gatys, but got {normalization}")
    return error / energy


def _rows(weights: Tensor | None, rows: slice) -> Tensor | None:
    return None if weights is None else weights[:, :, rows]


def unit(features: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the directions of feature vectors, (N, C, h, w), float32 at least, and their lengths, (N, 1, h, w)."""
    wide = features.to(torch.promote_types(features.dtype, torch.float32))
    length = _length(wide)
    return wide / length, length


def _length(features: Tensor) -> Tensor:
    if _in_one_pass(features):
        length: Tensor = torch.linalg.vector_norm(features, dim=1, keepdim=True)
        return (length.square() + EPSILON).sqrt()
    return (_dot(features, features) + EPSILON).sqrt()


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Returns the products of feature vectors at each position, (N, 1, h, w), summed in float32 at least."""
    if _in_one_pass(a) and _in_one_pass(b):
        return torch.einsum("nchw,nchw->nhw", a, b)[:, None]
    return (a * b).sum(1, keepdim=True, dtype=torch.promote_types(a.dtype, torch.float32))


def _in_one_pass(features: Tensor) -> bool:
    """Whether a CPU adds products of channels as it makes them: in float32 at least, with channels last in memory."""
    return features.device.type == "cpu" and features.dtype.itemsize >= 4 and features.stride(1) == 1
