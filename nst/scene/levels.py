"""What the optimisation looks at, at one size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

Start = Literal["content", "noise", "gray", "style"]
"""Pictures to start from that are no files."""


@dataclass(frozen=True, eq=False)
class Painting:
    """A style at one size.

    Attributes:
        picture: (1, 3, h, w), in [0, 1].
        weight: Its share among those of its place, which sum to 1.
        layers: Names of the layers that it is for; None for all.
        guide: Weights of its pixels, (1, 1, h, w); None for 1 everywhere.
    """

    picture: Tensor
    weight: float = 1.0
    layers: frozenset[str] | None = None
    guide: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Place:
    """A part of the result, and the paintings whose style it takes.

    Attributes:
        paintings: One at least.
        name: The region's; empty for the whole picture, or what lies outside of all regions.
        guide: Weights of the pixels, (1, 1, H, W); None for 1 everywhere.
        share: The sum of the weights over that of all pixels that are made, so that a pixel of a small place is drawn
            as strongly to its style as one of a large place.
        erode: Whether pixels near the border are left out where the network sees beyond it.
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
        steps: Optimiser steps to take at this size, at the most.
        content: The photograph at the result's size, (1, 3, H, W), in [0, 1].
        places: What takes which style.
        init: The picture to start from, (1, 3, H, W), where a file was given.
        seconds: The level's share of the time budget, where there is one.
        min_improvement: See PictureData.
        visible: Opacity of what is made, (1, 1, H, W): 0 where the photograph is transparent or kept; None for 1.
        emphasis: Weights of the photograph's pixels beyond that, (1, 1, H, W); None for 1.
        keep_mask: How much of the photograph stays as it is, (1, 1, H, W) in [0, 1]; None for nothing.
        coarse: The smaller level that the picture is to look like when it is scaled down; None for none.
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
    keep_mask: Tensor | None = None
    coarse: Level | None = None

    @property
    def height(self) -> int:
        return self.content.shape[2]

    @property
    def width(self) -> int:
        return self.content.shape[3]

    @property
    def weight_maps(self) -> int:
        """How many pictures' worth of memory the weights of pixels take, with what is made of them for the layers.

        One for each map of weights; what is kept of the photograph comes with the photograph and the blend of both.
        """
        guides = sum(place.guide is not None for place in self.places)
        return guides + sum(x is not None for x in (self.visible, self.emphasis)) + 3 * (self.keep_mask is not None)

    @property
    def paintings(self) -> list[Painting]:
        """All paintings, place by place."""
        return [painting for place in self.places for painting in place.paintings]

    @property
    def style(self) -> Tensor:
        """The first painting, (1, 3, h, w)."""
        return self.paintings[0].picture


class LevelLoader:
    """A data loader whose batches are one level, once for each step; it resumes where a checkpoint left it."""

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
