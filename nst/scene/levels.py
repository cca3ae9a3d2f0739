"""The levels of the pyramid: all tensors that the optimisation needs at one size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

Start = Literal["content", "noise", "gray", "style"]
"""Start pictures that are not read from a file."""

OVERHEAD = 100**2
"""Pixels that take as much time as the part of a step that does not depend on the size."""


@dataclass(frozen=True, eq=False)
class Painting:
    """A style at one size.

    Attributes:
        picture: The style image, (1, 3, h, w), in [0, 1].
        weight: The painting's share in its place; the shares of a place sum to 1.
        layers: Names of the layers whose style loss uses the painting; None for all.
        guide: Weights of the painting's pixels, (1, 1, h, w); None for 1 everywhere.
    """

    picture: Tensor
    weight: float = 1.0
    layers: frozenset[str] | None = None
    guide: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Place:
    """A part of the result, and the paintings whose style it takes.

    Attributes:
        paintings: The paintings, at least one.
        name: The region's name; empty for the whole picture, or for the area outside of all regions.
        guide: Weights of the result's pixels, (1, 1, H, W); None for 1 everywhere.
        share: The guide's sum over the sum of the Level's `visible`, so that a pixel of a small place is drawn to its
            style as strongly as a pixel of a large place.
        erode: Whether positions whose receptive field crosses the place's border are left out.
    """

    paintings: tuple[Painting, ...]
    name: str = ""
    guide: Tensor | None = None
    share: float = 1.0
    erode: bool = False


@dataclass(frozen=True, eq=False)
class Level:
    """One size of the optimisation.

    Attributes:
        index: Position in the order of levels, from 0.
        steps: Maximum of optimiser steps at this size.
        content: The photograph at the result's size, (1, 3, H, W), in [0, 1].
        places: The parts of the result, with their paintings.
        init: The start picture, (1, 3, H, W); None if `data.init` is not a file.
        seconds: The level's share of the time budget; None without a budget.
        min_improvement: See PictureData.
        visible: Opacity of the painted pixels, (1, 1, H, W): 0 where the photograph is transparent or kept; None for 1.
        emphasis: Content weights, factors on `visible` in the content loss, (1, 1, H, W); None for 1.
        subject: How much of a subject regions say that pixels show, and the share of each pixel that regions say it of,
            (1, 2, H, W) in [0, 1]; None where none says so (see `scene.subject`).
        keep_mask: Share of the photograph that each pixel keeps, (1, 1, H, W) in [0, 1]; None for 0.
        coarse: The smaller level with which the scaled-down picture is compared; None for no such level.
    """

    index: int
    steps: int
    content: Tensor
    places: tuple[Place, ...]
    init: Tensor | None = None
    seconds: float | None = None
    min_improvement: float = 0.0
    visible: Tensor | None = None
    emphasis: Tensor | None = None
    subject: Tensor | None = None
    keep_mask: Tensor | None = None
    coarse: Level | None = None

    @property
    def height(self) -> int:
        return self.content.shape[2]

    @property
    def width(self) -> int:
        return self.content.shape[3]

    @property
    def cost(self) -> int:
        """Time of a step, as a number of pixels that take as long."""
        return self.height * self.width + OVERHEAD + (self.coarse.cost if self.coarse else 0)

    @property
    def weight_maps(self) -> int:
        """Memory of the pixel weights and of the layer weights made from them, as a number of pictures.

        Each map of weights counts 1; `keep_mask` counts 3, with the photograph and the blend of photograph and picture.
        """
        guides = sum(place.guide is not None for place in self.places)
        return (
            guides
            + sum(x is not None for x in (self.visible, self.emphasis, self.subject))
            + 3 * (self.keep_mask is not None)
        )

    @property
    def paintings(self) -> list[Painting]:
        """All paintings, place by place."""
        return [painting for place in self.places for painting in place.paintings]

    @property
    def style(self) -> Tensor:
        """The first painting, (1, 3, h, w)."""
        return self.paintings[0].picture


class LevelLoader:
    """A data loader that yields one level once for each step, and resumes at the position in a checkpoint."""

    def __init__(self, level: Level) -> None:
        self.level = level
        self.position = 0
        self._start = 0

    def __len__(self) -> int:
        return self.level.steps

    def __iter__(self) -> Iterator[Level]:
        start, self._start = self._start, 0
        for position in range(start, self.level.steps):
            self.position = position + 1
            yield self.level

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._start = state["position"]
