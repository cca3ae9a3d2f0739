"""Settings of styles and regions, and which region takes which style."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from nst.errors import InputError, nearest
from nst.types import InputPath

REST = ""
"""Name of the area outside of all regions."""


@dataclass
class Style:
    """A painting, and the layers and the region that it is for.

    Args:
        image: The painting: a file, or a sample such as `sample:glass`.
        weight: Share of the painting among the styles of a place; the shares are scaled to sum to 1.
        scale: Ratio of the painting's longer side to the result's; by default `data.style_scale`.
        layers: The style layers that the painting is for; by default all.
        mask: Mask of the part of the painting to look at, in the form of a region's mask.
        region: The region that the painting is for; by default every region without a style of its own, and the area
            outside of all regions.
    """

    image: Literal["sample"] | InputPath
    weight: float = 1.0
    scale: float | None = None
    layers: list[str] | None = None
    mask: InputPath | None = None
    region: str | None = None


@dataclass
class Region:
    """A part of the photograph.

    Args:
        mask: A picture of the photograph's aspect: white inside the region, gray where a pixel lies partly inside.
        color: The region's colour in a mask of several colours, such as `red` or `#ff0000`; black is the rest, unless
            black is the colour of a region.
        content_weight: Factor on the photograph's weight inside the region.
        subject: How much of a subject the region shows, in [0, 1]: with 0 it is the painting's to fill, as a sky, and
            with 1 the correspondence has its whole weight. By default the photograph's edges decide for each pixel.
        keep: Whether the result shows the photograph unchanged inside the region.
        erode: Whether the style is compared only where the network sees nothing but this region, so that the region's
            border takes nothing from the neighbours; a layer without such positions is compared in the whole region.
    """

    mask: InputPath
    color: str | None = None
    content_weight: float = 1.0
    subject: float | None = None
    keep: bool = False
    erode: bool = False


def check_styles(styles: Sequence[Style], regions: Mapping[str, Region]) -> None:
    """Raises an InputError unless every style can be placed and every region has a style."""
    if not styles:
        raise InputError("Expected --data.style to name a painting, but got an empty list")
    for i, style in enumerate(styles):
        key = f"data.style[{i}]"
        if not 0 <= style.weight < math.inf:
            raise InputError(f"Expected a finite weight of 0 or more, but got {style.weight}; change --{key}.weight")
        if style.scale is not None and not 0 < style.scale < math.inf:
            raise InputError(f"Expected a scale above 0, but got {style.scale}; change --{key}.scale")
        if style.region is not None and style.region not in regions:
            raise InputError(
                f"Expected --{key}.region to be one of --data.regions, but got {style.region or 'an empty name'}"
                f"{nearest(style.region, regions)}"
            )
        if style.layers is not None and not style.layers:
            raise InputError(f"Expected --{key}.layers to name a layer, but got an empty list; leave it out for all")
    if not any(style.weight > 0 for style in styles):
        raise InputError("Expected a style with a weight above 0, but all weights are 0; change --data.style_weights")
    for name, region in regions.items():
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise InputError(
                f"Expected regions of --data.regions to have names that can be printed, but got {name!r}; rename it"
            )
        if not 0 <= region.content_weight < math.inf:
            raise InputError(
                f"Expected a finite weight of 0 or more, but got {region.content_weight}; "
                f"change --data.regions.{name}.content_weight"
            )
        if region.subject is not None and not 0 <= region.subject <= 1:
            raise InputError(
                f"Expected how much of a subject a region shows to be in [0, 1], but got {region.subject}; "
                f"change --data.regions.{name}.subject"
            )
        if not region.keep and not placed(styles, name):
            raise InputError(
                f"Expected every region to have a style, but {name} has none; give --data.style an entry with "
                f"region: {name}, one for all regions, or set --data.regions.{name}.keep"
            )


def placed(styles: Sequence[Style], region: str) -> list[int]:
    """Returns the indices of the styles that a region takes: its own styles, or else the styles for all regions."""
    weighted = [i for i, style in enumerate(styles) if style.weight > 0]
    own = [i for i in weighted if styles[i].region == region]
    return own or [i for i in weighted if styles[i].region is None]
